"""One request, sent for a trial: a prefill and, where a decode engine or a router is given, its answer.

It shows what no configuration does: what the prefill engine offers, whether its side channel can be reached, and
whether the lease arrives where it is to be used.
"""

import asyncio
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from kvlease.doctor.asking import ask_all
from kvlease.doctor.hand_off import HandOff, TrialAnswer
from kvlease.doctor.running import RunningEngine

REQUEST_S = 60.0
"""The longest time for each of the trial's requests, with the question for the model."""
SETTLED_S = 5.0
"""The longest wait for metrics to tell of the trial: engines send them at most four times a second, with steps."""
CONNECTED_S = 3.0
PREFILL_PARAMS: Mapping[str, Any] = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
_TEXT = "A lease is a promise to keep something for somebody, for some time, whatever happens meanwhile. "
COUNTED = {
    "granted": ("grants_total", {}),
    "claimed": ("claims_total", {}),
    "unfenced": ("unfenced_reads_total", {}),
    "intact": ("fence_checks_total", {"verdict": "intact"}),
    "not intact": ("fence_checks_total", {}),
    "lost": ("lost_leases_total", {}),
}


async def try_pair(http: httpx.AsyncClient, prefill: str, decode: str | None, engines: Sequence[str]) -> HandOff:
    """Sends a prompt to a prefill engine, and what it offers to a decode engine."""
    prompt = _prompt()
    before = _counts(await ask_all(http, engines))
    first = await _complete(http, prefill, prompt, 1, PREFILL_PARAMS)
    if not first.good or not first.params:
        return HandOff(first)
    fault = await asyncio.to_thread(unreachable, first.params)
    if decode is None:
        return HandOff(first, fault)
    second = await _complete(http, decode, prompt, 4, first.params)
    return HandOff(first, fault, second, await _risen(http, engines, before))


async def try_router(http: httpx.AsyncClient, router: str, engines: Sequence[str]) -> HandOff:
    """Sends a prompt to a router, and sees on the engines what became of it."""
    before = _counts(await ask_all(http, engines))
    answer = await _complete(http, router, _prompt(), 4, None)
    return HandOff(answer=answer, rose=await _risen(http, engines, before), by_router=True)


def _prompt() -> str:
    # Long enough for some blocks; and never the same, so that no prefix cache has it.
    return f"{uuid.uuid4()} {_TEXT * 8}"


async def _complete(
    http: httpx.AsyncClient, url: str, prompt: str, tokens: int, params: Mapping[str, Any] | None
) -> TrialAnswer:
    try:
        # As a whole: httpx bounds each part of an answer, and some servers send without end.
        async with asyncio.timeout(REQUEST_S):
            models = (await http.get(f"{url}/v1/models")).json()
            body = {"model": models["data"][0]["id"], "prompt": prompt, "max_tokens": tokens, "temperature": 0}
            handed = {} if params is None else {"kv_transfer_params": dict(params)}
            response = await http.post(f"{url}/v1/completions", json={**body, **handed}, timeout=REQUEST_S)
        content = response.json() if response.status_code == httpx.codes.OK else {}
    except TimeoutError:
        return TrialAnswer(url, None, f"not answered within {REQUEST_S:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        return TrialAnswer(url, None, str(fault) or type(fault).__name__)
    except (ValueError, LookupError, TypeError):
        return TrialAnswer(url, None, "what answers is no OpenAI API: /v1/models names no model")
    given = content.get("kv_transfer_params") if isinstance(content, dict) else None
    said = " ".join(response.text.split())[:200]
    return TrialAnswer(url, response.status_code, said, given if isinstance(given, dict) else None)


def unreachable(params: Mapping[str, Any]) -> str | None:
    """Returns the reason for which the side channel of an offer cannot be reached from here; None where it can."""
    try:
        with socket.create_connection((str(params["remote_host"]), int(params["remote_port"])), CONNECTED_S):
            return None
    except (OSError, LookupError, TypeError, ValueError, OverflowError) as fault:
        return str(fault)


def _counts(engines: Sequence[RunningEngine]) -> dict[str, float]:
    found = {
        name: sum(engine.value(metric, **labels) for engine in engines) for name, (metric, labels) in COUNTED.items()
    }
    # "not intact" was the number of all checks.
    return found | {"not intact": found["not intact"] - found["intact"]}


async def _risen(http: httpx.AsyncClient, urls: Sequence[str], before: Mapping[str, float]) -> dict[str, float]:
    """Waits until metrics tell what became of the read, or the time is up."""
    deadline = time.monotonic() + SETTLED_S
    while True:
        now = _counts(await ask_all(http, urls))
        risen = {name: now[name] - before[name] for name in now if now[name] > before[name]}
        if risen.keys() & {"unfenced", "intact", "not intact", "lost"} or time.monotonic() > deadline:
            return risen
        await asyncio.sleep(0.25)
