"""kvlease looks at everything that vLLM takes for granted of `kv_transfer_params` before vLLM does (R14)."""

from typing import Any

import pytest

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.producer import ProducerSide
from kvlease.protocol import resolve
from kvlease.testing.pool import CountedPool
from kvlease.vllm.notices import is_notice
from kvlease.vllm.params import unusable
from kvlease.vllm.requests import LeasedRequests
from proof.hostile.references import DEEP, REMARKABLE, SomeRequest, as_vllm, nested
from tests.agent.alone import lone_agent

CONFIG = resolve({})

RIGHT: dict[str, Any] = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_block_ids": [[1, 2], []],
    "remote_engine_id": "P",
    "remote_request_id": "cmpl-1",
    "remote_host": "10.0.0.1",
    "remote_port": 5600,
    "tp_size": 2,
    "dcp_size": 1,
    "pp_size": 1,
    "remote_num_tokens": 33,
    "remote_blocks_expiry_time": None,
    "transfer_mode": "pull",
}
GROUPS = 2
STRANGE = (*REMARKABLE, nested(0, DEEP), nested(1, DEEP))
BORNE: dict[str, tuple[Any, ...]] = {
    "remote_port": (1, 1.0),
    "tp_size": (1,),
    "dcp_size": (1,),
    "pp_size": (1,),
    "remote_num_tokens": (None, 0, 1),
    "remote_blocks_expiry_time": STRANGE,
}
"""The strange values that each param may have; a test below tells those of the last param apart."""


def vetted(**params: Any) -> dict[str, Any]:
    agent = lone_agent(CONFIG)
    requests = LeasedRequests(ProducerSide(CONFIG, agent, CountedPool(0), 1), ConsumerSide(agent), GROUPS)
    left = RIGHT | params
    assert requests.arrive(as_vllm(SomeRequest("r", left))), "without a lease, it is vLLM's own mechanism's"
    refused = params.get("do_remote_prefill", True) and not left["do_remote_prefill"]
    assert requests.counts["refused.bad_reference"] == int(refused)
    return left


def test_what_a_producer_writes_is_left_alone() -> None:
    assert vetted() == RIGHT
    older = {name: RIGHT[name] for name in RIGHT if name not in ("tp_size", "dcp_size", "pp_size", "remote_num_tokens")}
    assert unusable(older, GROUPS) is None


def test_an_engine_that_maps_groups_reads_from_other_groupings() -> None:
    """vllm 57077, 57389: for MLA, vLLM maps the cache's regions: P's groups must be lists, but need not be D's."""
    for groups in (1, GROUPS, GROUPS + 3):
        assert unusable(RIGHT | {"remote_block_ids": [[1, 2]] * groups}, None) is None
    for wrong in ([], [[1]] * 1000, [[1], "x"], [[-1]], 7, None):
        assert unusable(RIGHT | {"remote_block_ids": wrong}, None) is not None
        assert unusable(RIGHT | {"remote_block_ids": wrong}, GROUPS) is not None


@pytest.mark.parametrize(
    "name", ["remote_engine_id", "remote_request_id", "remote_host", "remote_port", "remote_block_ids"]
)
def test_r14_what_is_missing_is_computed_here(name: str) -> None:
    params = {key: value for key, value in RIGHT.items() if key != name}
    assert unusable(params, GROUPS) is not None


@pytest.mark.parametrize("name", ["remote_port", "tp_size", "dcp_size", "pp_size", "remote_num_tokens"])
def test_r14_what_is_no_number_is_computed_here(name: str) -> None:
    for value in STRANGE:
        fits = type(value) in (int, type(None)) and value in BORNE[name]
        assert vetted(**{name: value})["do_remote_prefill"] is fits, ascii(value)[:40]


@pytest.mark.parametrize("name", ["remote_engine_id", "remote_request_id", "remote_host"])
def test_r14_what_is_no_name_is_computed_here(name: str) -> None:
    for value in STRANGE:
        fits = isinstance(value, str) and 0 < len(value) <= 1024
        assert vetted(**{name: value})["do_remote_prefill"] is fits, ascii(value)[:40]


@pytest.mark.parametrize(
    "blocks",
    [*STRANGE, [[1]], [[1], [2], [3]], [[1], 2], [[1], ["2"]], [[True], []], [[-1], []], [[2**40], []], [{}, {}]],
    ids=lambda value: type(value).__name__,
)
def test_r14_what_are_no_blocks_is_computed_here(blocks: Any) -> None:
    left = vetted(remote_block_ids=blocks)
    assert left["do_remote_prefill"] is False


def test_the_way_back_from_a_decode_engine_is_not_taken() -> None:
    assert vetted(do_remote_prefill=False, do_remote_decode=True)["remote_block_ids"] is None


@pytest.mark.parametrize("notice", [b"HB:", b"HB:r1,r2", b"cmpl-1:2", b"a:b:c:1", "é:1".encode(), b"HB:no:number"])
def test_notices_of_vllm_are_heard(notice: bytes) -> None:
    assert is_notice(notice)


@pytest.mark.parametrize(
    "notice", [b"", b"\xff\xfe:1", b"no colon", b"r:", b"r:x", b"r:-1", b"r:1.5", b"r:" + b"9" * 5000]
)
def test_r14_what_is_no_notice_is_not(notice: bytes) -> None:
    """R14: a worker drops what is no notice, any of which ends a worker of stock vLLM."""
    assert not is_notice(notice)
