"""One look at all engines, as text or as JSON."""

import asyncio
import time
from collections.abc import Sequence

from kvlease.admin.client import AdminClient, open_http
from kvlease.console.tables import Cell, Table
from kvlease.top.engine_columns import ENGINES, why
from kvlease.top.headings import Heading, T, fitting
from kvlease.top.lease_columns import LEASES
from kvlease.top.picture import Picture, take
from kvlease.top.session_columns import SESSIONS
from kvlease.top.watching import Watched

OVER_TIME = ("history", "grants", "ends", "why")
"""The columns that one look cannot fill, and the one whose text stands below the table."""
MOST_LINES = 40
"""The most lines of leases and of sessions; the document has them all."""


def look(urls: Sequence[str], api_key: str | None, timeout_s: float) -> Picture:
    """Asks every URL once, all at the same time."""

    async def asked() -> Picture:
        async with open_http(api_key, timeout_s) as http:
            watched = [Watched(AdminClient(url, http)) for url in urls]
            await asyncio.gather(*(one.poll() for one in watched))
        return take(watched, time.monotonic(), time.time())

    return asyncio.run(asked())


def tables(picture: Picture, width: int) -> list[Table]:
    """Returns the tables with the columns that fit, those of leases and sessions only where there are any."""
    engines = [heading for heading in ENGINES if heading.key not in OVER_TIME]
    remarks = [f"{line.name}: {why(line)}" for line in picture.engines if why(line)]
    made = [_table("engines", engines, picture.engines, width, "\n".join(remarks))]
    if picture.leases:
        oldest = sorted(picture.leases, key=lambda line: -line.lease.age_s)[:MOST_LINES]
        title = f"leases, the oldest {len(oldest)} of {picture.leases_total:,}"
        made.append(_table(title if len(oldest) < picture.leases_total else "leases", LEASES, oldest, width))
    if picture.sessions:
        made.append(_table("sessions", SESSIONS, picture.sessions[:MOST_LINES], width))
    return made


def _table(title: str, headings: Sequence[Heading[T]], lines: Sequence[T], width: int, caption: str = "") -> Table:
    # The console's tables have their words at the left.
    headings = sorted(fitting(headings, width - len(headings), room=0), key=lambda heading: not heading.words)
    cells: list[list[str | Cell]] = [[heading.cell(line, heading.width) for heading in headings] for line in lines]
    words = sum(heading.words for heading in headings)
    return Table([heading.label for heading in headings], cells, title, caption, texts=words)
