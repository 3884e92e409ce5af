"""Every test can be collected after `make check` has set itself up, on a machine that never had an engine."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORT_ALL = """
import contextlib, importlib, sys
import pytest
hidden, modules = (words.split() for words in sys.argv[1:])
sys.modules.update(dict.fromkeys(hidden))
for module in modules:
    # A module that skips itself has been collected.
    with contextlib.suppress(pytest.skip.Exception):
        importlib.import_module(module)
"""


def named_in(requirements: str) -> set[str]:
    """The distributions in a file of requirements."""
    lines = (ROOT / "requirements" / requirements).read_text().splitlines()
    return {_normal(line.split("==")[0]) for line in lines if line and not line.startswith("#")}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def of_engines_alone() -> list[str]:
    """The modules that are here, and that `make engine` brings and `make check` does not."""
    brought = (named_in("engine.txt") | {"torch"}) - named_in("dev.txt")
    return [name for name, origins in packages_distributions().items() if {_normal(each) for each in origins} & brought]


def test_no_test_needs_an_engine_to_be_collected() -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("tests/**/test_*.py")]
    modules.remove(__name__)
    code = [sys.executable, "-c", IMPORT_ALL, " ".join(of_engines_alone()), " ".join(sorted(modules))]
    done = subprocess.run(code, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
