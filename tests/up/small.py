"""A deployment of processes that only answer /health; `python -m tests.up.small SCRATCH LOGS` runs it.

Each of them has a child of its own and a segment of shared memory, as engines have, which a SIGKILL would leave.
"""

import asyncio
import os
import sys
from pathlib import Path

from kvlease.console.progress import open_console
from kvlease.up.plan import Deployment, Launch
from kvlease.up.ports import free_port
from kvlease.up.running import RunSettings, UpRun
from kvlease.up.schedule import BackOff
from kvlease.up.view import UpView

SERVER = """
import http.server, mmap, os, sys, time
port, segment = int(sys.argv[1]), sys.argv[2]
with open(f"{segment}-{os.getpid()}", "w+b") as file:
    file.truncate(4096)
    mapped = mmap.mmap(file.fileno(), 4096)
if os.fork() == 0:
    time.sleep(600)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
open(os.path.join(os.environ["TMPDIR"], "socket"), "w").close()
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""
HOST = "127.0.0.1"


def segment(name: str, port: int) -> str:
    """The beginning of the names of a launch's shared memory; each process of it has its own."""
    return f"/dev/shm/psm_kvlease-test-{name}-{port}"


def segments(beginning: str) -> list[Path]:
    """The shared memory that is there."""
    path = Path(beginning)
    return list(path.parent.glob(f"{path.name}-*"))


def launch(name: str, role: str, scratch: Path, script: str = SERVER) -> Launch:
    port = free_port(HOST)
    return Launch(
        name=name,
        role=role,  # type: ignore[arg-type]
        command=(sys.executable, "-S", "-c", script, str(port), segment(name, port)),
        environment={"TMPDIR": str(scratch / name)},
        url=f"http://{HOST}:{port}",
    )


def small(scratch: Path, script: str = SERVER) -> Deployment:
    """One process of each role; `script` is the decode engine's."""
    launches = (
        launch("prefill-0", "prefill", scratch),
        launch("decode-0", "decode", scratch, script),
        launch("router", "router", scratch),
    )
    return Deployment(launches=launches, model="none", model_directory=None, scratch=scratch, starts_at_once=2)


def run_of(decided: Deployment, logs: Path, *, quiet: bool = False) -> UpRun:
    """A run that loses no time."""
    settings = RunSettings(logs=logs, drain_s=60.0, end_s=60.0, back_off=BackOff(first_s=0.01))
    return UpRun(decided, settings, UpView(open_console(), quiet=quiet), os.environ)


async def main(scratch: Path, logs: Path) -> int:
    decided = small(scratch)
    for each in decided.launches:
        print(f"{each.name} {each.command[-1]}", flush=True)
    return int(await run_of(decided, logs).run())


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]))))
