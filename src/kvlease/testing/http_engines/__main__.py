"""`python -m kvlease.testing.http_engines --role decode --port 8200`: a fake engine as a process of its own."""

import argparse
import asyncio
import contextlib
import gc
import os

import msgspec

from kvlease.testing.http_engines.behaviour import Behaviour
from kvlease.testing.http_engines.engine import FakeEngine


async def _die() -> None:
    os._exit(1)


async def _serve(chosen: argparse.Namespace) -> None:
    engine = FakeEngine(
        chosen.role,
        name=chosen.name,
        leased=not chosen.stock,
        term_s=chosen.term_s,
        grace_s=chosen.grace_s,
        token_s=chosen.token_s,
        prefill_s=chosen.prefill_s,
        dies=_die,
    )
    engine.behaviour = msgspec.json.decode(chosen.behaviour, type=Behaviour)
    print(await engine.open(chosen.host, chosen.port), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serves until it is killed. Its first line says where."""
    parser = argparse.ArgumentParser(prog="python -m kvlease.testing.http_engines", description=__doc__)
    parser.add_argument("--role", choices=("prefill", "decode"), required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="a free one, if none is given")
    parser.add_argument("--name", default="", help="its engine id")
    parser.add_argument("--stock", action="store_true", help="its offers are stock vLLM's, without a lease")
    parser.add_argument("--term-s", type=float, default=30.0, help="how long a lease lasts (30)")
    parser.add_argument("--grace-s", type=float, default=1.0, help="how long what was returned waits for others (1)")
    parser.add_argument("--token-s", type=float, default=0.0, help="the time that a token takes (0)")
    parser.add_argument("--prefill-s", type=float, default=0.0, help="the time that a prompt takes (0)")
    parser.add_argument("--behaviour", default="{}", help="what it does at first, as JSON, as POST /behaviour takes it")
    chosen = parser.parse_args()
    gc.freeze()
    with contextlib.suppress(ImportError, KeyboardInterrupt):
        import uvloop

        uvloop.install()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(chosen))


if __name__ == "__main__":
    main()
