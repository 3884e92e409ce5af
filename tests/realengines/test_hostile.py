"""Real engines live, and answer rightly, whatever clients and peers send them (R14, S1)."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from kvlease.metrics.scraped import Metrics
from kvlease.protocol.messages import MAGIC, VERSION, Bye, Hello, Message, Renew, encode
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Answer, Reference, completion, open_client
from tests.realengines.nixl_peer import PeerProcess
from tests.realengines.pairs import TOKENS, Pair, Scene, gather, read_fresh

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.usefixtures("nothing_left")]

STRANGER = 0xBAD
AT_ONCE = 8
NESTED: Any = 0
for _ in range(60):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**63, 10**30, 1e308, "", "x", "\n", [], {}, [[]], [[1]], ["1"]),
    NESTED,
)


@pytest.fixture(scope="module")
def pair(shared_pair: Pair) -> Pair:
    return shared_pair


def chosen(right: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The params that are known to end stock vLLM's engine, or to make it wait without end."""
    lease = right["kv_lease"]
    yield {"do_remote_prefill": True}
    yield {"do_remote_prefill": True, "kv_lease": lease}
    for name in ("remote_block_ids", "remote_engine_id", "remote_host", "remote_request_id", "tp_size"):
        yield {key: value for key, value in right.items() if key != name}
    broken: tuple[Any, ...] = (
        "x",
        [],
        [[]],
        [[-1]],
        [[10**6]],
        [[0.5]],
        [["1"]],
        [[1], [2]],
        [[1] * 400],
        [[1, 1, 1]],
        NESTED,
    )
    for blocks in broken:
        yield {**right, "remote_block_ids": blocks}
    for name, value in (
        ("remote_port", "5600"),
        ("remote_port", 9),
        ("remote_host", "no such host"),
        ("remote_engine_id", []),
        ("tp_size", "x"),
        ("tp_size", 3),
        ("pp_size", 2),
        ("dcp_size", 2),
        ("remote_num_tokens", "x"),
        ("remote_num_tokens", 10**9),
    ):
        yield {**right, name: value}
    for name, value in (
        ("token", "f" * 16),
        ("incarnation", "0" * 16),
        ("slot", 1),
        ("slot", 10**6),
        ("version", 2**63),
        ("term_ms", NESTED),
    ):
        yield {**right, "kv_lease": {**lease, name: value}}
    yield {**right, "do_remote_prefill": False, "do_remote_decode": True, "remote_num_tokens": "x"}


def drawn(right: Mapping[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """The right params with some of them replaced."""
    chance = random.Random(14)
    for _ in range(count):
        params = {**right, "kv_lease": dict(right["kv_lease"])}
        for _ in range(chance.randrange(1, 4)):
            part = params["kv_lease"] if isinstance(params["kv_lease"], dict) and chance.random() < 0.4 else params
            part[chance.choice(list(part) or ["x"])] = chance.choice(VALUES)
        yield params


async def borne(s: Scene, params: dict[str, Any], known: Mapping[str, Any], prompt: str) -> None:
    """Asserts that a hostile request about a prefill of its own is answered, and that any tokens of it are right.

    A request that names other blocks may get wrong tokens, and through the prefix cache so may later requests with the
    same prompt: nothing binds block ids to a lease. Stock trusts its routers in the same way.
    """
    fresh = (await s.router.prefill(prompt)).kv_transfer_params
    used = _with(params, known, fresh)
    answer: Answer = await s.router.decode(Reference(prompt, used), TOKENS)
    assert 200 <= answer.status < 600
    if answer.status == 200 and used.get("remote_block_ids") == fresh["remote_block_ids"]:
        assert answer.token_ids == await s.right(prompt), params


def test_r14_hostile_params_are_borne_by_a_decode_engine(pair: Pair) -> None:
    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=30)
        known = dict((await s.router.prefill(draw_prompts(1, seed=31, longest=300)[0])).kv_transfer_params)
        plays = [*chosen(known), *drawn(known, 24)]
        prompts = draw_prompts(len(plays), seed=32, longest=300)
        for start in range(0, len(plays), AT_ONCE):
            batch = slice(start, start + AT_ONCE)
            await gather([borne(s, params, known, p) for params, p in zip(plays[batch], prompts[batch], strict=True)])
            await read_fresh(s, seed=40 + start, count=1, longest=400)

    refused = _refused(pair.d.metrics(), "bad_reference")
    pair.play(scene)
    assert _refused(pair.d.metrics(), "bad_reference") >= refused + 10
    assert pair.d.metrics().value("kvlease:agent_up") == 1


def _with(params: dict[str, Any], known: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """The hostile params, made to name the fresh prefill wherever they were right about the one that they came from."""
    lease = params.get("kv_lease")
    updated = {key: fresh[key] if value == known.get(key, ()) else value for key, value in params.items()}
    if isinstance(lease, dict):
        old, new = known["kv_lease"], fresh["kv_lease"]
        updated["kv_lease"] = {key: new[key] if value == old.get(key, ()) else value for key, value in lease.items()}
    return updated


def test_r14_hostile_params_are_borne_by_a_prefill_engine(pair: Pair) -> None:
    async def scene(s: Scene) -> None:
        prompt = draw_prompts(1, seed=40, longest=300)[0]
        await s.right(prompt)
        known = dict((await s.router.prefill(prompt)).kv_transfer_params)
        async with open_client() as client:
            for params in drawn({**known, "do_remote_prefill": False, "do_remote_decode": True}, 20):
                payload = completion(prompt, max_tokens=1) | {"kv_transfer_params": params}
                response = await client.post(f"{pair.p.url}/v1/completions", json=payload)
                assert 200 <= response.status_code < 600
        await read_fresh(s, seed=41)

    pair.play(scene)


def _refused(metrics: Metrics, kind: str) -> float:
    return metrics.value("kvlease:refused_total", kind=kind)


def test_s4_a_hostile_peer_of_the_lease_agent_is_borne_and_counted(pair: Pair) -> None:
    from kvlease.vllm.side_channel import fetch_card

    card = fetch_card(("127.0.0.1", pair.p.side_channel_port))
    wrong = [b"", b"junk", MAGIC, MAGIC + bytes([VERSION + 1]), MAGIC + bytes([VERSION]) + b"\xc1"] * 5
    before = {kind: _refused(pair.p.metrics(), kind) for kind in ("magic", "encoding", "body", "hello_sender")}
    with PeerProcess(STRANGER) as stranger:
        stranger.call("connect", card.incarnation, card.address.hex())
        own = stranger.address
        talk: list[Message] = [
            Hello(VERSION, 7, 1, "not its own", own),
            Hello(VERSION, STRANGER, 1, "stranger", b"\xff" * 2000),
            Hello(VERSION, STRANGER, 2, "stranger", own.replace(b"bad", b"\xffad")),
            Hello(VERSION, STRANGER, 3, "stranger", own),
            Renew(4, list(range(800)), list(range(50)), 1),
            Bye(1),
        ]
        for payload in [*wrong, *map(encode, talk)]:
            assert stranger.call("send", card.incarnation, payload.hex()) is None

        async def scene(s: Scene) -> None:
            await read_fresh(s, seed=50)

        pair.play(scene)
    # Each malformed message was sent five times, and three of the five beginnings are no magic.
    expected = {"magic": 15, "encoding": 5, "body": 5, "hello_sender": 1}
    pair.p.wait_for_metrics(
        lambda m: {kind: _refused(m, kind) - before[kind] for kind in expected} == expected, "done with what was wrong"
    )
    assert pair.p.metrics().value("kvlease:agent_up") == 1
