"""The data path: a request reaches the client's answer whatever an engine does before its first token."""

import pytest

from kvlease.testing.http_engines import Behaviour
from kvlease.testing.http_engines.behaviour import Fault
from tests.router.bench import PATHS, TOKENS, play, right_answer, router_bench

APIS = tuple(PATHS)
BEFORE_FIRST_TOKEN = {
    "cut": Behaviour(Fault.CUT),
    "500": Behaviour(Fault.STATUS, status=500),
    "502": Behaviour(Fault.STATUS, status=502),
    "503": Behaviour(Fault.STATUS, status=503),
    "504": Behaviour(Fault.STATUS, status=504),
    "abort": Behaviour(Fault.ABORT),
    "headers and no more": Behaviour(Fault.CUT_STREAM),
    "death": Behaviour(Fault.DIE),
    "garbled": Behaviour(Fault.GARBLED),
    "error event": Behaviour(Fault.ERROR_EVENT),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_comes_from_a_decode_engine_that_has_read_the_prefill(api: str, stream: bool) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            said = await bench.ask(api, stream=stream)
            assert (said.status, said.text) == (200, right_answer(api))
            assert not stream or said.is_done
            await bench.assert_books(prefills=1, read=1)

    play(scene)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", BEFORE_FIRST_TOKEN)
@pytest.mark.parametrize("api", APIS)
def test_another_decode_engine_gets_the_same_reference(api: str, fault: str, stream: bool) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            for engine in bench.consumers:
                engine.behaviour = BEFORE_FIRST_TOKEN[fault]
            # Whichever is asked first fails.
            seen = len(bench.consumers)
            first = bench.client(api, stream=stream)
            while not any(engine.seen for engine in bench.consumers):
                await __import__("asyncio").sleep(0)
            for engine in bench.consumers:
                if not engine.seen:
                    engine.behaviour = Behaviour()
            await first.task
            said = first.said
            assert seen == 2
            assert (said.status, said.text) == (200, right_answer(api))
            assert len(said.events) if stream else True
            await bench.assert_books(prefills=1, read=1)

    play(scene)


def test_smoke() -> None:
    assert TOKENS
