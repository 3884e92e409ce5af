"""The OpenAI client through the router: answers, streams, its own classes of errors, timeouts, streams left early."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from kvlease.testing.http_engines import Behaviour, answer_to
from kvlease.testing.http_engines.behaviour import Fault
from kvlease.testing.http_engines.toy_model import MODEL, rendered
from proof.load.engines import EngineProcess
from tests.clients.conftest import Served
from tests.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.wide]

PROMPT = "an important question"
CHAT = [{"role": "user", "content": PROMPT}]
TOKENS = 6
RIGHT = answer_to(PROMPT, TOKENS)
RIGHT_CHAT = answer_to(rendered(CHAT), TOKENS)
LONG = 500


@pytest.fixture(scope="module")
def openai() -> Any:
    """The package, which is imported by nobody who only collects these tests."""
    return pytest.importorskip("openai")


@pytest.fixture
def client(openai: Any, served: Served) -> Iterator[Any]:
    with openai.OpenAI(api_key="a-key", base_url=f"{served.url}/v1", max_retries=0) as client:
        yield client


def completion(client: Any, **more: Any) -> Any:
    asked = {"model": MODEL, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0} | more
    return client.completions.create(**asked)


def computed(*engines: EngineProcess) -> int:
    """The number of prompts that engines have computed."""
    return sum(int(engine.books()["prefills"]["total"]) for engine in engines)


def read_into(got: list[str], stream: Iterable[Any]) -> None:
    for chunk in stream:
        got += [chunk.choices[0].text]


def test_completions(client: Any) -> None:
    answer = completion(client)
    assert answer.choices[0].text == RIGHT
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == TOKENS
    chunks = list(completion(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == RIGHT
    assert chunks[-1].usage.completion_tokens == TOKENS


def test_several_prompts_and_several_answers(client: Any) -> None:
    answer = completion(client, prompt=[PROMPT, "another"])
    assert [choice.text for choice in answer.choices] == [RIGHT, answer_to("another", TOKENS)]
    assert [choice.text for choice in completion(client, n=2).choices] == [RIGHT, RIGHT]


def test_chats(client: Any) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": CHAT, "temperature": 0}
    answer = client.chat.completions.create(**asked, max_completion_tokens=TOKENS)
    assert answer.choices[0].message.content == RIGHT_CHAT
    stream = client.chat.completions.create(**asked, max_tokens=TOKENS, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == RIGHT_CHAT
    with client.chat.completions.stream(**asked) as events:
        assert events.get_final_completion().choices[0].message.content.startswith(RIGHT_CHAT)


def test_responses(client: Any) -> None:
    asked: dict[str, Any] = {"model": MODEL, "input": PROMPT, "max_output_tokens": TOKENS, "temperature": 0}
    assert client.responses.create(**asked).output_text == RIGHT
    events = list(client.responses.create(**asked, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == RIGHT
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == RIGHT


def test_models_are_those_of_the_engines(client: Any) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_a_prompt_is_computed_by_p_alone_also_when_a_decode_engine_refuses_it(client: Any, served: Served) -> None:
    before = computed(served.p), computed(*served.decoders)
    for engine in served.decoders:
        engine.behave(Behaviour(Fault.STATUS, status=503, times=1))
        assert completion(client, prompt=f"for {engine.name}").choices[0].text == answer_to(
            f"for {engine.name}", TOKENS
        )
        engine.behave(Behaviour())
    assert (computed(served.p), computed(*served.decoders)) == (before[0] + 2, before[1])


def test_errors_are_the_clients_own_classes(openai: Any, client: Any, served: Served) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        completion(client, model="unknown")
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        completion(client, max_tokens=-1)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("unknown")
    served.both(Behaviour(Fault.STATUS, status=429, retry_after_s=3))
    with pytest.raises(openai.RateLimitError) as refused:
        completion(client)
    assert refused.value.response.headers["retry-after"] == "3"
    for stream in (False, True):
        served.both(Behaviour(Fault.CUT))
        with pytest.raises(openai.InternalServerError) as failed:
            completion(client, stream=stream)
        assert failed.value.status_code in (502, 503)
        assert failed.value.body["type"]


def test_a_stream_that_breaks_raises_an_error_and_does_not_look_whole(openai: Any, client: Any, served: Served) -> None:
    served.both(Behaviour(Fault.CUT_STREAM, after_chunks=3))
    got: list[str] = []
    with pytest.raises(openai.APIError):
        read_into(got, completion(client, stream=True))
    assert "".join(got) == RIGHT[:3]


def test_the_client_asks_again_by_itself_where_it_is_told_to(openai: Any, served: Served) -> None:
    served.both(Behaviour(Fault.STATUS, status=429, times=1, retry_after_s=0))
    with openai.OpenAI(api_key="a-key", base_url=f"{served.url}/v1", max_retries=3) as client:
        assert completion(client).choices[0].text == RIGHT


@pytest.mark.parametrize("stream", [False, True])
def test_a_timeout_is_the_clients_own_and_the_engine_hears_of_it(
    openai: Any, client: Any, served: Served, stream: bool
) -> None:
    served.both(Behaviour(Fault.HANG))
    before = served.ended("cancelled")
    with pytest.raises(openai.APITimeoutError):
        completion(client, stream=stream, timeout=0.3)
    wait_until(lambda: served.ended("cancelled") > before)


def test_a_stream_that_its_client_leaves_ends_at_the_engine(client: Any, served: Served) -> None:
    served.both(Behaviour(token_s=0.01))
    before = served.ended("cancelled")
    with completion(client, stream=True, max_tokens=LONG) as stream:
        next(iter(stream))
    wait_until(lambda: served.ended("cancelled") == before + 1)
    wait_until(lambda: served.leases("out") == 0)


def test_a_client_that_leaves_before_the_first_token_strands_nothing(openai: Any, client: Any, served: Served) -> None:
    served.p.behave(Behaviour(token_s=0.5))
    with pytest.raises(openai.APITimeoutError):
        completion(client, timeout=0.1)
    served.p.behave(Behaviour())
    served.both(Behaviour(Fault.SLOW, delay_s=1.0))
    with pytest.raises(openai.APITimeoutError):
        completion(client, timeout=0.3)
    wait_until(lambda: served.leases("out") == 0)
    assert served.leases("stranded") == 0


def test_the_async_client_with_many_streams_at_once(openai: Any, served: Served) -> None:
    async def one(client: Any, number: int) -> bool:
        prompt = f"stream {number}"
        stream = await completion(client, prompt=prompt, stream=True)
        return "".join([chunk.choices[0].text async for chunk in stream]) == answer_to(prompt, TOKENS)

    async def all_of_them() -> None:
        async with openai.AsyncOpenAI(api_key="a-key", base_url=f"{served.url}/v1", max_retries=0) as client:
            assert all(await asyncio.gather(*(one(client, number) for number in range(30))))

    asyncio.run(all_of_them())


def test_a_request_keeps_its_id_on_both_engines(client: Any) -> None:
    raw = client.completions.with_raw_response.create(
        model=MODEL, prompt=PROMPT, max_tokens=1, extra_headers={"X-Request-Id": "mine"}
    )
    assert raw.headers["x-request-id"] == "mine"
    assert "mine" in raw.parse().id
