"""The plan as systemd units: one service for each process, and a target for all of them."""

import re
from collections.abc import Iterator, Sequence

from kvlease.up.engines import SCRATCH_VARIABLES
from kvlease.up.plan import Deployment, Launch

PREFIX = "kvlease-"
TARGET = "kvlease.target"
RESTART_S = 2
MARGIN_S = 60
"""The time for which a process may go on after it was told to end, beside that for leases to be read."""
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def as_units(decided: Deployment, user: str, drain_s: int) -> dict[str, str]:
    """Returns the units' texts by the names of their files.

    `user` runs the processes; `drain_s` is how long an engine that is stopped waits for its leases to be read.
    """
    units = {unit_name(launch): _service(decided, launch, user, drain_s) for launch in decided.launches}
    return {TARGET: _target(list(units)), **units}


def unit_name(launch: Launch) -> str:
    """Returns the name of a process's unit."""
    return f"{PREFIX}{launch.name}.service"


def _target(services: Sequence[str]) -> str:
    return "\n".join(
        [
            "[Unit]",
            "Description=kvlease: prefill and decode engines, and their router",
            f"Wants={' '.join(services)}",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def _service(decided: Deployment, launch: Launch, user: str, drain_s: int) -> str:
    return "\n".join(
        [
            "[Unit]",
            f"Description=kvlease: {launch.name} at {launch.url}",
            f"PartOf={TARGET}",
            "Wants=network-online.target",
            # Units end in the reverse order: the router's requests first, while engines still serve them.
            f"After={' '.join(['network-online.target', *_others(decided, launch)])}",
            "# Restarted however often it ends.",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            *_execution(decided, launch, user, drain_s),
            "",
            "[Install]",
            f"WantedBy={TARGET}",
            "",
        ]
    )


def _others(decided: Deployment, launch: Launch) -> list[str]:
    """The units that this one starts after."""
    return [unit_name(engine) for engine in decided.engines] if launch.role == "router" else []


def _execution(decided: Deployment, launch: Launch, user: str, drain_s: int) -> Iterator[str]:
    yield f"User={user}"
    for name, value in launch.environment.items():
        # Each service has a directory for temporary files of its own.
        if name not in SCRATCH_VARIABLES:
            yield f"Environment={_quoted(f'{name}={value}')}"
    if launch.cores:
        yield f"CPUAffinity={' '.join(map(str, launch.cores))}"
    yield "PrivateTmp=yes"
    yield "LimitMEMLOCK=infinity"
    yield "LimitNOFILE=65536"
    yield f"ExecStart={_command(launch.command)}"
    if launch.role == "prefill" and launch.listener:
        yield f"ExecStop={_command(drain_command(decided, launch, drain_s))}"
    yield "Restart=always"
    yield f"RestartSec={RESTART_S}"
    yield f"TimeoutStopSec={drain_s + MARGIN_S}"
    yield "# The main process is told to end; what it leaves is killed."
    yield "KillMode=mixed"


def drain_command(decided: Deployment, launch: Launch, drain_s: int) -> list[str]:
    """Returns the command that has an engine grant no more leases, and waits for those that are out."""
    # The router's command begins with Python.
    python = decided.router.command[0]
    return [python, "-m", "kvlease.up.drain", str(launch.listener), str(drain_s)]


def _command(words: Sequence[str]) -> str:
    # In commands, systemd puts in variables.
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return escaped if _PLAIN.fullmatch(word) else f'"{escaped}"'
