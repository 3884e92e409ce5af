"""Our router, made to send stock's references to a second D as if they had a lease: what an unfenced retry does.

No option of the router does this. It runs as `kvlease router`, with the same command line; what is changed is what it
believes of references and of engines.
"""

import sys
from dataclasses import replace

from kvlease.cli.main import main
from kvlease.router.actions import KvReference
from kvlease.router.engines import EngineReport, KnownEngine


def believe_all_is_leased() -> None:
    """Lets this process's router take every reference for a leased one, and every engine for one with kvlease."""
    KvReference.leased = property(lambda _: True)  # type: ignore[method-assign, assignment]
    hear = KnownEngine.report

    def trust(engine: KnownEngine, now: float, report: EngineReport) -> bool:
        return hear(engine, now, replace(report, leased=True))

    KnownEngine.report = trust  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    believe_all_is_leased()
    sys.exit(main(["router", *sys.argv[1:]]))
