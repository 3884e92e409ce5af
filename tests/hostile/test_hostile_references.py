"""`kv_transfer_params` as a client or a router may send them: any JSON, and then some (R9, R14)."""

from types import SimpleNamespace
from typing import Any

import pytest
from references import DEEP, PROMPT, REMARKABLE, nested, prompt_of, reference_holds

from kvlease.agent.cards import MemoryCards
from kvlease.agent.core import AgentCore
from kvlease.agent.memory import MemoryNetwork, MemoryTransport
from kvlease.protocol import LeaseRef, resolve
from kvlease.roles.consumer import ConsumerSide

RIGHT = LeaseRef(1, 2, 3, 4000, PROMPT).to_params()
STRANGE = (*REMARKABLE, nested(0, DEEP), nested(1, DEEP))


def consumer() -> tuple[ConsumerSide, AgentCore]:
    network = MemoryNetwork()
    agent = AgentCore(
        resolve({})[0], "D", lambda own: MemoryTransport(network, own), MemoryCards({}), clock=lambda: 1.0
    )
    return ConsumerSide(agent, prompt_of), agent


def asking(**params: Any) -> Any:
    right: dict[str, Any] = {
        "do_remote_prefill": True,
        "remote_host": "p.example",
        "remote_port": 5600,
        "kv_lease": RIGHT,
    }
    return SimpleNamespace(request_id="r", kv_transfer_params=right | params)


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", [*RIGHT, "kv_lease"])
def test_r14_any_value_anywhere_in_a_reference_is_read_rightly_or_refused(name: str, value: Any) -> None:
    reference_holds(value if name == "kv_lease" else RIGHT | {name: value})


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", ["remote_host", "remote_port", "kv_lease"])
def test_r14_any_value_beside_a_reference_fails_its_own_request_only(name: str, value: Any) -> None:
    side, agent = consumer()
    assert side.take_on(asking(**{name: value}))
    assert agent.step(2.0) == (side.bad_references == 0)
    assert side.begin(["r"])[1] == (frozenset({"r"}) if side.bad_references else frozenset())
    side.release("r")
    assert side.waiting == 0


@pytest.mark.parametrize("host", ["p.example\n2026 ERROR", "a;b", "p\x00", "", "h" * 256, "\ud800", "a b", "tcp://p"])
def test_r14_a_host_is_a_name_or_an_address(host: str) -> None:
    side, _ = consumer()
    side.take_on(asking(remote_host=host))
    assert side.bad_references == 1


@pytest.mark.parametrize("host", ["p.example", "10.0.0.1", "fe80::1%eth0", "[::1]", "P_1-x.svc.cluster.local"])
def test_a_name_or_an_address_is_a_host(host: str) -> None:
    side, _ = consumer()
    side.take_on(asking(remote_host=host))
    assert side.bad_references == 0


def test_r12_a_request_that_is_named_twice_leaves_nothing_behind() -> None:
    side, agent = consumer()
    side.take_on(asking())
    side.take_on(asking(kv_lease={}))
    side.release("r")
    agent.step(2.0)
    agent.step(3.0)
    assert not agent._lessee._lease_of
