"""Requests of any kind to an engine's admin routes, drawn from their own description by Schemathesis."""

import secrets
import subprocess
import sys
from pathlib import Path

from kvlease.admin.routes import PREFIX
from kvlease.up.ports import free_port
from proof import ROOT
from proof.hostile.operated import HOST, operated

PLACE = ROOT / "out" / "fuzz-admin"
TOOL = Path(sys.executable).with_name("schemathesis")


def fuzz_admin(minutes: float, seed: int, tool: Path = TOOL) -> int:
    """Asks for so long; returns Schemathesis's exit status: 0 where every answer is as described."""
    port, token = free_port(HOST), secrets.token_hex()
    with operated(port, token, seed):
        command = [
            str(tool),
            "fuzz",
            f"http://{HOST}:{port}{PREFIX}/openapi.json",
            *("--header", f"Authorization: Bearer {token}"),
            *("--checks", "all"),
            *("--max-time", str(max(1, round(minutes * 60)))),
            *("--request-timeout", "30", "--continue-on-failure", "--max-failures", "20", "--workers", "2"),
            *(("--seed", str(seed)) if seed else ()),
        ]
        # What it remembers of earlier runs stays where other output is.
        PLACE.mkdir(parents=True, exist_ok=True)
        return subprocess.run(command, cwd=PLACE, check=False).returncode
