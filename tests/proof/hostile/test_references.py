"""Any `kv_transfer_params` that a client or a router may send are read rightly or refused (R9, R14)."""

from typing import Any, NamedTuple

import pytest

from kvlease.agent.core import AgentCore
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.producer import ProducerSide
from kvlease.errors import BadReference
from kvlease.protocol import LeaseRef, resolve
from kvlease.testing.pool import CountedPool
from kvlease.vllm.params import side_channel
from kvlease.vllm.requests import LeasedRequests
from proof.hostile.references import DEEP, OFFER, PROMPT, REMARKABLE, SomeRequest, as_vllm, nested, reference_holds
from tests.agent.alone import lone_agent

CONFIG = resolve({})
RIGHT = LeaseRef(1, 2, 3, 4000, PROMPT).to_params()
STRANGE = (*REMARKABLE, nested(0, DEEP), nested(1, DEEP))


class Decode(NamedTuple):
    """A decode engine's scheduler, as far as it handles requests."""

    agent: AgentCore
    side: ConsumerSide
    requests: LeasedRequests

    def ask(self, **params: Any) -> bool:
        """Brings a request with a reference, with these params in it. Returns True if it is not leased."""
        return self.requests.arrive(as_vllm(SomeRequest("r", OFFER | {"kv_lease": RIGHT} | params)))

    @property
    def refused(self) -> int:
        """The number of requests that were refused: computed here, or never read."""
        return self.requests.counts["refused.bad_reference"] + self.side.bad_references


def decode_engine() -> Decode:
    agent = lone_agent(CONFIG, lambda: 1.0)
    side = ConsumerSide(agent)
    return Decode(agent, side, LeasedRequests(ProducerSide(CONFIG, agent, CountedPool(0), 1), side, groups=1))


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", [*RIGHT, "kv_lease"])
def test_r14_any_value_anywhere_in_a_reference_is_read_rightly_or_refused(name: str, value: Any) -> None:
    reference_holds(value if name == "kv_lease" else RIGHT | {name: value})


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", ["remote_host", "remote_port", "kv_lease"])
def test_r14_any_value_beside_a_reference_fails_its_own_request_only(name: str, value: Any) -> None:
    d = decode_engine()
    is_computed_here = d.ask(**{name: value})
    assert d.refused == d.side.bad_references + is_computed_here
    assert d.agent.turn(2.0) == (d.refused == 0)
    assert d.side.begin(["r"])[1] == (frozenset({"r"}) if d.side.bad_references else frozenset())
    d.side.release("r")
    assert d.side.waiting == 0


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
def test_r14_a_reference_that_cannot_be_read_is_never_read_without_its_fence(value: Any) -> None:
    d = decode_engine()
    assert not d.ask(kv_lease=value)
    assert d.side.begin(["r"]) == ({}, frozenset({"r"}))


@pytest.mark.parametrize("host", ["p.example\n2026 ERROR", "a;b", "p\x00", "", "h" * 256, "\ud800", "a b", "tcp://p"])
def test_r14_a_host_is_a_name_or_an_address(host: str) -> None:
    with pytest.raises(BadReference, match="remote_host is "):
        side_channel(OFFER | {"remote_host": host})
    d = decode_engine()
    d.ask(remote_host=host)
    assert d.refused == 1


@pytest.mark.parametrize("host", ["p.example", "10.0.0.1", "fe80::1%eth0", "[::1]", "P_1-x.svc.cluster.local"])
def test_a_name_or_an_address_is_a_host(host: str) -> None:
    d = decode_engine()
    assert not d.ask(remote_host=host)
    assert d.refused == 0


@pytest.mark.parametrize("again", [{}, RIGHT | {"token": "00000000000000ff"}, RIGHT | {"prompt_tokens": 65}])
def test_r12_a_request_that_is_named_twice_leaves_nothing_behind(again: Any) -> None:
    d = decode_engine()
    d.ask()
    assert not d.ask(kv_lease=again), "it is known already, and stock is not to read it"
    d.side.release("r")
    d.agent.turn(2.0)
    d.agent.turn(3.0)
    assert not d.agent.peer.lessee.snapshot().holders
