"""Clients and their router: each request as its client wishes, each answer compared with the right one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import httpx

from proof.chaos.outcome import Answered, RequestOutcome, Verdict
from proof.chaos.scene import Scene, blocks_of
from proof.chaos.schedule import DECODERS, Memory, Request
from proof.realengines.router import Answer, PrefillError, Reference

ANSWER_TOKENS = 16
PATIENCE_S = 75.0
"""The time for which a client waits for each half of its request: longer than any fault and the recovery from it."""

FILLED_WITHIN_S = 5.0
"""The time that P has to use its free blocks, as the fault goes on; blocks that prefills take are used, too."""
_RETRY_AFTER_S = 0.5
_FILL_TOKENS = 32
_OK = 200

Tokens = tuple[int, ...]


class ChaosTraffic:
    """All requests of a run, and which of them are under way."""

    def __init__(self, scene: Scene, prompts: Sequence[str], memory: Memory = "full") -> None:
        self._scene = scene
        self._memory = memory
        self._prompts = prompts
        self._right: list[Tokens] = []
        self._under_way: set[asyncio.Task[RequestOutcome]] = set()
        self._aborted: set[asyncio.Task[RequestOutcome]] = set()
        self._fills = 0

    async def learn_right_answers(self) -> None:
        """Lets P, alone and undisturbed, compute every prompt. Raises EngineError if it does not."""
        gate = asyncio.Semaphore(4)

        async def compute(prompt: str) -> Tokens:
            async with gate:
                answer = await self._alone(prompt, ANSWER_TOKENS)
            return answer.tokens_or_raise("P cannot answer by itself")

        self._right = list(await asyncio.gather(*(compute(prompt) for prompt in self._prompts)))

    def send(self, request: Request, after_s: float = 0.0) -> "asyncio.Task[RequestOutcome]":
        """Begins a request `after_s` from now."""

        async def send() -> RequestOutcome:
            await asyncio.sleep(after_s)
            task = asyncio.current_task()
            assert task is not None
            self._under_way.add(task)
            other = self._prompts[(request.prompt + 1) % len(self._prompts)]
            salt = f"request {request.number}" if request.fresh else None
            client = _Client(self._scene, self._prompts[request.prompt], self._right[request.prompt], other, salt)
            return await client.send(request)

        async def send_or_abort() -> RequestOutcome:
            began_s = self._scene.now_s() + after_s
            task = asyncio.current_task()
            assert task is not None
            try:
                return await send()
            except asyncio.CancelledError:
                if task not in self._aborted:
                    raise
                return RequestOutcome(request, [Answered("", "aborted", began_s, self._scene.now_s())])
            finally:
                self._under_way.discard(task)

        return asyncio.create_task(send_or_abort())

    def abort_all(self) -> int:
        """Lets every client that has a request under way hang up; returns how many they were."""
        aborted = set(self._under_way)
        self._aborted |= aborted
        for task in aborted:
            task.cancel()
        return len(aborted)

    async def use_free_blocks(self) -> list[Answered]:
        """Lets P compute so many prompts at once that they take every block that is free, or half of them where its
        memory is to be half empty.

        They run at once, and their answers are long enough for the first prompt to be there still when the last one
        comes: so each block is written, whichever of them vLLM hands out first.
        """
        free = self._scene.producer.spec.num_blocks - 1 - (await self._scene.held_blocks() or 0)
        if self._memory == "half":
            free //= 2
        chosen: list[int] = []
        while free > 0 and len(chosen) < len(self._prompts):
            index = self._fills % len(self._prompts)
            self._fills += 1
            chosen.append(index)
            free -= blocks_of(self._prompts[index]) + 1
        return list(await asyncio.gather(*(self._fill(index) for index in chosen)))

    async def _fill(self, index: int) -> Answered:
        began_s = self._scene.now_s()
        verdict: Verdict = "gave-up"
        said = ""
        try:
            async with asyncio.timeout(FILLED_WITHIN_S):
                answer = await self._alone(self._prompts[index], _FILL_TOKENS)
            verdict, said = judged(answer.status, answer.token_ids[:ANSWER_TOKENS], self._right[index], answer.body)
        except TimeoutError:
            pass
        except httpx.TransportError as error:
            verdict, said = "error", repr(error)
        return Answered(self._scene.producer.spec.name, verdict, began_s, self._scene.now_s(), said)

    async def _alone(self, prompt: str, tokens: int) -> Answer:
        return await self._scene.router(0).compute_alone(self._scene.producer.url, prompt, tokens)


def judged(status: int, tokens: Tokens, right: Tokens, body: str) -> tuple[Verdict, str]:
    """Returns an answer's verdict, and what it said if it is not right."""
    if status != _OK:
        return "error", f"HTTP {status}: {body[:200]}"
    return ("right", "") if tokens == right else ("wrong", f"{list(tokens)} and not {list(right)}")


