"""A plain prefill/decode router: both halves of a request, together or one at a time.

What P returns in `kv_transfer_params` goes to D unchanged, whatever is in it, as real routers do. Answers are greedy
and of a fixed length, and compared by token ids.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from kvlease.errors import KvLeaseError
from proof.realengines.engine import EngineError
from proof.realengines.spec import SERVED_MODEL

Prompt = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
"""A text or several, as they are or as token ids."""

PREFILL_PARAMS: Mapping[str, Any] = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


class PrefillError(KvLeaseError, RuntimeError):
    """P did not compute a prompt, or did not say where its KV is. The message has its answer."""


@dataclass(frozen=True)
class Reference:
    """A prompt whose KV waits on P, what P says about it, and the salt of prefix caches that it was computed under."""

    prompt: str
    kv_transfer_params: Mapping[str, Any]
    salt: str | None = None


@dataclass(frozen=True)
class Answer:
    """The answer of an engine: the HTTP status and, for 200, the token ids of every choice (n of them)."""

    status: int
    choices: tuple[tuple[int, ...], ...]
    body: str

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The first choice's tokens; none when the request failed."""
        return self.choices[0] if self.choices else ()

    def tokens_or_raise(self, failure: str) -> tuple[int, ...]:
        """The first choice's tokens. Raises EngineError, which begins with `failure`, when there are none."""
        if not self.token_ids:
            raise EngineError(f"{failure}: HTTP {self.status}: {self.body[:300]}")
        return self.token_ids


def open_client(timeout_s: float = 120.0, sockets: Mapping[str, Path] | None = None) -> httpx.AsyncClient:
    """A client for the router: patient, since requests are meant to wait here, and unlimited in its connections.

    `sockets` are those of the engines that listen on one, by their URLs.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    mounts = {
        url: httpx.AsyncHTTPTransport(uds=str(path), limits=limits, trust_env=False)
        for url, path in (sockets or {}).items()
    }
    return httpx.AsyncClient(timeout=timeout_s, limits=limits, mounts=mounts, trust_env=False)


class Router:
    """Sends completions to a pair of engines, given by their URLs. The client stays the caller's to close.

    Every call raises httpx.TransportError when the engine is gone or does not answer within the client's timeout.
    """

    def __init__(self, client: httpx.AsyncClient, prefill_url: str, decode_url: str) -> None:
        self._client = client
        self.prefill_url = prefill_url
        self.decode_url = decode_url

    async def prefill(self, prompt: str, n: int = 1, salt: str | None = None) -> Reference:
        """Lets P compute the prompt's KV and keep it. Raises PrefillError if it does not.

        Some routers pass the client's `n` on to P, and get one reference for n prefills.
        """
        payload = completion(prompt, max_tokens=1, n=n, salt=salt) | {"kv_transfer_params": dict(PREFILL_PARAMS)}
        response = await self._client.post(f"{self.prefill_url}/v1/completions", json=payload)
        params = response.json().get("kv_transfer_params") if response.status_code == httpx.codes.OK else None
        if not params:
            raise PrefillError(f"P answered {response.status_code} without kv_transfer_params: {response.text[:500]}")
        return Reference(prompt, params, salt)

    async def decode(self, reference: Reference, max_tokens: int, n: int = 1) -> Answer:
        """Lets D answer from KV that waits on P."""
        payload = completion(reference.prompt, max_tokens, n, reference.salt) | {
            "kv_transfer_params": dict(reference.kv_transfer_params),
        }
        return await self.answer(self.decode_url, payload)

    async def compute_alone(self, url: str, prompt: str, max_tokens: int) -> Answer:
        """One engine prefills and decodes by itself: nothing is transferred, and nothing is taken from its prefix cache
        or found in it by others, so the answer is right and its blocks were written."""
        return await self.answer(url, completion(prompt, max_tokens, salt=uuid.uuid4().hex))

    async def answer(self, url: str, payload: Mapping[str, Any]) -> Answer:
        """Returns this engine's answer to a completion of any kind."""
        response = await self._client.post(f"{url}/v1/completions", json=payload)
        if response.status_code != httpx.codes.OK:
            return Answer(response.status_code, (), response.text)
        choices = tuple(tuple(choice["token_ids"]) for choice in response.json()["choices"])
        return Answer(response.status_code, choices, response.text)


def completion(prompt: Prompt | None, max_tokens: int, n: int = 1, salt: str | None = None) -> dict[str, Any]:
    """The body of `n` completions, of each prompt where there are several, of exactly `max_tokens` tokens, each the
    likeliest token every time. `prompt` is None for one that comes in another field. Prefix caches share blocks among
    requests of the same `salt`, or of none."""
    # vLLM refuses n > 1 at temperature 0; the likeliest of one candidate is the same at any temperature.
    greedy: dict[str, Any] = {"temperature": 0} if n == 1 else {"temperature": 1, "top_k": 1, "n": n}
    return {
        "model": SERVED_MODEL,
        "prompt": prompt,
        "max_tokens": max_tokens,
        **greedy,
        **({} if salt is None else {"cache_salt": salt}),
        "ignore_eos": True,
        "return_token_ids": True,
    }
