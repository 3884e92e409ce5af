"""The engines with everything switched on, and the situations in which each question comes up."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kvlease.console.progress import Story
from kvlease.up.ports import free_port
from proof.demo.stage import (
    DECODER_BLOCKS,
    DECODER_TOKENS,
    PRODUCER_BLOCKS,
    PRODUCER_TOKENS,
    REQUESTS,
    Stage,
    waiting_on_decoder,
)
from proof.questions.asking import OperatorQuestion, QuestionAnswered, ask
from proof.realengines.cores import choose_cores
from proof.realengines.engine import Engine, EngineError
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Answer, open_client
from proof.realengines.spec import HOST, EngineSpec, Role

TERM_S = 6.0
HAND_OVERS = 60
"""The number of requests that go well before anything happens: advice on the term needs some."""

_SILENT_S = 3.0
"""Longer than two intervals of renewal, and shorter than leases live without one."""
_EXPIRED_WITHIN_S = 4 * TERM_S
_DRAIN_WAIT_S = 8
_HELD = "kvlease:active_leases"
_LONGEST = 1200
_SEED = 2026


async def play(
    model: Path, folder: Path, story: Story, hand_overs: int = HAND_OVERS
) -> AsyncIterator[QuestionAnswered]:
    """Yields each question with its answer, in the order in which the situations come.

    Logs and events are in `folder`. Raises EngineError where an engine does not start, or a situation does not come.
    """
    async with _stage(model, folder, story) as stage:
        asker = _Asker(stage, folder / "events")
        await _hand_over(stage, hand_overs)
        story.say(f"{hand_overs} requests have gone well")
        yield await asker.installation()
        prompts = iter(draw_prompts(3 * REQUESTS, seed=_SEED + 1, longest=_LONGEST))
        async with waiting_on_decoder(stage, [next(prompts) for _ in range(REQUESTS)]) as requests:
            yield await asker.leases()
            story.say("D stands still")
            stage.decoder.pause()
            try:
                await asyncio.sleep(_SILENT_S)
                yield await asker.slow()
                await _all_over(stage)
                await stage.overwrite_free_blocks()
            finally:
                stage.decoder.resume()
            story.say("D goes on; what it reads is others'")
            late = await requests.let_them_run()
        yield await asker.late()
        yield await asker.story_of(_request_id(late[0]))
        yield await asker.term()
        async with waiting_on_decoder(stage, [next(prompts) for _ in range(REQUESTS)]) as requests:
            done = asyncio.create_task(requests.let_them_run())
            yield await asker.drain()
            await done
        await stage.client.delete(f"{stage.producer.url}/v1/kvlease/drain")
        async with waiting_on_decoder(stage, [next(prompts) for _ in range(REQUESTS)]):
            story.say("D is killed")
            await asyncio.to_thread(stage.decoder.kill)
            yield await asker.dead()


@dataclass(frozen=True)
class _Asker:
    """The questions, with the addresses of these engines."""

    stage: Stage
    events: Path

    @property
    def _p(self) -> str:
        return self.stage.producer.url.removeprefix("http://")

    @property
    def _d(self) -> str:
        return self.stage.decoder.url.removeprefix("http://")

    async def _ask(self, asks: str, command: str, expects: str) -> QuestionAnswered:
        # In a thread: the requests that wait are this one's.
        return await asyncio.to_thread(ask, OperatorQuestion(asks, command, expects))

    async def installation(self) -> QuestionAnswered:
        return await self._ask(
            "What is wrong with my installation or configuration?",
            f"kvlease doctor --prefill http://{self._p} --decode http://{self._d}",
            r"looked at this machine.*granted 1,.* intact 1",
        )

    async def leases(self) -> QuestionAnswered:
        return await self._ask(
            "Which leases does this P hold, for whom, since when, how much memory?",
            f"kvlease top --once {self._p} {self._d}",
            rf"claimed +(decode-0|{re.escape(self._d)}) ",
        )

    async def slow(self) -> QuestionAnswered:
        return await self._ask(
            "Is a D slow?",
            f"curl -s {self._p}/v1/kvlease/sessions",
            r'"engine_id":"decode-0","state":"active","silent_s":[2-9]',
        )

    async def dead(self) -> QuestionAnswered:
        return await self._ask(
            "Is a D dying?",
            f"kvlease top --once {self._p} {self._d}",
            rf"{re.escape(self._p)} +P +up .*{re.escape(self._d)} +\S+ +down .*connection refused",
        )

    async def late(self) -> QuestionAnswered:
        return await self._ask(
            "Was anything read late?",
            f"curl -s {self._d}/metrics | grep -E '^kvlease:(fence_checks|lost_leases|wasted_prefill_tokens)_total'",
            r'(verdict="revoked"[^\n]*|lost_leases_total[^\n]*) [1-9]',
        )

    async def story_of(self, request: str) -> QuestionAnswered:
        return await self._ask(
            "What happened to request X?", f"kvlease explain {request} --events {self.events}", r"Verdict:.*Do:"
        )

    async def term(self) -> QuestionAnswered:
        return await self._ask(
            "Is my term right?",
            f"kvlease doctor --no-machine http://{self._p} http://{self._d}",
            r"the term \([^\n]*\n +(Of \d+ claims|Leases claimed so far)",
        )

    async def drain(self) -> QuestionAnswered:
        return await self._ask(
            "May I shut this P down?",
            f"curl -s -X POST '{self._p}/v1/kvlease/drain?wait={_DRAIN_WAIT_S}'",
            r'"draining":true,"left":0',
        )


async def _hand_over(stage: Stage, count: int) -> None:
    for number in range(count):
        (prompt,) = draw_prompts(1, seed=_SEED + 100 + number, longest=_LONGEST)
        answer = await stage.router.decode(await stage.router.prefill(prompt), 1)
        answer.tokens_or_raise("a request before all faults failed")


async def _all_over(stage: Stage) -> None:
    """Waits until P holds no lease. P tells its figures in steps, so it is given some."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _EXPIRED_WITHIN_S
    while (await asyncio.to_thread(stage.producer.metrics)).value(_HELD) > 0:
        if loop.time() > deadline:
            raise EngineError(f"P still held leases {_EXPIRED_WITHIN_S:g} s after D stood still")
        await stage.one_new_prompt()


