"""The proof under load measures what it says, and sees what is wrong: in answers, in leases, in memory."""

import asyncio
from collections import Counter

import pytest

from kvlease.testing.http_engines import Behaviour, FakeEngine, answer_to
from kvlease.testing.http_engines.behaviour import Fault
from kvlease.testing.http_engines.engine import fake_engines
from kvlease.testing.http_engines.toy_model import MODEL
from proof.load.outcome import Growth, SoakRun
from proof.load.overhead import median_and_p99
from proof.load.reading import read_text, without_chunks
from proof.load.slope import growth_of
from proof.load.wire import WireAnswer, WireClient, ask_both

PROMPT = "a prompt"


def test_memory_that_grows_is_told_from_memory_that_only_trembles() -> None:
    trembling = [(float(at), 50_000 + 300.0 * (at % 7)) for at in range(600)]
    flat = growth_of(trembling)
    assert flat is not None
    assert flat.flat
    grown = growth_of([(at, kib + at / 60 * 200) for at, kib in trembling])
    assert grown is not None
    assert not grown.flat
    assert grown.slope == pytest.approx(200, abs=2 * grown.error + 5)


def test_the_warm_up_is_left_out_and_too_few_samples_give_no_slope() -> None:
    assert growth_of([]) is None
    assert growth_of([(0.0, 1.0), (1.0, 2.0)]) is None
    filling = [(float(at), 50_000.0 + min(at, 100) * 100) for at in range(600)]
    growth = growth_of(filling)
    assert growth is not None
    assert growth.slope == 0


@pytest.mark.parametrize(
    ("fates", "leases", "left", "growth", "passed"),
    [
        ({"right": 9, "lost": 1}, {"read": 9}, 0, Growth(1.0, 1.0), True),
        ({"right": 9, "wrong": 1}, {"read": 9}, 0, Growth(1.0, 1.0), False),
        ({"right": 9}, {"stranded": 1}, 0, Growth(1.0, 1.0), False),
        ({"right": 9}, {"read": 9}, 1, Growth(1.0, 1.0), False),
        ({"right": 9}, {"read": 9}, 0, Growth(500.0, 1.0), False),
        ({"right": 9}, {"read": 9}, 0, None, False),
    ],
)
def test_a_long_run_passes_only_with_all_that_is_promised(
    fates: dict[str, int], leases: dict[str, int], left: int, growth: Growth | None, passed: bool
) -> None:
    run = SoakRun(1.0, Counter(fates), leases=Counter(leases), left=left, growth=growth)
    assert run.passed is passed


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'data: {"choices":[{"text":"ab","finish_reason":null}]}\n\ndata: [DONE]\n\n', "without a reason"),
        (b'data: {"choices":[{"text":"ab","finish_reason":"length"}]}\n\n', "without its end"),
        (b'data: {"error":{"message":"gone"}}\n\ndata: [DONE]\n\n', "gone"),
        (b"data: [DONE]\n\n", "without a reason"),
        (b"<html>", "no answer of an engine"),
        (b'{"choices":[{"text":"","finish_reason":"abort"}]}', "abort"),
    ],
)
def test_an_answer_that_is_not_whole_is_none(body: bytes, why: str) -> None:
    text, found = read_text(body, 200, complete=True)
    assert text is None
    assert why in found


def test_the_text_of_an_answer_is_found_in_all_its_forms() -> None:
    stream = b'data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    stream += b'data: {"choices":[{"delta":{"content":"ab"},"finish_reason":"stop"}]}\n\n'
    stream += b'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n'
    assert read_text(stream, 200, complete=True) == ("ab", "")
    assert read_text(stream, 200, complete=False) == (None, "cut")
    assert read_text(b"busy", 503, complete=True) == (None, "status 503: busy")
    assert without_chunks(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") == b"abcde"


def test_the_99th_percentile_of_a_hundred_values_is_the_largest_but_none() -> None:
    assert median_and_p99([float(value) for value in range(1, 1001)]) == (500.5, 991.0)
    assert median_and_p99([1.0, 2.0, 3.0]) == (2.0, 3.0)


async def _ask(engine: FakeEngine, **more: object) -> WireAnswer:
    client = WireClient(engine.url)
    answer = await client.ask({"model": MODEL, "prompt": PROMPT, "max_tokens": 5} | more)
    client.close()
    return answer


@pytest.mark.parametrize("stream", [False, True])
def test_the_client_takes_answers_and_tells_what_went_wrong(stream: bool) -> None:
    async def scene() -> None:
        async with fake_engines(1, 2) as (_, (d, other)):
            right = await _ask(d, stream=stream)
            assert right.text == answer_to(PROMPT, 5)
            assert right.first_s is not None
            assert 0 < right.first_s <= right.whole_s
            for fault, why in ((Fault.CUT_STREAM, "cut" if stream else "no answer"), (Fault.GARBLED, "no answer")):
                d.behaviour = Behaviour(fault, after_chunks=2)
                wrong = await _ask(d, stream=stream)
                assert wrong.text is None
                assert why in wrong.why
            await other.close()
            assert "no connection" in (await _ask(other)).why

    asyncio.run(scene())


def test_without_a_router_the_client_hands_the_lease_on() -> None:
    async def scene() -> None:
        async with fake_engines(1, 1) as ((p,), (d,)):
            prefill, decode = WireClient(p.url), WireClient(d.url)
            answer = await ask_both(prefill, decode, {"model": MODEL, "prompt": PROMPT, "max_tokens": 5})
            assert answer.text == answer_to(PROMPT, 5)
            assert d.books.reads == {"read": 1}
            prefill.close()
            decode.close()

    asyncio.run(scene())
