"""The tables of the router's page are those that drive it."""

from docs.made import router
from kvlease.routing.breaker import BREAKER
from kvlease.routing.failures import EngineFailure
from kvlease.routing.states import RequestState


def test_every_failure_and_what_follows_is_told() -> None:
    _, _, *rows = router.failures()
    assert [row.split("|")[1].strip(" `") for row in rows] == list(EngineFailure)
    (refused,) = (row for row in rows if "`refused`" in row)
    assert refused.endswith("| no | may have been seen | is an answer | the engine's own answer |")


def test_every_state_is_in_the_diagram_and_explained() -> None:
    text = "\n".join(router.requests())
    assert all(f"--> {state}" in text and f"| `{state}` |" in text for state in RequestState)
    assert len(list(router.breaker())) == len(BREAKER) + 2
