"""A light streaming client for a pair of engines: a closed loop, and what it saw of each answer.

It shares two cores with the engines, so while it measures it only keeps bytes and times; answers are parsed afterwards.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from proof.realengines.engine import EngineError
from proof.realengines.router import Router, completion

_EVENT = b"data: "
_END = b"[DONE]"
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class ClientTraffic:
    """The traffic of a block: `requests` prompts of `prompt_tokens`, at most `clients` of them at a time."""

    name: str
    prompt_tokens: int
    answer_tokens: int
    clients: int
    requests: int


@dataclass
class AnswerSeen:
    """One request: the times (time.monotonic) of its beginning, its first and its last piece, and the pieces."""

    prompt: str
    began: float
    first: float = 0.0
    last: float = 0.0
    pieces: list[bytes] = field(default_factory=list)

    @property
    def first_token_s(self) -> float:
        """The seconds from sending the prompt to P until the first token came from D."""
        return self.first - self.began

    def token_s(self, tokens: int) -> float:
        """Seconds per token after the first."""
        return (self.last - self.first) / (tokens - 1)


@dataclass(frozen=True)
class Block:
    """A block of traffic that was answered."""

    wall_s: float
    seen: Sequence[AnswerSeen]


async def play(
    producer_url: str,
    decoder_url: str,
    prompts: Sequence[str],
    traffic: ClientTraffic,
    headers: Mapping[str, str] | None = None,
) -> Block:
    """Sends the prompts through P and D, each with these headers. Raises EngineError for an answer that is none, or not
    as long as asked for."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(headers=headers, timeout=_TIMEOUT_S, limits=limits, trust_env=False) as http:
        router = Router(http, producer_url, decoder_url)
        todo: Iterator[str] = iter(prompts)
        seen: list[AnswerSeen] = []

        async def client() -> None:
            for prompt in todo:
                one = await _one(http, router, prompt, traffic.answer_tokens)
                seen.append(one)

        began = time.monotonic()
        await asyncio.gather(*(client() for _ in range(traffic.clients)))
        wall_s = time.monotonic() - began
    return Block(wall_s, seen)


async def _one(http: httpx.AsyncClient, router: Router, prompt: str, tokens: int) -> AnswerSeen:
    seen = AnswerSeen(prompt, time.monotonic())
    reference = await router.prefill(prompt)
    payload = completion(prompt, tokens) | {
        "kv_transfer_params": dict(reference.kv_transfer_params),
        "stream": True,
    }
    async with http.stream("POST", f"{router.decode_url}/v1/completions", json=payload) as response:
        async for piece in response.aiter_raw():
            now = time.monotonic()
            if not seen.pieces:
                seen.first = now
            seen.pieces.append(piece)
            # The mark that ends the stream may come alone, after the last token.
            if _EVENT + b"{" in piece:
                seen.last = now
        if response.status_code != httpx.codes.OK:
            raise EngineError(f"D answered {response.status_code}: {b''.join(seen.pieces)[:300]!r}")
    return seen


def token_ids(seen: AnswerSeen) -> tuple[int, ...]:
    """The answer's tokens. Raises EngineError for a stream that says something else."""
    ids: list[int] = []
    for line in b"".join(seen.pieces).splitlines():
        if not line.startswith(_EVENT) or line == _EVENT + _END:
            continue
        event: dict[str, Any] = json.loads(line.removeprefix(_EVENT))
        if "choices" not in event:
            raise EngineError(f"D ended a stream with {event}")
        for choice in event["choices"]:
            ids += choice.get("token_ids") or ()
    return tuple(ids)


def answers(block: Block, tokens: int) -> dict[str, tuple[int, ...]]:
    """The answers' tokens, by prompt. Raises EngineError for one of another length."""
    found = {seen.prompt: token_ids(seen) for seen in block.seen}
    for prompt, ids in found.items():
        if len(ids) != tokens:
            raise EngineError(f"an answer of {len(ids)} tokens and not {tokens} to: {prompt[:60]!r}")
    return found
