"""A command in a process of its own that has nothing installed but kvlease and msgspec."""

import subprocess
import sys

ALONE = """
import sys
names = "httpx psutil rich textual matplotlib jinja2 zmq torch vllm nixl numpy prometheus_client"
for name in f"{names} aiohttp starlette uvicorn uvloop httptools yaml".split():
    sys.modules[name] = None
"""


def refused_bare(script: str) -> str:
    """Runs a script whose `main` lacks a package, and returns what it says of it."""
    done = subprocess.run([sys.executable, "-c", ALONE + script], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    return done.stdout
