"""The routers that are measured, each on the same core: ours, those beside it, and none."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from proof.realengines.routers import RouterKind, RouterSpec, StartedRouter

DIRECT = "no router"
"""The client asks P, and then D with what P said."""


def start_router(
    kind: RouterKind,
    prefill: Sequence[str],
    decode: Sequence[str],
    core: int,
    logs: Path,
    stack: ExitStack,
    ours: Sequence[str] = (),
) -> StartedRouter:
    """Starts a router in front of engines; the stack ends it. `ours`: options for `kvlease router` alone."""
    options = ours if kind == "kvlease" else ()
    spec = RouterSpec(kind=kind, prefill=prefill, decode=decode, options=options, cores=(core,))
    return stack.enter_context(StartedRouter(spec, logs))
