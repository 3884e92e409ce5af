"""Streams of events: what is a token, what a failure, and what may go to the client. The forms are vLLM 0.32's."""

import json
from typing import Any

import pytest

from kvlease.router.bodies import Api
from kvlease.router.streams import Flow, Opening, Says, StreamFailed, read_answer, says_of
from kvlease.routing.failures import EngineFailure

DONE = b"data: [DONE]\n\n"


def event(content: Any, kind: str | None = None) -> bytes:
    name = b"" if kind is None else b"event: " + kind.encode() + b"\n"
    return name + b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def chunk(**choice: Any) -> bytes:
    return event({"id": "x", "choices": [{"index": 0, "finish_reason": None, **choice}]})


def response(kind: str, **more: Any) -> bytes:
    return event({"type": kind, "sequence_number": 1, **more}, kind)


ROLE = chunk(delta={"role": "assistant", "content": ""})
ERROR = event({"error": {"message": "m", "type": "InternalServerError", "param": None, "code": 500}})
DELTA = response("response.output_text.delta", delta="a")


@pytest.mark.parametrize(
    ("api", "said", "means"),
    [
        (Api.COMPLETIONS, b": keep-alive\n\n", Says.NOTHING),
        (Api.COMPLETIONS, chunk(text="a"), Says.OUTPUT),
        (Api.COMPLETIONS, chunk(text=""), Says.NOTHING),
        (Api.COMPLETIONS, chunk(text="", finish_reason="stop"), Says.OUTPUT),
        (Api.COMPLETIONS, chunk(text="", logprobs={"tokens": ["a"]}), Says.OUTPUT),
        (Api.COMPLETIONS, event({"choices": [], "usage": {"prompt_tokens": 1}}), Says.NOTHING),
        (Api.COMPLETIONS, DONE, Says.END),
        (Api.CHAT, ROLE, Says.NOTHING),
        (Api.CHAT, chunk(delta={"content": "a"}), Says.OUTPUT),
        (Api.CHAT, chunk(delta={"reasoning": "a"}), Says.OUTPUT),
        (Api.CHAT, chunk(delta={"tool_calls": [{"index": 0, "function": {"name": "f"}}]}), Says.OUTPUT),
        (Api.CHAT, chunk(delta={}), Says.NOTHING),
        (Api.CHAT, chunk(delta={}, finish_reason="tool_calls"), Says.OUTPUT),
        (Api.RESPONSES, response("response.created", response={"status": "in_progress", "output": []}), Says.NOTHING),
        (Api.RESPONSES, response("response.output_item.added", item={}), Says.NOTHING),
        (Api.RESPONSES, DELTA, Says.OUTPUT),
        (Api.RESPONSES, response("response.reasoning_text.delta", delta="a"), Says.OUTPUT),
        (Api.RESPONSES, response("response.function_call_arguments.delta", delta="{"), Says.OUTPUT),
        (Api.RESPONSES, response("response.completed", response={"output": [{}]}), Says.END),
    ],
)
def test_what_an_event_says(api: Api, said: bytes, means: Says) -> None:
    assert says_of(api, said) is means


@pytest.mark.parametrize(
    ("api", "said", "failure"),
    [
        (Api.COMPLETIONS, chunk(text="", finish_reason="abort"), EngineFailure.ABORTED),
        (Api.CHAT, ERROR, EngineFailure.ERROR),
        (Api.CHAT, event({"error": {"message": "m", "code": 400}}), EngineFailure.REFUSED),
        (Api.CHAT, event({"error": {"message": "m", "code": 503}}), EngineFailure.BUSY),
        (Api.CHAT, event({"error": "text"}), EngineFailure.ERROR),
        (Api.CHAT, b"data: {not json\n\n", EngineFailure.GARBLED),
        (Api.CHAT, event({"choices": [1]}), EngineFailure.GARBLED),
        (Api.CHAT, event({"choices": [{"delta": "text"}]}), EngineFailure.GARBLED),
        (Api.CHAT, event([1]), EngineFailure.GARBLED),
        (Api.RESPONSES, response("error", message="m", code="server_error"), EngineFailure.ERROR),
        (Api.RESPONSES, response("response.failed", response={"error": {"message": "m"}}), EngineFailure.ERROR),
        (
            Api.RESPONSES,
            response("response.completed", response={"output": [], "usage": {"output_tokens": 0}}),
            EngineFailure.ABORTED,
        ),
        (
            Api.RESPONSES,
            response("response.completed", response={"output": [{}], "status": "cancelled"}),
            EngineFailure.ABORTED,
        ),
    ],
)
def test_an_event_that_tells_of_a_failure(api: Api, said: bytes, failure: EngineFailure) -> None:
    with pytest.raises(StreamFailed) as failed:
        says_of(api, said)
    assert failed.value.failure is failure


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("api", "before", "token"),
    [
        (Api.COMPLETIONS, b": keep-alive\n\n", chunk(text="a")),
        (Api.CHAT, ROLE + b": keep-alive\n\n", chunk(delta={"content": "a"})),
        (Api.RESPONSES, response("response.created") + response("response.in_progress"), DELTA),
    ],
)
def test_all_is_held_back_until_the_first_token(api: Api, before: bytes, token: bytes, size: int) -> None:
    stream = before + token
    opening = Opening(api)
    fed = 0
    while not opening.feed(stream[fed : fed + size]):
        fed += size
    assert fed + size >= len(stream)
    assert opening.held() == stream


