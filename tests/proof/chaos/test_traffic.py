"""Clients and their router, with a function in the place of vLLM's engines."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from kvlease.console.progress import Story
from proof.chaos.outcome import RequestOutcome
from proof.chaos.scene import Scene
from proof.chaos.schedule import Client, Memory, Request
from proof.chaos.traffic import ChaosTraffic
from proof.realengines.engine import Engine
from proof.realengines.spec import EngineSpec, Role

pytestmark = pytest.mark.long

PROMPTS = ["first prompt", "second prompt"]
RIGHT = [1, 2, 3]
WRONG = [7, 7, 7]

Answering = Callable[[str, dict[str, Any]], Coroutine[Any, Any, httpx.Response]]
"""The function by which an engine ("p", "d1", "d2") answers the body of a request."""


def tokens(ids: list[int], **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"token_ids": ids}], **more})


async def healthy(engine: str, body: dict[str, Any]) -> httpx.Response:
    del body
    return tokens(RIGHT, kv_transfer_params={"from": "p"}) if engine == "p" else tokens(RIGHT)


class Engines:
    """A stand-in for all engines, which remembers which of them each request was for."""

    def __init__(self, answer: Answering) -> None:
        self.asked: list[str] = []
        self.answer = answer

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        return await self.answer(request.url.host, json.loads(request.content))


def play(
    tmp_path: Path,
    answer: Answering,
    scene: Callable[[ChaosTraffic], Coroutine[Any, Any, list[RequestOutcome]]],
    memory: Memory = "full",
) -> tuple[list[RequestOutcome], list[str]]:
    """Returns what clients got, and which engines they asked, after P has told the right answers."""

    def engine(name: str, role: Role) -> Engine:
        return Engine(EngineSpec(name=name, model=tmp_path, role=role, http_socket=tmp_path / name), tmp_path)

    async def run() -> tuple[list[RequestOutcome], list[str]]:
        engines = Engines(healthy)
        async with httpx.AsyncClient(transport=httpx.MockTransport(engines)) as client:
            decoders = [engine("d1", "kv_consumer"), engine("d2", "kv_consumer")]
            story = Story(Console(quiet=True))
            traffic = ChaosTraffic(Scene(engine("p", "kv_producer"), decoders, None, client, story), PROMPTS, memory)
            await traffic.learn_right_answers()
            engines.asked.clear()
            engines.answer = answer
            return await scene(traffic), engines.asked

    return asyncio.run(run())


def ask(client: Client, *, decoder: int = 0, delay_s: float = 0.0, fresh: bool = False) -> Request:
    return Request(number=1, client=client, prompt=1, decoder=decoder, at_s=0.0, delay_s=delay_s, fresh=fresh)


def one(tmp_path: Path, answer: Answering, request: Request) -> tuple[RequestOutcome, list[str]]:
    async def scene(traffic: ChaosTraffic) -> list[RequestOutcome]:
        return [await traffic.send(request)]

    outcomes, asked = play(tmp_path, answer, scene)
    return outcomes[0], asked


@pytest.mark.parametrize("client", ["plain", "after", "dawdle"])
def test_a_request_goes_through_p_and_its_decode_engine(tmp_path: Path, client: Client) -> None:
    outcome, asked = one(tmp_path, healthy, ask(client, decoder=1))
    assert (outcome.verdict, asked) == ("right", ["p", "d2"])


def test_other_tokens_are_a_wrong_answer_and_are_told(tmp_path: Path) -> None:
    async def lying(engine: str, body: dict[str, Any]) -> httpx.Response:
        return await healthy(engine, body) if engine == "p" else tokens(WRONG)

    outcome, _ = one(tmp_path, lying, ask("plain"))
    assert outcome.verdict == "wrong"
    assert outcome.answers[0].said == "[7, 7, 7] and not [1, 2, 3]"


def test_the_router_goes_to_the_other_decode_engine_with_the_same_reference(tmp_path: Path) -> None:
    async def first_is_gone(engine: str, body: dict[str, Any]) -> httpx.Response:
        if engine == "d1":
            raise httpx.ConnectError("refused")
        if engine == "d2":
            assert body["kv_transfer_params"] == {"from": "p"}
        return await healthy(engine, body)

    outcome, asked = one(tmp_path, first_is_gone, ask("plain"))
    assert (outcome.verdict, outcome.retries, asked) == ("right", 1, ["p", "d1", "d2"])


def test_an_error_of_both_decode_engines_is_the_clients_error(tmp_path: Path) -> None:
    async def late(engine: str, body: dict[str, Any]) -> httpx.Response:
        return await healthy(engine, body) if engine == "p" else httpx.Response(500, text="too late")

    outcome, asked = one(tmp_path, late, ask("plain"))
    assert (outcome.verdict, asked) == ("error", ["p", "d1", "d2"])
    assert outcome.answers[-1].said == "HTTP 500: too late"


def test_a_p_that_is_gone_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proof.chaos.traffic._RETRY_AFTER_S", 0.01)
    left: Iterator[httpx.Response | Exception] = iter([httpx.Response(503), httpx.ConnectError("refused")])

    async def away(engine: str, body: dict[str, Any]) -> httpx.Response:
        if engine == "p" and (now := next(left, None)):
            if isinstance(now, Exception):
                raise now
            return now
        return await healthy(engine, body)

    outcome, asked = one(tmp_path, away, ask("plain"))
    assert (outcome.verdict, asked) == ("right", ["p", "p", "p", "d1"])


def test_whoever_gets_no_answer_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proof.chaos.traffic.PATIENCE_S", 0.05)

    async def silent(engine: str, body: dict[str, Any]) -> httpx.Response:
        if engine != "p":
            await asyncio.sleep(60)
        return await healthy(engine, body)

    assert one(tmp_path, silent, ask("plain"))[0].verdict == "gave-up"


@pytest.mark.parametrize(("client", "asked"), [("abort-at-p", ["p"]), ("vanish", ["p"]), ("abort-at-d", ["p", "d1"])])
def test_a_client_that_aborts_gets_nothing_and_nobody_asks_for_it(
    tmp_path: Path, client: Client, asked: list[str]
) -> None:
    async def slow(engine: str, body: dict[str, Any]) -> httpx.Response:
        await asyncio.sleep(60 if (engine == "p") == (client == "abort-at-p") else 0)
        return await healthy(engine, body)

    outcome, engines = one(tmp_path, slow if client != "vanish" else healthy, ask(client, delay_s=0.02))
    assert (outcome.verdict, engines) == ("aborted", asked)


def test_one_reference_can_be_sent_to_both(tmp_path: Path) -> None:
    outcome, asked = one(tmp_path, healthy, ask("twice", decoder=1))
    assert (outcome.verdict, len(outcome.answers), sorted(asked)) == ("right", 2, ["d1", "d2", "p"])


def test_a_client_can_switch_while_it_waits(tmp_path: Path) -> None:
    async def first_is_slow(engine: str, body: dict[str, Any]) -> httpx.Response:
        await asyncio.sleep(60 if engine == "d1" else 0)
        return await healthy(engine, body)

    outcome, asked = one(tmp_path, first_is_slow, ask("switch", delay_s=0.02))
    assert (outcome.verdict, asked) == ("right", ["p", "d1", "d2"])
    assert [answer.verdict for answer in outcome.answers] == ["aborted", "right"]


def test_r35_a_router_can_mix_two_prompts_up(tmp_path: Path) -> None:
    async def telling(engine: str, body: dict[str, Any]) -> httpx.Response:
        if engine == "p":
            return tokens(RIGHT, kv_transfer_params={"of": body["prompt"]})
        assert (body["prompt"], body["kv_transfer_params"]) == (PROMPTS[1], {"of": PROMPTS[0]})
        return tokens(RIGHT)

    outcome, asked = one(tmp_path, telling, ask("mixed-up"))
    assert (outcome.verdict, asked) == ("right", ["p", "p", "d1"])


@pytest.mark.parametrize("client", ["plain", "mixed-up"])
def test_a_fresh_request_finds_nothing_in_a_prefix_cache(tmp_path: Path, client: Client) -> None:
    salts: list[str | None] = []

    async def telling(engine: str, body: dict[str, Any]) -> httpx.Response:
        salts.append(body.get("cache_salt"))
        return await healthy(engine, body)

    one(tmp_path, telling, ask(client, fresh=True))
    assert len(salts) >= 2
    assert set(salts) == {"request 1"}
    salts.clear()
    one(tmp_path, telling, ask(client))
    assert set(salts) == {None}


def test_all_who_have_begun_can_abort_at_once(tmp_path: Path) -> None:
    async def slow(engine: str, body: dict[str, Any]) -> httpx.Response:
        await asyncio.sleep(0.2)
        return await healthy(engine, body)

    async def scene(traffic: ChaosTraffic) -> list[RequestOutcome]:
        begun, later = traffic.send(ask("plain")), traffic.send(ask("plain"), after_s=0.1)
        await asyncio.sleep(0.02)
        assert traffic.abort_all() == 1
        return list(await asyncio.gather(begun, later))

    outcomes, _ = play(tmp_path, slow, scene)
    assert [outcome.verdict for outcome in outcomes] == ["aborted", "right"]


@pytest.mark.parametrize(("memory", "blocks"), [("full", 299), ("half", 149)])
def test_p_uses_all_of_its_free_blocks_or_half_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: Memory, blocks: int
) -> None:
    """A prompt of this length takes two blocks, with its answer three."""
    prompts = [f"{number:40}" for number in range(200)]
    monkeypatch.setattr("tests.proof.chaos.test_traffic.PROMPTS", prompts)

    async def none_held(_: Scene) -> int:
        return 0

    monkeypatch.setattr(Scene, "held_blocks", none_held)

    async def scene(traffic: ChaosTraffic) -> list[RequestOutcome]:
        assert len(await traffic.use_free_blocks()) == -(-blocks // 3)
        return []

    play(tmp_path, healthy, scene, memory)
