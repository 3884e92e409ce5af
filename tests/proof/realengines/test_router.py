"""The router asks P, and hands P's answer to D unchanged."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx
import pytest

from proof.realengines.engine import EngineError
from proof.realengines.router import Answer, PrefillError, Reference, Router

T = TypeVar("T")
P_URL = "http://p"
D_URL = "http://d"
PARAMS = {"do_remote_prefill": True, "remote_block_ids": [[1, 2]], "kv_lease": {"token": "0x1f"}}


class FakeEngines:
    """A stand-in for P and D, which answers as they do and keeps the requests."""

    def __init__(self, status: int = 200, params: dict[str, Any] | None = PARAMS) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._status = status
        self._params = params

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append((request.url.host, body))
        choices = [{"token_ids": [number, 7]} for number in range(body.get("n", 1))]
        return httpx.Response(self._status, json={"choices": choices, "kv_transfer_params": self._params})


def with_router(engines: FakeEngines, call: Callable[[Router], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with httpx.AsyncClient(transport=httpx.MockTransport(engines)) as client:
            return await call(Router(client, P_URL, D_URL))

    return asyncio.run(main())


def test_prefill_asks_p_for_one_token_and_to_keep_the_kv() -> None:
    engines = FakeEngines()
    reference = with_router(engines, lambda router: router.prefill("text"))
    ((host, body),) = engines.asked
    assert host == "p"
    assert body["max_tokens"] == 1
    assert body["kv_transfer_params"]["do_remote_decode"] is True
    assert body["kv_transfer_params"]["do_remote_prefill"] is False
    assert reference == Reference("text", PARAMS)


def test_decode_hands_ps_params_on_unchanged_whatever_is_in_them() -> None:
    engines = FakeEngines()
    answer = with_router(engines, lambda router: router.decode(Reference("text", PARAMS), 16))
    ((host, body),) = engines.asked
    assert host == "d"
    assert body["kv_transfer_params"] == PARAMS
    assert (body["prompt"], body["max_tokens"], body["temperature"]) == ("text", 16, 0)
    assert body["ignore_eos"] is True
    assert body["return_token_ids"] is True
    assert answer.token_ids == (0, 7)


def test_every_choice_of_n_is_read() -> None:
    engines = FakeEngines()
    answer = with_router(engines, lambda router: router.decode(Reference("text", PARAMS), 16, n=3))
    assert [host for host, _ in engines.asked] == ["d"]
    assert answer.choices == ((0, 7), (1, 7), (2, 7))


def test_an_engine_alone_is_given_no_transfer_params() -> None:
    engines = FakeEngines()
    with_router(engines, lambda router: router.compute_alone(D_URL, "text", 4))
    assert "kv_transfer_params" not in engines.asked[0][1]


def test_an_engine_alone_finds_nothing_in_its_prefix_cache() -> None:
    engines = FakeEngines()
    with_router(engines, lambda router: router.compute_alone(D_URL, "text", 4))
    with_router(engines, lambda router: router.compute_alone(D_URL, "text", 4))
    assert engines.asked[0][1]["cache_salt"] != engines.asked[1][1]["cache_salt"]


@pytest.mark.parametrize("salt", ["a salt", None])
def test_both_halves_of_a_request_have_the_salt_of_one(salt: str | None) -> None:
    engines = FakeEngines()
    reference = with_router(engines, lambda router: router.prefill("text", salt=salt))
    with_router(engines, lambda router: router.decode(reference, 16))
    assert [body.get("cache_salt") for _, body in engines.asked] == [salt, salt]


def test_a_failed_answer_keeps_its_status_and_has_no_tokens() -> None:
    engines = FakeEngines(status=500)
    answer = with_router(engines, lambda router: router.decode(Reference("text", PARAMS), 16))
    assert (answer.status, answer.token_ids) == (500, ())
    assert "kv_transfer_params" in answer.body


@pytest.mark.parametrize(("status", "params"), [(500, PARAMS), (200, None)])
def test_a_prefill_without_a_reference_is_an_error_with_ps_answer(status: int, params: dict[str, Any] | None) -> None:
    with pytest.raises(PrefillError, match=str(status)):
        with_router(FakeEngines(status, params), lambda router: router.prefill("text"))


def test_an_answer_without_choices_has_no_tokens() -> None:
    answer = Answer(404, (), "no such model")
    assert answer.token_ids == ()
    with pytest.raises(EngineError, match="P is silent: HTTP 404: no such model"):
        answer.tokens_or_raise("P is silent")
