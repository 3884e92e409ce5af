"""vLLM's own clients through the router: `vllm bench serve`, and its tests of its toy proxy."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kvlease.testing.http_engines.toy_model import MODEL
from kvlease.up.model import build_model
from proof.realengines.routers import TOY_PROXY
from tests.clients.conftest import Served

pytestmark = [
    pytest.mark.engine,
    pytest.mark.wide,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here"),
]

REQUESTS = 40
NIXL_TESTS = TOY_PROXY.parent
_BENCH = """\
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())"""
"""`vllm bench serve`: the command itself looks for a distribution of the name vllm, which the CPU's build is not."""
THERE = pytest.mark.skipif(not NIXL_TESTS.is_dir(), reason=f"there is no {NIXL_TESTS}: `make routers` fetches it")


@pytest.mark.parametrize(
    ("backend", "endpoint"), [("openai", "/v1/completions"), ("openai-chat", "/v1/chat/completions")]
)
def test_vllm_bench_serve(served: Served, tmp_path: Path, backend: str, endpoint: str) -> None:
    command = [sys.executable, "-c", _BENCH, "--backend", backend, "--endpoint", endpoint, "--base-url", served.url]
    command += ["--model", MODEL, "--tokenizer", str(build_model("llama")), "--dataset-name", "random"]
    command += ["--random-input-len", "64", "--random-output-len", "16", "--num-prompts", str(REQUESTS)]
    command += ["--max-concurrency", "8", "--save-result", "--result-dir", str(tmp_path), "--result-filename", "r.json"]
    command += ["--disable-tqdm", "--ignore-eos"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["completed"] == REQUESTS
    assert found["failed"] == 0
    assert found["total_output_tokens"] == 16 * REQUESTS
    assert served.leases("out") == 0


@THERE
def test_vllms_test_of_edge_cases(served: Served) -> None:
    ports = {"PREFILL_PORT": served.p.url, "DECODE_PORT": served.d1.url, "PROXY_PORT": served.url}
    variables = {name: url.rsplit(":", 1)[1] for name, url in ports.items()}
    before = served.leases("read")
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "--rootdir"]
    command += [str(NIXL_TESTS), "--noconftest", str(NIXL_TESTS / "test_edge_cases.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=_environment() | variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert served.leases("read") > before, "nothing went through P and D"


@THERE
def test_vllms_test_of_accuracy(served: Served, tmp_path: Path) -> None:
    """It asks one engine first, writes its answers down, and compares those of the router with them."""
    outputs = tmp_path / "outputs.txt"
    for mode, url in (("baseline", served.d1.url), ("disagg", served.url)):
        command = [sys.executable, str(NIXL_TESTS / "test_disagg_accuracy.py"), "--service_url", url]
        command += ["--model_name", MODEL, "--mode", mode, "--file_name", str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=_environment(), cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def _environment() -> dict[str, str]:
    """No hub is asked, and no platform guessed."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_TARGET_DEVICE": "cpu", "KVLEASE_REPLACES_NIXL": "0"}
