"""`kvlease explain` and spans, of real engines: a good read, a late one, and a crash."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kvlease.cli import main
from kvlease.console.exits import Exit
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import PREFILL_PARAMS, completion
from tests.realengines.otlp import OtlpReceiver, otlp_receiver
from tests.realengines.pairs import TOKENS, Pair, Scene, begin, consumer, producer, running_pair
from tests.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

TERM_S = 2.0
SPAN_OF_CLIENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as listening:
        yield listening


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path, folder: Path, receiver: OtlpReceiver) -> Iterator[Pair]:
    settings = {"kv_lease_duration": TERM_S, "kv_lease_events": str(folder)}
    asked: dict[str, Any] = {
        "extra_config": settings,
        "extra_args": ("--otlp-traces-endpoint", receiver.url, "--enable-request-id-headers"),
        "extra_env": {"OTEL_BSP_SCHEDULE_DELAY": "200"},
    }
    p = producer(model, name="P-events", engine_id="prefill-0", **asked)
    yield from running_pair(p, consumer(model, name="D-events", engine_id="decode-0", **asked), logs)


def headers(name: str, trace: str) -> dict[str, str]:
    return {"X-Request-Id": name, "traceparent": f"00-{trace}-{SPAN_OF_CLIENT}-01"}


async def ask(s: Scene, url: str, name: str, trace: str, payload: dict[str, Any]) -> dict[str, Any]:
    response = await s.client.post(f"{url}/v1/completions", json=payload, headers=headers(name, trace))
    assert response.status_code == httpx.codes.OK, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def prefill(s: Scene, prompt: str, name: str, trace: str) -> dict[str, Any]:
    payload = completion(prompt, 1) | {"kv_transfer_params": dict(PREFILL_PARAMS)}
    params: dict[str, Any] = (await ask(s, s.pair.p.url, name, trace, payload))["kv_transfer_params"]
    return params


async def decode(s: Scene, prompt: str, params: dict[str, Any], name: str, trace: str) -> str:
    """Returns the id in the answer."""
    payload = completion(prompt, TOKENS) | {"kv_transfer_params": params}
    return str((await ask(s, s.pair.d.url, name, trace, payload))["id"])


def explained(
    folder: Path, name: str, ending: str, capsys: pytest.CaptureFixture[str], phases: Collection[str] = ()
) -> dict[str, Any]:
    """Waits until the engines' files tell this ending and these phases, and returns the story.

    Each process writes its file in its own time.
    """
    story: dict[str, Any] = {}

    def tells() -> bool:
        capsys.readouterr()
        if main(["explain", name, "--events", str(folder), "--json"]) != Exit.OK:
            return False
        story.update(json.loads(capsys.readouterr().out))
        told = {phase["name"] for chapter in story["chapters"] for phase in chapter["phases"]}
        return bool(story["ending"] == ending) and told.issuperset(phases)

    try:
        wait_until(tells)
    finally:
        main(["explain", name, "--events", str(folder)])
        print(story.get("ending"))
    return story


@pytest.mark.essential
def test_a_good_read_is_told_and_traced(
    pair: Pair, folder: Path, receiver: OtlpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    async def scene(s: Scene) -> str:
        prompt = draw_prompts(1, seed=71, shortest=300, longest=900)[0]
        params = await prefill(s, prompt, "good-read", trace)
        return await decode(s, prompt, params, "good-read", trace)

    answer_id = pair.play(scene)
    story = explained(folder, "good-read", "used", capsys, ("reading", "memory held on P"))
    assert (story["producers"], story["consumers"]) == (["prefill-0"], ["decode-0"])
    assert explained(folder, answer_id, "used", capsys)["chapters"] == story["chapters"]
    lease = receiver.wait_for(trace, "kvlease.lease")
    hand_off = receiver.wait_for(trace, "kvlease.hand_off")
    assert (lease.parent_id, hand_off.parent_id) == (SPAN_OF_CLIENT, SPAN_OF_CLIENT)
    # A read that ends before its claim is said needs none.
    assert lease.events in (["claimed", "lapsed"], ["lapsed"])
    assert lease.attributes["kvlease.cause"] == "released"
    assert lease.attributes["kvlease.tokens"] > 0
    assert hand_off.attributes["kvlease.end"] == "used"
    assert hand_off.attributes["kvlease.lease"] == lease.attributes["kvlease.lease"]
    assert "llm_request" in {span.name for span in receiver.of_trace(trace)}, "vLLM's own spans are in that trace"


@pytest.mark.wide
def test_a_late_read_of_reused_blocks_is_told(
    pair: Pair, folder: Path, receiver: OtlpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4737"

    async def scene(s: Scene) -> None:
        prompt = draw_prompts(1, seed=72, shortest=1000)[0]
        before = s.pair.lease_ends()
        params = await prefill(s, prompt, "late-read", trace)
        await s.wait_lease_ends(before, expired=1)
        await s.wait_drained()
        await s.reuse_blocks()
        await decode(s, prompt, params, "late-read", trace)

    pair.play(scene)
    story = explained(folder, "late-read", "late", capsys)
    assert "kv_lease_duration" in story["advice"]
    assert receiver.wait_for(trace, "kvlease.lease").attributes["kvlease.cause"] == "expired"
    assert receiver.wait_for(trace, "kvlease.hand_off").attributes["kvlease.end"] == "failed"


@pytest.mark.wide
def test_a_crash_is_told(pair: Pair, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the last test of these engines: D is killed."""

    async def scene(s: Scene) -> None:
        prompt = draw_prompts(1, seed=73, shortest=300, longest=900)[0]
        claims = pair.p.metrics().value("kvlease:claims_total")
        async with s.busy(pair.d):
            params = await prefill(s, prompt, "crash", "4bf92f3577b34da6a3ce929d0e0e4738")
            waiting = begin(decode(s, prompt, params, "crash", "4bf92f3577b34da6a3ce929d0e0e4738"))
            await s.wait_waiting(pair.d, 1)
            await s.wait(pair.p, lambda m: m.value("kvlease:claims_total") > claims, "told of the claim")
            pair.d.kill()
            with pytest.raises(httpx.TransportError):
                await waiting

    pair.play(scene)
    story = explained(folder, "crash", "died", capsys)
    assert story["consumers"] == ["decode-0"], "what the killed engine had written is there"
