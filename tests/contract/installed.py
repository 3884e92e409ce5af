"""The vLLMs on this machine: in this environment, and in the folders that `make matrix` puts beside it."""

import re
import sysconfig
from pathlib import Path

ENVIRONMENT = Path(sysconfig.get_paths()["purelib"])


def folders() -> dict[str, Path]:
    """The folder of each vLLM by its minor version, oldest first. Nothing in it is imported."""
    beside = {path.name.removeprefix("vllm-"): path for path in Path(".venv").glob("vllm-*") if path.is_dir()}
    here = ENVIRONMENT / "vllm" / "_version.py"
    if here.is_file() and (version := re.search(r"^__version__ = .*?['\"]([\d.]+)", here.read_text(), re.MULTILINE)):
        beside[minor_of(version[1])] = ENVIRONMENT
    return {minor: beside[minor] for minor in sorted(beside, key=lambda m: tuple(map(int, m.split("."))))}


def minor_of(version: str) -> str:
    return ".".join(version.split(".")[:2])
