"""All sources together: what each says holds until it says something better."""

import asyncio
import logging
from collections.abc import Mapping

import pytest

from kvlease.router.discovery import Discovery
from kvlease.router.sources import BadEngines, EngineSource, ListedEngines

P0, D0, D1 = "http://p0:1", "http://d0:1", "http://d1:1"


class Told:
    """A source that says what it is told to say, look by look, and then nothing new."""

    interval_s = 1.0

    def __init__(self, *says: ListedEngines | BadEngines | None, kind: str = "dns") -> None:
        self.kind = kind
        self._says = list(says)

    async def look(self) -> ListedEngines | None:
        said = self._says.pop(0) if self._says else None
        if isinstance(said, BadEngines):
            raise said
        return said


def listed(*decode: str, prefill: tuple[str, ...] = ()) -> ListedEngines:
    return ListedEngines(frozenset(prefill), frozenset(decode))


def found(sources: list[EngineSource], looks: tuple[int, ...] = ()) -> tuple[list[Mapping[str, str]], list[str]]:
    """All lists that were told, and the kinds of what was refused, at first and after these looks."""
    told: list[Mapping[str, str]] = []
    refused: list[str] = []

    async def play() -> None:
        discovery = Discovery(sources, told.append, refused.append)
        await discovery.first()
        for number in looks:
            await discovery.again(number)

    asyncio.run(play())
    return told, refused


def test_sources_add_up() -> None:
    told, _ = found([Told(listed(D0, prefill=(P0,))), Told(listed(D0, D1))])
    assert told == [{P0: "prefill", D0: "decode", D1: "decode"}]


def test_only_what_changes_is_told() -> None:
    source = Told(listed(D0), listed(D0), None, listed(D1))
    assert found([source], (0, 0, 0))[0] == [{D0: "decode"}, {D1: "decode"}]


def test_what_cannot_be_used_keeps_what_is_known() -> None:
    failing = Told(listed(D1), BadEngines("d cannot be looked up"), listed(D0))
    told, refused = found([Told(listed(D0, prefill=(P0,))), failing], (1, 1))
    assert told == [{P0: "prefill", D0: "decode", D1: "decode"}, {P0: "prefill", D0: "decode"}]
    assert refused == ["dns"]


def test_a_router_starts_without_an_answer_to_a_name_and_not_without_its_file() -> None:
    told, refused = found([Told(BadEngines("d cannot be looked up"), listed(D0)), Told(listed(prefill=(P0,)))], (0,))
    assert told == [{P0: "prefill"}, {P0: "prefill", D0: "decode"}]
    assert refused == ["dns"]
    with pytest.raises(BadEngines, match="e cannot be read"):
        found([Told(BadEngines("e cannot be read"), kind="file")])


def test_an_engine_that_two_sources_name_differently_is_used_for_prefill(caplog: pytest.LogCaptureFixture) -> None:
    told, _ = found([Told(listed(prefill=(P0,))), Told(listed(P0, D0))])
    assert told == [{P0: "prefill", D0: "decode"}]
    assert f"{P0} is named as prefill and as decode engine by two sources" in caplog.text


def test_who_comes_and_goes_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found([Told(listed(D0), listed(D1))], (0,))
    assert [record.getMessage() for record in caplog.records] == [
        f"decode engine {D0} is named",
        f"decode engine {D1} is named",
        f"decode engine {D0} is not named any more: it finishes what runs on it",
    ]


def test_it_looks_again_and_again_until_it_is_cancelled() -> None:
    async def play() -> list[Mapping[str, str]]:
        source = Told(listed(D0), listed(D1))
        source.interval_s = 0.0
        told: list[Mapping[str, str]] = []
        second = asyncio.Event()

        def tell(roles: Mapping[str, str]) -> None:
            told.append(roles)
            if len(told) == 2:
                second.set()

        discovery = Discovery([source], tell)
        await discovery.first()
        running = asyncio.create_task(discovery.run())
        await second.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return told

    assert asyncio.run(play()) == [{D0: "decode"}, {D1: "decode"}]
