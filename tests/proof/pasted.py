"""A command that the proofs print, as whoever reads it pastes it into a shell."""

import os
import subprocess

from proof import ROOT


def pasted(command: str) -> tuple[int, str]:
    """Runs a command in the checkout, in a shell that has no environment of Python's active. Returns its status and
    what it wrote to standard output."""
    environment = os.environ | {"PATH": os.defpath}
    done = subprocess.run(command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout
