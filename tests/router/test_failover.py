"""The data path: a client's answer is right and whatever an engine does before its first token is not seen."""

import asyncio
from typing import Any

import pytest

from kvlease.testing.http_engines import Behaviour
from kvlease.testing.http_engines.behaviour import Fault
from tests.router.bench import PATHS, leap, play, right_answer, router_bench, until

APIS = tuple(PATHS)
ERRORS = {
    "cut": Behaviour(Fault.CUT, times=1),
    "500": Behaviour(Fault.STATUS, status=500, times=1),
    "502": Behaviour(Fault.STATUS, status=502, times=1),
    "503": Behaviour(Fault.STATUS, status=503, times=1),
    "504": Behaviour(Fault.STATUS, status=504, times=1),
    "abort": Behaviour(Fault.ABORT, times=1),
    "shut down": Behaviour(Fault.SHUT_DOWN, times=1),
    "headers and no more": Behaviour(Fault.CUT_STREAM, times=1),
    "garbled": Behaviour(Fault.GARBLED, times=1),
    "error event": Behaviour(Fault.ERROR_EVENT, times=1),
    "death": Behaviour(Fault.DIE, times=1),
}
READ_BEFORE = ("headers and no more", "error event")
PREFILL_ERRORS = [Behaviour(Fault.STATUS, status=500), Behaviour(Fault.CUT), Behaviour(Fault.ABORT)]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", APIS)
def test_a_reference_is_handed_on_whatever_the_first_engine_does(api: str, stream: bool) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            first, second = bench.consumers
            for number, (name, behaviour) in enumerate(ERRORS.items(), 1):
                first.behaviour = behaviour
                said = await bench.ask(api, stream=stream)
                assert (said.status, said.text) == (200, right_answer(api)), name
                assert not stream or said.is_done
                (one,), (two,) = bench.sent(first), bench.sent(second)
                assert one == two
                assert one["kv_transfer_params"]["kv_lease_on_reject"] == "return"
                await bench.settled()
                assert bench.producers[0].books.prefills.total == number
                # Two of them fail after they have read it all.
                assert second.books.prefills.total == (name in READ_BEFORE)
                await bench.renew(first, second, died=name == "death")
            leases = bench.producers[0].books.leases
            assert (len(leases), leases.ended["read"]) == (0, leases.ended["granted"])

    play(scene)


def test_an_engine_that_shuts_down_is_asked_once_and_releases_nothing() -> None:
    """Its health is good and nothing runs there, so that it would draw all requests."""

    async def scene() -> None:
        async with router_bench() as bench:
            first, second = bench.consumers
            first.draining = True
            for _ in range(6):
                assert (await bench.ask("completions")).text == right_answer("completions")
            assert len(bench.sent(first)) <= 1
            assert len(bench.sent(second)) == 6
            await bench.settled()
            assert len(bench.producers[0].books.leases) == 0

    play(scene)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", APIS)
def test_without_faults_one_engine_prefills_and_one_decodes(api: str, stream: bool) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            said = await bench.ask(api, stream=stream)
            assert (said.status, said.text) == (200, right_answer(api))
            assert not stream or said.is_done
            (asked,) = bench.sent(bench.producers[0])
            assert asked["stream"] is False
            await bench.assert_books(prefills=1, read=1)

    play(scene)


def test_an_engine_that_is_gone_is_asked_no_more() -> None:
    async def scene() -> None:
        async with router_bench(decode=2) as bench:
            await bench.consumers[0].close()
            for _ in range(4):
                assert (await bench.ask()).text == right_answer("completions")
            assert bench.figures.value("call_failures", "decode", "unreachable") <= 3
            await bench.settled()
            assert bench.producers[0].books.leases.ended["read"] == 4

    play(scene)


@pytest.mark.parametrize("stream", [True, False])
def test_a_silent_engine_has_its_time_and_no_more(stream: bool) -> None:
    async def scene() -> None:
        async with router_bench(
            prefill=2, prefill_timeout_s=10.0, first_token_timeout_s=20.0, whole_answer_timeout_s=20.0
        ) as bench:
            silent = (bench.producers[0], bench.consumers[0])
            for engine in silent:
                engine.behaviour = Behaviour(Fault.HANG)
            client = bench.client("chat", stream=stream)
            for engine, limit_s in zip(silent, (10.0, 20.0), strict=True):
                await until(lambda engine=engine: engine.seen)  # type: ignore[misc]
                leap(limit_s)
            await client.task
            assert client.said.text == right_answer("chat")
            await bench.assert_books(prefills=1, read=1)
            assert bench.figures.value("call_failures", "prefill", "silent") == 1
            assert bench.figures.value("call_failures", "decode", "silent") == 1
            assert [engine.books.calls["cancelled"] for engine in silent] == [1, 1]

    play(scene)