class _Client:
    """One client, its router included: a router that gets no answer asks the other decode engine."""

    def __init__(self, scene: Scene, prompt: str, right: Tokens, other: str, salt: str | None) -> None:
        """`other` is somebody else's prompt, whose reference its router may give it; `salt` is for prefix caches."""
        self._scene = scene
        self._prompt = prompt
        self._right = right
        self._other = other
        self._salt = salt
        self._retries = 0

    async def send(self, request: Request) -> RequestOutcome:
        wishes: Mapping[str, Callable[[Request, Reference], Awaitable[Sequence[Answered]]]] = {
            "vanish": self._vanish,
            "abort-at-p": self._vanish,
            "abort-at-d": self._abort,
            "twice": self._twice,
            "switch": self._switch,
            "dawdle": self._dawdle,
            "mixed-up": self._mixed_up,
        }
        began_s = self._scene.now_s()
        abort_after_s = request.delay_s if request.client == "abort-at-p" else None
        reference, failed = await self._prefill(self._prompt, abort_after_s)
        if reference is None:
            said = failed or ""
            verdict: Verdict = "aborted" if failed is None else "gave-up"
            answers: Sequence[Answered] = [self._answered(self._scene.producer.spec.name, verdict, began_s, said)]
        else:
            answers = await wishes.get(request.client, self._plain)(request, reference)
        return RequestOutcome(request, answers, self._retries)

    # What clients wish

    async def _plain(self, request: Request, reference: Reference) -> Sequence[Answered]:
        return [await self._decode(reference, request.decoder)]

    async def _vanish(self, request: Request, reference: Reference) -> Sequence[Answered]:
        del request, reference
        now_s = self._scene.now_s()
        return [Answered(self._scene.producer.spec.name, "aborted", now_s, now_s)]

    async def _abort(self, request: Request, reference: Reference) -> Sequence[Answered]:
        return [await self._ask(reference, request.decoder, abort_after_s=request.delay_s)]

    async def _switch(self, request: Request, reference: Reference) -> Sequence[Answered]:
        first = await self._ask(reference, request.decoder, abort_after_s=request.delay_s)
        if first.verdict in ("right", "wrong"):
            return [first]
        return [first, await self._ask(reference, _other(request.decoder))]

    async def _twice(self, request: Request, reference: Reference) -> Sequence[Answered]:
        async def again() -> Answered:
            await asyncio.sleep(request.delay_s)
            return await self._decode(reference, _other(request.decoder))

        return await asyncio.gather(self._decode(reference, request.decoder), again())

    async def _dawdle(self, request: Request, reference: Reference) -> Sequence[Answered]:
        await asyncio.sleep(request.delay_s)
        return [await self._decode(reference, request.decoder)]

    async def _mixed_up(self, request: Request, reference: Reference) -> Sequence[Answered]:
        other, failed = await self._prefill(self._other)
        if other is None:
            return [self._answered(self._scene.producer.spec.name, "gave-up", self._scene.now_s(), failed or "")]
        mixed = replace(reference, kv_transfer_params=other.kv_transfer_params)
        return [await self._decode(mixed, request.decoder)]

    # What the router does

    async def _prefill(self, prompt: str, abort_after_s: float | None = None) -> tuple[Reference | None, str | None]:
        """Returns the reference; or None, and why there is none, which is None, too, if the client has aborted.

        It waits for a P that is gone, as P comes back.
        """
        said = "no answer"
        try:
            async with asyncio.timeout(PATIENCE_S if abort_after_s is None else abort_after_s):
                while True:
                    try:
                        return await self._scene.router(0).prefill(prompt, salt=self._salt), None
                    except (httpx.TransportError, PrefillError) as error:
                        said = str(error) or repr(error)
                    self._retries += 1
                    await asyncio.sleep(_RETRY_AFTER_S)
        except TimeoutError:
            return None, None if abort_after_s is not None else said

    async def _decode(self, reference: Reference, decoder: int) -> Answered:
        answered = await self._ask(reference, decoder)
        if answered.verdict == "error":
            self._retries += 1
            answered = await self._ask(reference, _other(decoder))
        return answered

    async def _ask(self, reference: Reference, decoder: int, abort_after_s: float | None = None) -> Answered:
        engine, began_s = self._scene.decoders[decoder].spec.name, self._scene.now_s()
        try:
            async with asyncio.timeout(PATIENCE_S if abort_after_s is None else abort_after_s):
                answer = await self._scene.router(decoder).decode(reference, ANSWER_TOKENS)
        except TimeoutError:
            return self._answered(engine, "gave-up" if abort_after_s is None else "aborted", began_s, "")
        except httpx.TransportError as error:
            return self._answered(engine, "error", began_s, repr(error))
        verdict, said = judged(answer.status, answer.token_ids, self._right, answer.body)
        return self._answered(engine, verdict, began_s, said)

    def _answered(self, engine: str, verdict: Verdict, began_s: float, said: str) -> Answered:
        return Answered(engine, verdict, round(began_s, 2), round(self._scene.now_s(), 2), said)


def _other(decoder: int) -> int:
    return (decoder + 1) % DECODERS
