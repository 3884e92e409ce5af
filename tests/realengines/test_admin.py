"""An operator at both doors of a real P: what it holds is seen, released, and drained, and P leaves when told to."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kvlease.up.ports import free_port
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import PrefillError, Router, open_client
from proof.realengines.spec import HOST
from tests.realengines.pairs import TOKENS, Pair, Scene, begin, consumer, gather, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(240)]

KEY = "the-key-of-vllms-api"
BEARER = {"authorization": f"Bearer {KEY}"}
PORT = free_port(HOST)


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    yield from running_pair(
        producer(
            model,
            name="P-admin",
            extra_config={"kv_lease_duration": 30.0, "kv_lease_listen": f"{HOST}:{PORT}"},
            extra_args=("--api-key", KEY, "--shutdown-timeout", "60"),
            extra_env={"VLLM_PLUGINS": "kvlease"},
        ),
        consumer(model, name="D-admin", engine_id="decode-0"),
        logs,
    )


class Operator:
    """An operator at one of P's doors."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=f"{url}/v1/kvlease", headers=BEARER, timeout=90, trust_env=False)

    async def ask(self, method: str, path: str) -> tuple[int, Any]:
        response = await self._client.request(method, path)
        return response.status_code, response.json()


def doors(pair: Pair) -> tuple[Operator, Operator]:
    return Operator(pair.p.url), Operator(f"http://{HOST}:{PORT}")


def play(pair: Pair, scene: Any) -> None:
    """`Pair.play` with vLLM's key."""

    async def run() -> None:
        async with open_client() as client:
            client.headers.update(BEARER)
            await scene(Scene(pair, Router(client, pair.p.url, pair.d.url), client), *doors(pair))

    asyncio.run(run())


def test_vllms_key_guards_its_door(pair: Pair) -> None:
    url = f"{pair.p.url}/v1/kvlease/health"
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(url, headers=BEARER, trust_env=False).status_code == 200


def test_both_doors_tell_what_waits_and_for_whom(pair: Pair) -> None:
    async def scene(s: Scene, api: Operator, own: Operator) -> None:
        (prompt,) = draw_prompts(1, seed=301, shortest=200, longest=400)
        async with s.busy(pair.d):
            reference = await s.router.prefill(prompt)
            for door in (api, own):
                status, page = await door.ask("GET", "/leases")
                (lease,) = page["leases"]
                assert (status, lease["state"], lease["consumers"]) == (200, "granted", [])
                assert reference.kv_transfer_params["kv_lease"]["token"].startswith(lease["token"])
                assert lease["tokens"] == reference.kv_transfer_params["kv_lease"]["prompt_tokens"]
                assert lease["blocks"] == -(-lease["tokens"] // 32)
            decode = begin(s.router.decode(reference, TOKENS))
            await s.wait(pair.p, lambda m: m.value("kvlease:claimed_leases") == 1, "asked to hold it")
            for door in (api, own):
                (lease,) = (await door.ask("GET", "/leases?state=claimed&consumer=decode-0"))[1]["leases"]
                (session,) = (await door.ask("GET", "/sessions"))[1]["consumers"]
                (engine,) = (await door.ask("GET", "/health"))[1]["engines"]
                assert lease["consumers"][0]["incarnation"] == session["incarnation"]
                assert engine["held"]["blocks"] == lease["blocks"] == session["blocks"]
                assert engine["held"]["bytes"] == lease["bytes"] > lease["blocks"] * 32
                assert engine["pool_blocks"] == pair.p.spec.num_blocks
        await s.check([reference], [await decode])

    play(pair, scene)
    assert pair.lease_ends().get("released", 0) > 0


def test_a_released_lease_is_computed_by_its_consumer(pair: Pair) -> None:
    """Nobody reads a wrong block, and P has the memory at once, though it is idle."""

    async def scene(s: Scene, api: Operator, own: Operator) -> None:
        prompts = draw_prompts(2, seed=302, shortest=200, longest=400)
        async with s.busy(pair.d):
            references = await s.prefill(prompts)
            decodes = [begin(s.router.decode(reference, TOKENS)) for reference in references]
            await s.wait(pair.p, lambda m: m.value("kvlease:claimed_leases") == 2, "asked to hold them")
            for door in (api, own):
                lease = (await door.ask("GET", "/leases?state=claimed"))[1]["leases"][0]
                path = f"/leases/{lease['token']}/release"
                assert await door.ask("POST", path) == (200, {"released": True})
                for _ in range(50):
                    status, _ = await door.ask("POST", path)
                    if status == 404:
                        break
                    await asyncio.sleep(0.02)
                assert status == 404, "its words are clear, and the lessor knows"
            assert (await own.ask("GET", "/drain"))[1] == {"draining": False, "left": 0}
        await s.check(references, await gather(decodes))

    before = pair.d.metrics().value("kvlease:lost_leases_total")
    with pair.counting(ends={"revoked": 2}):
        play(pair, scene)
    assert pair.d.metrics().value("kvlease:lost_leases_total") == before + 2


def test_a_drain_under_traffic_loses_nothing(pair: Pair) -> None:
    """P grants nothing from then on, and answers whoever asks: their D computes."""

    async def request(s: Scene, prompt: str) -> bool:
        try:
            reference = await s.router.prefill(prompt)
        except PrefillError:
            return False
        await s.check([reference], [await s.router.decode(reference, TOKENS)])
        return "kv_lease" in reference.kv_transfer_params

    async def scene(s: Scene, api: Operator, own: Operator) -> None:
        prompts = draw_prompts(8, seed=303, shortest=100, longest=600)
        for prompt in prompts:
            await s.right(prompt)
        traffic = [begin(request(s, prompt)) for prompt in prompts]
        await s.wait(pair.p, lambda m: m.value("kvlease:active_leases") > 0, "granting")
        status, state = await api.ask("POST", "/drain?wait=60")
        assert (status, state) == (200, {"draining": True, "left": 0})
        assert (await own.ask("GET", "/leases?state=granted"))[1]["total"] == 0
        assert (await own.ask("GET", "/leases?state=claimed"))[1]["total"] == 0
        await gather(traffic)
        assert not await request(s, prompts[0]), "nothing is granted any more"
        assert (await own.ask("GET", "/drain"))[1] == {"draining": True, "left": 0}
        assert (await own.ask("DELETE", "/drain"))[0] == 200
        assert await request(s, prompts[1])

    play(pair, scene)


def test_the_listener_answers_while_p_shuts_down(pair: Pair) -> None:
    """P waits for its last lease (`--shutdown-timeout`); vLLM's own door is shut then. It is the last test."""

    async def scene(s: Scene, _api: Operator, own: Operator) -> None:
        (prompt,) = draw_prompts(1, seed=304, shortest=200, longest=400)
        await s.right(prompt)
        reference = await s.router.prefill(prompt)
        ended = begin(asyncio.to_thread(pair.p.terminate, 60.0))
        await asyncio.sleep(2)
        (lease,) = (await own.ask("GET", "/leases?state=granted"))[1]["leases"]
        assert lease["age_s"] > 1
        assert await own.ask("POST", "/drain?wait=0.1") == (202, {"draining": True, "left": 1})
        await s.check([reference], [await s.router.decode(reference, TOKENS)])
        assert await ended, "something was left to kill"
        with pytest.raises(httpx.TransportError):
            await own.ask("GET", "/health")

    play(pair, scene)
