"""What the figures were taken on: enough to judge them, nothing that names the machine."""

import os
import platform
import re
import subprocess
from pathlib import Path

from kvlease.demo.report import versions

ROOT = Path(__file__).resolve().parent.parent
_GIB = 1 << 30


def describe() -> dict[str, str]:
    """Processor, memory, system, versions; every value as it is shown."""
    return {
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.0f} GiB",
        "gpu": gpu(),
        "kernel": f"{platform.system()} {platform.release()}",
        **versions(),
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux has it, or the architecture where Linux has none."""
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()


def gpu(driver: Path = Path("/proc/driver/nvidia/gpus")) -> str:
    """The first GPU's name as NVIDIA's driver has it; "none" where there is no such driver."""
    for information in sorted(driver.glob("*/information")):
        if match := re.search(r"^Model:\s*(.+?)\s*$", information.read_text(), re.MULTILINE):
            return match[1]
    return "none"


def commit() -> str:
    """What was measured: the commit, with "+" when src or benchmarks differ from it; "unknown" outside of git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "src", "benchmarks")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
