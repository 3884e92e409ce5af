"""The engines that are there: by flags, a file that is watched, and the addresses of names, in any combination.

Each source has a list that holds until a better one comes: a file that cannot be read, and a name that cannot be looked
up, change nothing. An engine that is on no list any more finishes what runs on it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from kvlease.logs import bounded_logger
from kvlease.router.sources import BadEngines, EngineSource, ListedEngines

log = logging.getLogger(__name__)
often = bounded_logger(__name__)


class Discovery:
    """All sources together. `changed` is called with every list that differs from the one before."""

    def __init__(
        self,
        sources: list[EngineSource],
        changed: Callable[[Mapping[str, str]], None],
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`changed` gets each engine's role by its URL; `refused` the kind of a source whose list was none."""
        self._sources = sources
        self._lists: dict[int, ListedEngines] = {}
        self._changed = changed
        self._refused = refused
        self._roles: Mapping[str, str] = {}

    async def first(self) -> None:
        """Looks at every source once. Raises `BadEngines` for a file that cannot be used: nobody has seen it work yet.

        A name that cannot be looked up is no reason not to start: its pods may come later.
        """
        for number, source in enumerate(self._sources):
            try:
                self._take(number, await source.look())
            except BadEngines as error:
                if source.kind == "file":
                    raise
                self._refuse(source, error)
        self._tell()

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number, source in enumerate(self._sources):
                if source.interval_s is not None:
                    tasks.create_task(self._follow(number, source.interval_s))

    async def _follow(self, number: int, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self.again(number)

    async def again(self, number: int) -> None:
        """Looks at one source again; what cannot be used changes nothing."""
        source = self._sources[number]
        try:
            listed = await source.look()
        except BadEngines as error:
            self._refuse(source, error)
            return
        self._take(number, listed)
        self._tell()

    def _refuse(self, source: EngineSource, error: BadEngines) -> None:
        self._refused(source.kind)
        often.warning("engines stay as they are: %s", error)

    def _take(self, number: int, listed: ListedEngines | None) -> None:
        if listed is not None:
            self._lists[number] = listed

    def _tell(self) -> None:
        together = ListedEngines(
            frozenset().union(*(listed.prefill for listed in self._lists.values())),
            frozenset().union(*(listed.decode for listed in self._lists.values())),
        )
        for url in sorted(together.prefill & together.decode):
            often.warning("%s is named as prefill and as decode engine by two sources: it is used for prefill", url)
        roles = together.roles()
        if roles != self._roles:
            self._log(roles)
            self._roles = roles
            self._changed(roles)

    def _log(self, roles: Mapping[str, str]) -> None:
        for url, role in sorted(roles.items()):
            if self._roles.get(url) != role:
                log.info("%s engine %s is named", role, url)
        for url, role in sorted(self._roles.items()):
            if url not in roles:
                log.info("%s engine %s is not named any more: it finishes what runs on it", role, url)
