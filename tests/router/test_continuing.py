"""Streams whose decode engine is lost after their first token: broken off cleanly, or continued in token space."""

import json
from typing import Any

import pytest

from kvlease.router.bodies import Api, read_body
from kvlease.router.continuing import Continuation, is_continuable
from kvlease.router.failures import EngineFailure
from kvlease.testing.http_engines import Behaviour
from kvlease.testing.http_engines.behaviour import Fault
from tests.router.bench import MESSAGES, PATHS, TOKENS, leap, play, right_answer, router_bench, until

LOSSES = {
    "cut": Behaviour(Fault.CUT_STREAM, after_chunks=3, times=1),
    "death": Behaviour(Fault.DIE, after_chunks=3, times=1),
    "error event": Behaviour(Fault.ERROR_EVENT, after_chunks=3, times=1),
}


@pytest.mark.parametrize("api", PATHS)
def test_a_stream_that_cannot_go_on_ends_with_an_error_and_without_done(api: str) -> None:
    async def scene() -> None:
        for name, behaviour in LOSSES.items():
            async with router_bench() as bench:
                bench.consumers[0].behaviour = behaviour
                said = await bench.ask(api)
                assert said.status == 200
                assert said.ended
                assert said.text == right_answer(api)[:3], name
                last = said.events[-1]
                assert not said.is_done
                error = {"type": last["code"]} if api == "responses" else last["error"]
                assert error["type"] == ("engine_error" if name == "error event" else "engine_lost")
                # The engine's own error is not passed on beside it.
                assert b"Internal server error" not in said.body
                assert not bench.consumers[1].seen
                await bench.assert_books(prefills=1, read=1)
                assert bench.figures.value("requests", api, "broken_off") == 1

    play(scene)


def test_an_engine_that_falls_silent_within_a_stream() -> None:
    async def scene() -> None:
        async with router_bench(between_tokens_s=20.0) as bench:
            bench.consumers[0].behaviour = Behaviour(Fault.HANG, after_chunks=3)
            client = bench.client()
            said = client.said
            await until(lambda: len(said.text) == 3 if said.chunks else None)
            leap(20.0)
            await client.task
            assert said.text == right_answer("completions")[:3]
            assert said.events[-1]["error"]["type"] == "engine_silent"
            await bench.settled()
            assert bench.consumers[0].books.calls["cancelled"] == 1

    play(scene)


@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_greedy_stream_goes_on_at_another_engine(api: str, loss: str) -> None:
    async def scene() -> None:
        async with router_bench(decode=3, continue_streams=True) as bench:
            first, second, third = bench.consumers
            first.behaviour = LOSSES[loss]
            second.behaviour = Behaviour(Fault.CUT_STREAM, after_chunks=2, times=1)
            said = await bench.ask(api, stream_options={"include_usage": True})
            assert said.text == right_answer(api)
            assert said.is_done
            chunks = [event for event in said.events if isinstance(event, dict)]
            assert len({(each["id"], each["object"], each["created"]) for each in chunks}) == 1
            assert not any("token_ids" in json.dumps(each) for each in chunks)
            usage = chunks[-1]["usage"]
            assert usage["completion_tokens"] == TOKENS
            assert usage["prompt_tokens"] * 3 + 3 + 5 == bench.producers[0].books.prefills.tokens
            reasons = [choice.get("finish_reason") for each in chunks for choice in each["choices"]]
            assert reasons[-1] == "length"
            assert reasons.count("length") == 1
            # The prompt grows by what the client has, so none is prefilled twice.
            await bench.assert_books(prefills=3, read=3)
            assert bench.figures.value("requests", api, "finished") == 1
            asked = [body for engine in (first, third) for body in bench.sent(engine)][-1]
            assert (len(asked["prompt"]), asked["max_tokens"]) == (usage["prompt_tokens"] + 5, TOKENS - 5)

    play(scene)


def test_it_goes_on_without_a_prefill_engine_too() -> None:
    async def scene() -> None:
        async with router_bench(continue_streams=True) as bench:
            bench.consumers[0].behaviour = Behaviour(Fault.HANG, after_chunks=3, times=1)
            client = bench.client()
            await client.chunk.wait()
            await bench.producers[0].close()
            await bench.consumers[0].close()
            await client.task
            assert client.said.text == right_answer("completions")
            assert client.said.is_done

    play(scene)