def test_an_engine_found_dead_ends_what_waits_for_it() -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            bench.consumers[0].behaviour = Behaviour(Fault.HANG)
            client = bench.client()
            while not bench.consumers[0].seen:
                await asyncio.sleep(0)
            bench.app.engine_died(bench.consumers[0].url)
            await client.task
            assert client.said.text == right_answer("completions")
            assert bench.figures.value("call_failures", "decode", "cut") == 1
            await bench.assert_books(prefills=1, read=1)

    play(scene)


@pytest.mark.parametrize("status", [400, 404, 429])
def test_a_refusal_is_the_clients_and_the_prefill_is_freed(status: int) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            for engine in bench.consumers:
                engine.behaviour = Behaviour(Fault.STATUS, status=status, retry_after_s=7, times=1)
            said = await bench.ask()
            assert (said.status, said.json["error"]["code"]) == (status, status)
            assert said.headers["retry-after"] == "7"
            await bench.assert_books(prefills=1)
            assert bench.producers[0].books.leases.ended["released"] == 1
            assert sum(engine.books.calls["answered"] for engine in bench.consumers) == 0
            # What is refused at P goes on to no other engine.
            said = await bench.ask(model="another")
            assert (said.status, said.json["error"]["param"]) == (404, "model")

    play(scene)


def test_the_last_error_is_the_engines_own_or_says_what_happened() -> None:
    async def scene() -> None:
        async with router_bench(decode=1, decode_attempts=2) as bench:
            (engine,) = bench.consumers
            engine.behaviour = Behaviour(Fault.STATUS, status=503, times=2)
            said = await bench.ask()
            assert (said.status, said.json["error"]["type"]) == (503, "engine_busy")
            assert "retry-after" in said.headers
            engine.behaviour = Behaviour(Fault.STATUS, status=500, times=9)
            said = await bench.ask("chat")
            assert (said.status, said.json["error"]["type"]) == (500, "InternalServerError")
            engine.behaviour = Behaviour()
            await bench.settled()
            for each in bench.producers:
                each.books.leases.expire(float("inf"))
                assert each.books.leases.ended["stranded"] == 0

    play(scene)


@pytest.mark.parametrize("behaviour", PREFILL_ERRORS)
def test_another_prefill_engine_or_the_decode_engine_itself_does_it(behaviour: Behaviour) -> None:
    async def scene() -> None:
        async with router_bench(prefill=2) as bench:
            bench.producers[0].behaviour = behaviour
            for _ in range(3):
                assert (await bench.ask("responses")).text == right_answer("responses")
            assert bench.producers[1].books.prefills.total == 3
            await bench.producers[0].close()
            await bench.producers[1].close()
            assert (await bench.ask()).text == right_answer("completions")
            assert sum(engine.books.prefills.total for engine in bench.consumers) == 1

    play(scene)


def test_stock_references_are_never_sent_twice() -> None:
    async def scene() -> None:
        async with router_bench(leased=False) as bench:
            bench.consumers[0].behaviour = Behaviour(Fault.CUT, times=1)
            assert (await bench.ask()).text == right_answer("completions")
            await bench.settled()
            sent = [body for engine in bench.consumers for body in bench.sent(engine) if body["model"] == "fake-model"]
            params = [body["kv_transfer_params"] for body in sent]
            assert len(params) == len({each["remote_request_id"] for each in params}) == 2
            assert not any("kv_lease_on_reject" in each for each in params)
            assert bench.producers[0].books.prefills.total == 2
            assert bench.producers[0].books.leases.ended["released"] == 1

    play(scene)


def test_several_answers_are_read_by_a_lease_and_never_from_stock() -> None:
    async def scene() -> None:
        async with router_bench(leased=False) as bench:
            assert (await bench.ask(n=2, stream=False)).text == right_answer("completions")
            assert sum(engine.books.prefills.total for engine in bench.consumers) == 1
            await bench.settled()
            assert bench.producers[0].books.leases.ended["released"] == 1
        async with router_bench() as bench:
            assert (await bench.ask(n=2, stream=False)).text == right_answer("completions")
            await bench.assert_books(prefills=1, read=1)

    play(scene)


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": ["one prompt", "and another"]},
        {"prompt_logprobs": 0},
        {"echo": True, "logprobs": 1},
        {"use_beam_search": True},
        {"truncate_prompt_tokens": -1},
    ],
)
def test_what_a_prefill_elsewhere_would_not_serve_goes_whole(more: dict[str, Any]) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            assert (await bench.ask(stream=False, **more)).status == 200
            assert not bench.producers[0].seen
            (sent,) = (body for engine in bench.consumers for body in bench.sent(engine))
            assert "kv_transfer_params" not in sent

    play(scene)
