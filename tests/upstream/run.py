"""`python -m tests.upstream.run MINOR [--stock] [pytest's arguments]` runs vLLM's tests, kvlease in stock's place.

The vLLM of that minor is the one that PYTHONPATH finds. Exit status 0: every test that `cannot.toml`
lists fails, and all others pass.
"""

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from kvlease.up.ports import free_port
from tests.upstream.fetch import fetch_tests
from tests.upstream.hub import make_hub

HERE = Path(__file__).parent.resolve()
HOME = Path(".venv/upstream").resolve()
TOOLS = HOME / "tools"
"""The folder of requirements/upstream.txt, apart from the environment that kvlease's own tests run in."""
OPTIONS = ("-q", "-rfE", "--tb=short", "--timeout=120", "-p", "no:cacheprovider", "-W", "ignore")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream.run", description=__doc__)
    parser.add_argument("minor", help="such as 0.32")
    parser.add_argument(
        "--stock", action="store_true", help="vLLM's connector stays where it is: what passes here at all"
    )
    chosen, further = parser.parse_known_args()
    folder = HOME / chosen.minor
    fetch_tests(chosen.minor, folder, TOOLS)
    make_hub(HOME / "hub")
    plugins = ["-p", "listed"] + ([] if chosen.stock else ["-p", "in_place"])
    # kvlease's settings of pytest are left out: vLLM's tests have their own.
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", ".", *plugins, *OPTIONS, *_files(folder)]
    command += further
    return subprocess.run(command, cwd=folder, env=_environment(stock=chosen.stock)).returncode


def _files(folder: Path) -> list[str]:
    patterns = tomllib.loads((HERE / "cannot.toml").read_text())["files"]
    return sorted({str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern)})


def _environment(*, stock: bool) -> dict[str, str]:
    path = [".", str(HERE), *filter(None, [os.environ.get("PYTHONPATH")]), str(TOOLS)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "HF_HOME": str(HOME / "hub"),
        "HF_HUB_OFFLINE": "1",
        # Two runs on one machine must not use the same port.
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(free_port("localhost")),
        # 0.33 is only its Python here, over 0.32's kernels for the CPU: it has to be told its device.
        "VLLM_TARGET_DEVICE": "cpu",
        # In GiB: some tests start engines, which would ask for half of the machine's memory.
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "KVLEASE_REPLACES_NIXL": "0" if stock else "1",
    }
    # Some tests register plugins of their own.
    environment.pop("VLLM_PLUGINS", None)
    return environment


if __name__ == "__main__":
    sys.exit(main())