def test_a_stream_that_lacks_only_its_end_is_ended() -> None:
    async def scene() -> None:
        async with router_bench(continue_streams=True) as bench:
            bench.consumers[0].behaviour = Behaviour(Fault.CUT_STREAM, after_chunks=TOKENS)
            said = await bench.ask()
            assert (said.text, said.is_done) == (right_answer("completions"), True)
            assert not bench.consumers[1].seen

    play(scene)


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.7},
        {"temperature": None},
        {"n": 2},
        {"logprobs": 1},
        {"stop": ["x"]},
        {"echo": True},
        {"return_token_ids": True},
        {"presence_penalty": 0.5},
        {"response_format": {"type": "json_object"}},
        {"some_new_field": 1},
        {"stream": False},
        {"prompt": ["a", "b"]},
    ],
)
def test_what_cannot_be_continued(more: dict[str, Any]) -> None:
    fields = {"model": "m", "prompt": "p", "temperature": 0, "stream": True, "stop": [], "n": 1, "logprobs": None}
    assert is_continuable(read_body(Api.COMPLETIONS, json.dumps(fields).encode()))
    assert not is_continuable(read_body(Api.COMPLETIONS, json.dumps(fields | more).encode()))


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": "no list"},
    ],
)
def test_chats_that_cannot_be_continued(more: dict[str, Any]) -> None:
    fields = {"model": "m", "messages": MESSAGES, "temperature": 0.0, "stream": True, "tools": []}
    assert is_continuable(read_body(Api.CHAT, json.dumps(fields).encode()))
    assert not is_continuable(read_body(Api.CHAT, json.dumps(fields | more).encode()))


# -- texts and tokens that do not fit each other ------------------------------------------------------------------


def stream_of(*said: tuple[list[int], str], prompt: list[int] | None = None, reason: str | None = None) -> bytes:
    """The events of a completion's stream: the tokens and the text of each."""
    events = []
    for number, (tokens, text) in enumerate(said):
        last = reason if number == len(said) - 1 else None
        choice = {"index": 0, "text": text, "token_ids": tokens, "finish_reason": last}
        if number == 0 and prompt is not None:
            choice["prompt_token_ids"] = prompt
        events.append(b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n")
    return b"".join(events)


def begun(*said: tuple[list[int], str]) -> Continuation:
    """A continuation of a stream that has said this, and whose next engine begins."""
    body = {"model": "m", "prompt": "p", "temperature": 0, "stream": True, "max_tokens": 10, "min_tokens": 4}
    continuation = Continuation.of(read_body(Api.COMPLETIONS, json.dumps(body).encode()))
    assert continuation is not None
    continuation.feed(stream_of(*said, prompt=[1, 2]))
    return continuation


def texts(passed: bytes) -> list[str]:
    """The texts of events."""
    return [json.loads(line[6:])["choices"][0]["text"] for line in passed.decode().split("\n") if line[:6] == "data: "]


def test_a_character_in_two_halves_is_said_by_the_next_engine() -> None:
    continuation = begun(([5], "a"), ([6], ""))
    asked = json.loads(continuation.for_decode(None, keep_lease=False))
    assert (asked["prompt"], asked["max_tokens"], asked["min_tokens"]) == ([1, 2, 5], 9, 3)
    continuation.resume()
    assert texts(continuation.feed(stream_of(([6], ""), ([7], "é")))) == ["é"]
    assert json.loads(continuation.for_prefill())["prompt"] == [1, 2, 5, 6, 7]


def test_tokens_that_came_together_are_said_again_and_taken_out() -> None:
    continuation = begun(([5], "a"), ([6, 7], "bc"))
    assert json.loads(continuation.for_prefill())["prompt"] == [1, 2, 5]
    continuation.resume()
    assert texts(continuation.feed(stream_of(([6], "b"), ([7, 8], "cd"), ([9], "e")))) == ["d", "e"]
    # And again, from where that one was lost.
    assert json.loads(continuation.for_prefill())["prompt"] == [1, 2, 5, 6, 7, 8, 9]


def test_an_engine_that_says_something_else_is_not_believed() -> None:
    continuation = begun(([5], "a"), ([6, 7], "bc"))
    continuation.resume()
    assert continuation.feed(stream_of(([6], "x"))) == b""
    assert continuation.failure is EngineFailure.GARBLED
    assert not continuation.can_go_on()


def test_an_engine_that_ends_before_what_was_said_is_not_believed() -> None:
    continuation = begun(([5], "a"), ([6, 7], "bc"))
    continuation.resume()
    continuation.feed(stream_of(([6], "b"), reason="stop"))
    assert continuation.failure is EngineFailure.GARBLED


def test_an_answer_that_a_parser_reads_is_not_continued() -> None:
    body = {"model": "m", "messages": MESSAGES, "temperature": 0, "stream": True}
    continuation = Continuation.of(read_body(Api.CHAT, json.dumps(body).encode()))
    assert continuation is not None
    delta = {"choices": [{"index": 0, "delta": {"reasoning": "hm"}, "token_ids": [1]}], "prompt_token_ids": [1]}
    assert b"hm" in continuation.feed(b"data: " + json.dumps(delta).encode() + b"\n\n")
    assert not continuation.can_go_on()