@pytest.mark.parametrize("before", [b"", ROLE])
def test_a_stream_that_ends_without_token_and_reason_was_aborted(before: bytes) -> None:
    # This is all that vLLM says of a request that it aborts before its first token.
    with pytest.raises(StreamFailed) as failed:
        Opening(Api.CHAT).feed(before + DONE)
    assert failed.value.failure is EngineFailure.ABORTED


def test_an_answer_may_have_no_token_that_a_client_sees() -> None:
    assert Opening(Api.CHAT).feed(ROLE + chunk(delta={}, finish_reason="stop") + DONE)
    last = response("response.completed", response={"output": [], "usage": {"output_tokens": 3}})
    assert Opening(Api.RESPONSES).feed(last)


def test_an_error_before_the_first_token_keeps_what_was_said() -> None:
    with pytest.raises(StreamFailed) as failed:
        Opening(Api.CHAT).feed(ROLE + event({"error": {"message": "too long", "type": "BadRequestError", "code": 400}}))
    assert failed.value.answer is not None
    status, body = failed.value.answer
    assert (status, json.loads(body)["error"]["message"]) == (400, "too long")


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_bytes_pass_as_they_are(size: int) -> None:
    stream = b"".join(chunk(text=text) for text in ("a", 'say "abort"', "é\n", "abort", "error")) + DONE
    flow = Flow(Api.COMPLETIONS)
    passed = b"".join(flow.feed(stream[at : at + size]) for at in range(0, len(stream), size))
    assert passed == stream
    assert flow.has_ended()
    assert flow.failure is None


@pytest.mark.parametrize("size", [1, 50, 10_000])
@pytest.mark.parametrize(
    ("failed", "failure"),
    [
        (chunk(text="", finish_reason="abort"), EngineFailure.ABORTED),
        (ERROR, EngineFailure.ERROR),
    ],
)
def test_a_failure_within_a_stream_is_not_passed_on(failed: bytes, failure: EngineFailure, size: int) -> None:
    good = chunk(text="a") + chunk(text="b")
    stream = good + failed + DONE
    flow, passed = Flow(Api.COMPLETIONS), b""
    for at in range(0, len(stream), size):
        passed += flow.feed(stream[at : at + size])
        if flow.failure is not None:
            break
    assert passed == good
    assert flow.failure is failure


@pytest.mark.parametrize(
    ("api", "said", "end"),
    [
        ("/v1/completions", chunk(text="say data: [DONE] twice"), DONE),
        ("/v1/chat/completions", chunk(delta={"content": "data: [DONE]"}), DONE),
        ("/v1/responses", response("response.created", response={"metadata": {"a": "response.completed"}}), None),
        ("/v1/responses", response("response.output_text.delta", delta="response.incomplete"), None),
    ],
)
def test_no_text_is_the_end_of_a_stream(api: str, said: bytes, end: bytes | None) -> None:
    flow = Flow(api)
    assert flow.feed(said) == said
    assert not flow.has_ended()
    end = end or response("response.completed", response={"output": [{}]})
    assert flow.feed(said + end + said) == said + end
    assert flow.has_ended()


def test_a_stream_without_its_end_has_not_ended() -> None:
    flow = Flow(Api.CHAT)
    flow.feed(chunk(delta={"content": "a"}, finish_reason="stop") + DONE[:-2])
    assert not flow.has_ended()


@pytest.mark.parametrize(
    ("api", "answer", "failure"),
    [
        (Api.COMPLETIONS, {"choices": [{"finish_reason": "abort", "text": "half"}]}, EngineFailure.ABORTED),
        (Api.COMPLETIONS, {"choices": []}, EngineFailure.GARBLED),
        (Api.COMPLETIONS, [], EngineFailure.GARBLED),
        (Api.RESPONSES, {"output": [], "usage": {"output_tokens": 0}, "status": "completed"}, EngineFailure.ABORTED),
        (Api.RESPONSES, {"status": "completed"}, EngineFailure.GARBLED),
    ],
)
def test_answers_in_one_piece_that_are_none(api: Api, answer: Any, failure: EngineFailure) -> None:
    with pytest.raises(StreamFailed) as failed:
        read_answer(api, json.dumps(answer).encode())
    assert failed.value.failure is failure


def test_an_offer_is_read_whole() -> None:
    params = {"do_remote_prefill": True, "kv_lease": {"token": "ffffffffffffffff"}, "number": 2**63}
    answer = {"choices": [{"finish_reason": "length"}], "kv_transfer_params": params, "usage": {"x": {"y": 1}}}
    assert read_answer(Api.CHAT, json.dumps(answer).encode()) == params
