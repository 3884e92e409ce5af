"""The plan as a shell script: the commands that `kvlease up` would execute, for a terminal or a batch job."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from kvlease.up.plan import Deployment, Launch

_HEAD = """\
#!/bin/sh
# The processes that `kvlease up` would start, without its restarts. Ctrl-C ends all of them.
scratch=$(mktemp -d) || exit 1
pids=
end() {
    trap '' INT TERM HUP
    kill $pids 2>/dev/null
    wait
    rm -rf "$scratch"
    exit
}
trap end INT TERM HUP"""
_TAIL = """
wait
end"""


def as_script(decided: Deployment, logs: Path) -> str:
    """Returns the script. The logs go into the files of the directory `logs`."""
    lines = [_HEAD, f"mkdir -p {shlex.quote(str(logs))}"]
    for launch in decided.launches:
        lines += ["", *_block(launch, decided.scratch, logs)]
    return "\n".join([*lines, _TAIL, ""])


def _block(launch: Launch, scratch: Path, logs: Path) -> Iterator[str]:
    yield f"# {launch.name}: {launch.url}"
    if launch.role != "router":
        yield f'mkdir -p "$scratch/{launch.name}"'
    words = [f"{name}={_quoted(value, scratch)}" for name, value in launch.environment.items()]
    pinned = ["taskset", "--cpu-list", ",".join(map(str, launch.cores))] if launch.cores else []
    command = shlex.join([*pinned, *launch.command])
    log = shlex.quote(str(logs / f"{launch.name}.log"))
    yield " \\\n    ".join([*(["env", *words] if words else []), f"{command} >{log} 2>&1 &"])
    yield 'pids="$pids $!"'


def _quoted(value: str, scratch: Path) -> str:
    """A value for the shell; what lies in the scratch directory is in the script's own one."""
    beginning = f"{scratch}/"
    if value.startswith(beginning):
        return f'"$scratch/{value.removeprefix(beginning)}"'
    return shlex.quote(value)
