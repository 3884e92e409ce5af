"""Clients that leave: the engines are told, and no lease is left to its term."""

import asyncio
from typing import Any

import pytest

from kvlease.testing.http_engines import Behaviour, FakeEngine
from kvlease.testing.http_engines.behaviour import Fault
from tests.router.bench import Client, RouterBench, play, router_bench, until


async def gone(bench: RouterBench, client: Client) -> None:
    """The client leaves, and the router has let go of all that was its."""
    client.leave()
    await client.task
    await bench.assert_books()
    assert bench.figures.value("requests", "completions", "client_gone") == 1
    assert bench.state.in_flight() == 0
    assert all(view.in_flight == 0 for view in bench.fleet.snapshot(bench.now()))


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_its_prompt_is_computed(stream: bool) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            (producer,) = bench.producers
            producer.behaviour = Behaviour(Fault.HANG)
            client = bench.client(stream=stream)
            await until(lambda: producer.seen)
            await gone(bench, client)
            assert producer.books.calls["cancelled"] == 1
            assert not any(engine.seen for engine in bench.consumers)

    play(scene)


def test_an_offer_that_was_on_its_way_is_released() -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            (producer,) = bench.producers
            client = bench.client()
            # P has answered, and the router has not read it yet.
            await until(lambda: producer.books.leases.ended["granted"])
            await gone(bench, client)
            assert producer.books.leases.ended["released"] == 1
            assert bench.figures.value("release_ways", "decode") == 1

    play(scene)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_the_first_token(stream: bool) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            first = bench.consumers[0]
            first.behaviour = Behaviour(Fault.HANG, times=1)
            client = bench.client(stream=stream)
            await until(lambda: first.seen)
            await gone(bench, client)
            await until(lambda: first.books.calls["cancelled"] == 1)
            assert bench.producers[0].books.leases.ended["released"] == 1

    play(scene)


def test_a_client_that_leaves_within_its_stream() -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            first = bench.consumers[0]
            first.behaviour = Behaviour(Fault.HANG, after_chunks=3)
            client = bench.client()
            await client.chunk.wait()
            await gone(bench, client)
            await until(lambda: first.books.calls["cancelled"] == 1)

    play(scene)


def test_a_client_that_leaves_while_it_waits_for_its_turn() -> None:
    async def scene() -> None:
        async with router_bench(max_in_flight=1) as bench:
            bench.producers[0].behaviour = Behaviour(Fault.HANG)
            one, two = bench.client(), bench.client()
            await until(lambda: bench.state.queued() == 1)
            two.leave()
            await two.task
            assert bench.state.queued() == 0
            one.leave()
            await one.task
            assert bench.state.in_flight() == 0
            assert bench.figures.value("requests", "completions", "client_gone") == 2

    play(scene)


def test_a_lease_is_released_at_its_producer_where_no_decode_engine_lives() -> None:
    async def scene() -> None:
        async with router_bench(decode=1) as bench:
            (engine,) = bench.consumers
            engine.behaviour = Behaviour(Fault.DIE)
            said = await bench.ask()
            assert said.status == 502
            await bench.assert_books(prefills=1)
            assert bench.producers[0].books.leases.ended["released"] == 1
            assert bench.figures.value("release_ways", "prefill") == 1

    play(scene)


def test_nobody_left_leaves_a_lease_to_its_term() -> None:
    async def scene() -> None:
        async with router_bench(decode=1) as bench:
            (engine,) = bench.consumers

            async def die_all() -> None:
                await FakeEngine.close(engine)
                await bench.producers[0].close()

            engine.behaviour = Behaviour(Fault.HANG)
            client = bench.client()
            await until(lambda: engine.seen)
            await die_all()
            await client.task
            assert client.said.status == 502
            await bench.app.releases.drain(5.0)
            assert bench.figures.value("release_ways", "term") == 1

    play(scene)


def test_a_router_that_is_cancelled_lets_go_too() -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            first = bench.consumers[0]
            first.behaviour = Behaviour(Fault.HANG, times=1)
            client = bench.client()
            await until(lambda: first.seen)
            client.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await client.task
            assert (client.said.status, client.said.json["error"]["type"]) == (503, "draining")
            await bench.assert_books()
            assert bench.producers[0].books.leases.ended["released"] == 1

    play(scene)


@pytest.mark.parametrize("api", ["completions", "chat", "responses"])
def test_a_stream_that_is_cancelled_says_so(api: str) -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            bench.consumers[0].behaviour = Behaviour(Fault.HANG, after_chunks=3)
            client = bench.client(api)
            await client.chunk.wait()
            client.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await client.task
            assert client.said.ended
            last = client.said.events[-1]
            assert (last["code"] if api == "responses" else last["error"]["type"]) == "draining"
            assert not client.said.is_done

    play(scene)


@pytest.mark.parametrize("stream", [True, False])
def test_whatever_goes_wrong_lets_go_too(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: Client, message: Any) -> None:
        # As uvicorn says of an engine's header that is none.
        raise RuntimeError(f"Invalid HTTP header value: {message}")

    async def scene() -> None:
        async with router_bench() as bench:
            monkeypatch.setattr(Client, "_send", refuse)
            with pytest.raises(RuntimeError, match="Invalid"):
                await bench.client(stream=stream).task
            await bench.assert_books()
            assert bench.state.in_flight() == 0
            assert all(view.in_flight == 0 for view in bench.fleet.snapshot(bench.now()))

    play(scene)
