"""The machine that the figures were taken on: enough to judge them, nothing that names it."""

import os
import platform
import re
from pathlib import Path

import psutil

from kvlease.console.origin import ENGINE, versions

_GIB = 1 << 30


def describe() -> dict[str, str]:
    """The processor, memory, system and versions, every value as it is shown."""
    return {
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / _GIB:.0f} GiB",
        "gpu": gpu(),
        "kernel": f"{platform.system()} {platform.release()}",
        **versions(ENGINE),
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux has it, or the architecture where Linux has none."""
    # psutil tells of cores and frequencies, and names no processor.
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()


def gpu(driver: Path = Path("/proc/driver/nvidia/gpus")) -> str:
    """The first GPU's name as NVIDIA's driver has it; "none" where there is no such driver."""
    # psutil knows of no GPUs.
    for information in sorted(driver.glob("*/information")):
        if match := re.search(r"^Model:\s*(.+?)\s*$", information.read_text(), re.MULTILINE):
            return match[1]
    return "none"
