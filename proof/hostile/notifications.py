"""The sorting of NIXL's notifications, and the choice of addresses to load, without NIXL (R14)."""

from kvlease.agent.nixl import agent_name, incarnation_of, names_only, sort_out
from proof.hostile.choices import Choices

PARTS = (
    b"kvlease-",
    b"0123456789abcdef",
    b"ffffffffffffffff",
    b"FFFFFFFFFFFFFFFF",
    b"\xff",
    b"\n",
    b"",
    b"nixlSerDes|Agent",
)


def sorting_holds(data: bytes) -> None:
    """Asserts that only names of lease agents count as such, and that nothing is lost or counted twice."""
    choices = Choices(data)
    names: list[str | bytes] = []
    while choices.left and len(names) < 8:
        raw = b"".join(choices.pick((*PARTS, choices.take(3))) for _ in range(choices.below(4)))
        names.append(raw if choices.below(2) else raw.decode("utf-8", "replace"))
    arrived = {name: [b"x"] * (1 + i) for i, name in enumerate(names)}
    messages, foreign = sort_out(arrived)
    assert len(messages) + foreign == sum(map(len, arrived.values()))
    for sender, _ in messages:
        assert any(name in (agent_name(sender), agent_name(sender).encode()) for name in names)
    for name in names:
        text = name if isinstance(name, str) else name.decode("utf-8", "replace")
        known = incarnation_of(text)
        assert known is None or agent_name(known) == text
        _address_holds(text.encode("utf-8", "replace") + data)


def _address_holds(address: bytes) -> None:
    """Asserts that an address is loaded only if it names its own agent and no other one."""
    for peer in (0x0123456789ABCDEF, 2**64 - 1):
        own = agent_name(peer).encode()
        assert names_only(peer, address) == (address.count(b"kvlease-") == address.count(own) > 0)
