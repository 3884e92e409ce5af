"""`kvlease top`: its arguments, and the frame around the view."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from kvlease.admin.settings import TOKEN_VARIABLE
from kvlease.console.arguments import engine_url, real
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described

if TYPE_CHECKING:
    from kvlease.top.picture import Picture

PARTS = ("textual", "httpx", "prometheus_client")
INSTALL = "pip install 'kvlease[observe]'"
DEFAULT_INTERVAL_S = 2.0
DEFAULT_LIMIT_S = 5.0

_DESCRIPTION = """\
Shows the leases of any number of engines: what each holds, for whom, since when, and for how long.

Each URL is of vLLM's API server or of kvlease's own listener (kv_lease_listen). Their /metrics page is enough for the
table of engines; leases and sessions are shown where the routes under /v1/kvlease are served."""

_EXITS = described(
    "every engine answered (with --once), or it was left with q",
    "an engine did not answer (with --once)",
    "a package is not installed, or standard output is no terminal",
)


def add_top(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    top = Command(
        "top",
        _top,
        "what engines hold, live",
        _DESCRIPTION,
        _EXITS,
        (
            "kvlease top prefill-0:8000 decode-0:8000",
            "kvlease top --once http://prefill-0:8000",
            "kvlease top --once --json prefill-0:8000 | jq '.engines[].held_bytes'",
        ),
        parts=PARTS,
        install=INSTALL,
        check=_check,
    ).add_to(commands)
    top.add_argument(
        "url", nargs="+", type=engine_url, metavar="URL", help="of an engine, such as http://prefill-0:8000"
    )
    top.add_argument("--once", action="store_true", help="print one look as text, and end")
    top.add_argument("--json", action="store_true", help="with --once: as JSON")
    top.add_argument(
        "--interval",
        type=real(0.2, 3600.0, "seconds", 2.0),
        default=DEFAULT_INTERVAL_S,
        metavar="S",
        help="seconds between two looks (%(default)g)",
    )
    top.add_argument(
        "--timeout",
        type=real(0.1, 600.0, "seconds", 5.0),
        default=DEFAULT_LIMIT_S,
        metavar="S",
        help="seconds after which an engine does not answer (%(default)g)",
    )
    top.add_argument(
        "--api-key", metavar="KEY", help=f"sent to every URL as a bearer token (the variable {TOKEN_VARIABLE})"
    )


def _check(chosen: argparse.Namespace) -> None:
    if chosen.json and not chosen.once:
        raise BadArguments("--json goes with --once: `kvlease top --once --json URL`")


def _top(chosen: argparse.Namespace) -> Exit:
    urls = list(dict.fromkeys(chosen.url))
    # From the environment, it is in no command line.
    key = chosen.api_key or os.environ.get(TOKEN_VARIABLE)
    if chosen.once:
        return _once(urls, key, chosen.timeout, chosen.json)
    # Textual draws on standard error.
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        print("this is no terminal: `kvlease top --once` prints one table, `kvlease top --once --json` is for scripts")
        return Exit.NOT_DONE
    return _live(urls, key, chosen)


def _once(urls: list[str], key: str | None, timeout_s: float, as_json: bool) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.top.once import look

    picture = look(urls, key, timeout_s)
    _print(picture, as_json)
    return Exit.OK if picture.all_answer else Exit.FOUND


def _print(picture: "Picture", as_json: bool) -> None:
    if as_json:
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(picture.document()), indent=2)
        sys.stdout.write(text.decode() + "\n")
        return
    from kvlease.console.progress import open_console, show
    from kvlease.top.once import tables

    console = open_console()
    show(console, *tables(picture, console.width))


def _live(urls: list[str], key: str | None, chosen: argparse.Namespace) -> Exit:
    import asyncio

    from kvlease.admin.client import AdminClient, open_http
    from kvlease.top.app import Top
    from kvlease.top.watching import Watched

    async def shown() -> None:
        async with open_http(key, chosen.timeout) as http:
            await Top([Watched(AdminClient(url, http)) for url in urls], chosen.interval).run_async()

    asyncio.run(shown())
    return Exit.OK