def _request_id(answer: Answer) -> str:
    answer.tokens_or_raise("D did not answer after its stall")
    request: str = json.loads(answer.body)["id"]
    return request


@asynccontextmanager
async def _stage(model: Path, folder: Path, story: Story) -> AsyncIterator[Stage]:
    cores = choose_cores()
    p = Engine(
        _spec("prefill-0", model, "kv_producer", folder, cores.producer, PRODUCER_BLOCKS, PRODUCER_TOKENS, 16), folder
    )
    # One seat: whoever comes later waits.
    d = Engine(
        _spec("decode-0", model, "kv_consumer", folder, cores.decoder, DECODER_BLOCKS, DECODER_TOKENS, 1), folder
    )
    with p, d:
        with story.busy("the engines start"):
            for engine in (p, d):
                await asyncio.to_thread(engine.wait_ready)
        async with open_client() as client:
            yield Stage("kvlease", p, d, client, TERM_S, story)


def _spec(
    name: str, model: Path, role: Role, folder: Path, core: int, blocks: int, tokens: int, seats: int
) -> EngineSpec:
    return EngineSpec(
        name=name,
        engine_id=name,
        model=model,
        role=role,
        connector="kvlease",
        extra_config={
            "kv_lease_duration": TERM_S,
            "kv_lease_listen": f"{HOST}:{free_port(HOST)}",
            "kv_lease_events": str((folder / "events").resolve()),
        },
        num_blocks=blocks,
        max_model_len=tokens,
        max_num_seqs=seats,
        cores=(core,),
        extra_env={"VLLM_PLUGINS": "kvlease"},
    )
