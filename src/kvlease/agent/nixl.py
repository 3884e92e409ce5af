"""Lease messages as NIXL notifications, over whatever network NIXL's backend finds between two engines.

What NIXL 1.5.1 with UCX was seen to do, over shared memory and over TCP; `tests/realengines/test_nixl_transport.py`
holds on to the parts that the lease agent relies on:

- Nothing moves without `receive`: it is what makes progress, for what was sent as much as for what arrives. The first
  message to a peer needs some calls of it on both sides.
- A message of a peer that we have not connected to arrives, under the peer's own name.
- A peer killed with SIGKILL: the first or second `send` after it raises, within 5 ms when we make progress, and so
  does every later one. Connecting to it again raises at once.
- Disconnecting takes microseconds, also when the peer is dead or stopped. What was sent before still gets there, and
  the peer's messages still reach us. Connected again, messages pass in both directions.
- A stopped (SIGSTOP) or stuck peer is no error and blocks nobody: messages queue up in our memory, 12 to 16 KB for
  each of 8 KB, without bound, and it gets them all when it goes on. **NIXL knows no back pressure**; whoever sends must
  stop when nothing is acknowledged. A network cut without a reset looks the same (for 45 s at least), and heals so.
  Disconnecting does not free that queue; the peer's death does, or `close`.
- A damaged address is refused and does no harm, with one exception: is its connection part whole and its (empty)
  memory part not, then NIXL keeps half of it, and that peer cannot be connected again by this agent.
"""

import importlib
import re
from collections.abc import Mapping, Sequence

from kvlease.errors import PeerGone
from kvlease.fence import AgentErrors

_NAME = re.compile(r"kvlease-([0-9a-f]{16})")
_ANY_NAME = re.compile(rb"kvlease-.{0,16}", re.DOTALL)


def agent_name(incarnation: int) -> str:
    """The NIXL agent name of the lease agent `incarnation` (u64)."""
    assert 0 <= incarnation < 1 << 64, incarnation
    return f"kvlease-{incarnation:016x}"


def incarnation_of(name: str) -> int | None:
    """The incarnation in a lease agent's name; None when `name` is no lease agent's."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None


def names_only(peer: int, address: bytes) -> bool:
    """Whether `address` names the lease agent `peer` and no other, so that loading it touches nobody else's."""
    named = _ANY_NAME.findall(address)
    return bool(named) and set(named) == {agent_name(peer).encode()}


def sort_out(arrived: Mapping[str | bytes, Sequence[bytes]]) -> tuple[list[tuple[int, bytes]], int]:
    """Notifications by the name of the agent that sent them: those of lease agents, and how many are not."""
    messages: list[tuple[int, bytes]] = []
    foreign = 0
    for name, payloads in arrived.items():
        sender = incarnation_of(_as_str(name))
        if sender is None:
            foreign += len(payloads)
        else:
            messages += [(sender, payload) for payload in payloads]
    return messages, foreign


def errors_of(package: str) -> AgentErrors:
    """The errors of a NIXL package: each platform has another, with errors of its own, which have no common base."""
    bindings = importlib.import_module(f"{package}._bindings")
    names = [name for name in vars(bindings) if name.startswith("nixl") and name.endswith("Error")]
    return AgentErrors(tuple(getattr(bindings, name) for name in names), bindings.nixlRemoteDisconnectError)


class NixlTransport:
    """A `Transport` over a NIXL agent of its own, without memory and without a progress thread.

    The engine's own agent is not shared: it is not safe to use from a second thread, and a stock engine cannot parse
    foreign notifications on it. A progress thread would spin a core.

    Attributes: `foreign` counts what was dropped since it did not come from a lease agent (a poll that NIXL could not
    decode counts once).
    """

    def __init__(self, incarnation: int, backends: Sequence[str] = ("UCX",), package: str = "nixl") -> None:
        """Create the NIXL agent (some 20 ms, 5 MB). `incarnation` is this agent's own (u64).

        `package` is the NIXL to use; each platform has another.
        """
        # Only here: `import kvlease` must work where NIXL is not installed.
        api = importlib.import_module(f"{package}._api")
        config = api.nixl_agent_config(enable_prog_thread=False, backends=list(backends))
        self._agent = api.nixl_agent(agent_name(incarnation), config)
        self._address: bytes = self._agent.get_agent_metadata()
        # Any of them means that there is no talking to this peer: strangers choose the addresses that we are told, and
        # have many ways to be wrong. RemoteDisconnect: the peer died. Backend: nobody listens there, or UCX gave up.
        # NotAllowed: an agent of that name is known, at another address.
        self._errors = errors_of(package).all
        # Connected peers, by incarnation: True while reachable, False once found dead, until disconnected.
        self._reachable: dict[int, bool] = {}
        self.foreign = 0

    @property
    def address(self) -> bytes:
        """This agent's NIXL metadata, 300 to 500 B."""
        return self._address

    def remembers(self, name: str | bytes) -> bool:
        """Whether NIXL keeps an agent of this name: an address that was refused is to leave nothing behind."""
        known: bool = self._agent.check_remote_metadata(name)
        return known

    def connect(self, peer: int, address: bytes) -> None:
        """Make `peer` reachable by `send`; takes 1 to 10 ms. A no-op when it is.

        Raises `PeerGone` when nobody listens at `address`, when it is not the metadata of `peer`, or when `peer` was
        found dead and has not been disconnected since.
        """
        if peer in self._reachable:
            if not self._reachable[peer]:
                raise PeerGone(f"{agent_name(peer)} was found dead: disconnect it before connecting again")
            return
        if not names_only(peer, address):
            raise PeerGone(f"the address given for {agent_name(peer)} is not its own")
        try:
            name = self._agent.add_remote_agent(address)
        except self._errors as error:
            raise PeerGone(f"{agent_name(peer)} cannot be reached at the address given: {error!r}") from error
        if _as_str(name) != agent_name(peer):
            # By the name that NIXL gave, which may be no text at all.
            self._agent.remove_remote_agent(name)
            raise PeerGone(f"the address given for {agent_name(peer)} is that of {_as_str(name)!r}")
        self._reachable[peer] = True

    def send(self, peer: int, payload: bytes) -> None:
        """Hand `payload` to NIXL: about 20 µs, and never waits for the peer.

        Raises `PeerGone` when `peer` is not connected or dead.
        """
        if not self._reachable.get(peer, False):
            raise PeerGone(f"{agent_name(peer)} is {'dead' if peer in self._reachable else 'not connected'}")
        try:
            self._agent.send_notif(agent_name(peer), payload)
        except self._errors as error:
            # Remembered, so that NIXL is not asked again: it writes a line to stderr each time.
            self._reachable[peer] = False
            raise PeerGone(f"{agent_name(peer)} cannot be reached any more: {error}") from error

    def receive(self) -> list[tuple[int, bytes]]:
        """All that has arrived, as (sender's incarnation, payload); makes progress, never waits."""
        try:
            arrived = self._agent.get_new_notifs()
        except UnicodeDecodeError:
            # Somebody's agent has a name that is not UTF-8. NIXL's binding then loses the whole batch, ours included;
            # the protocol repeats what is not acknowledged.
            self.foreign += 1
            return []
        messages, foreign = sort_out(arrived)
        self.foreign += foreign
        return messages

    def disconnect(self, peer: int) -> None:
        """Forget `peer`: some 100 µs, dead or alive. A no-op when it is not connected."""
        if self._reachable.pop(peer, None) is not None:
            self._agent.remove_remote_agent(agent_name(peer))

    def close(self) -> None:
        """Free everything; takes some 0.2 s when much is queued for a stopped peer."""
        for peer in list(self._reachable):
            self.disconnect(peer)
        # NIXL has no call for it: the agent ends with its last reference.
        del self._agent


def _as_str(name: str | bytes) -> str:
    """NIXL gives names as str or as bytes, depending on the call; bytes that are no UTF-8 are nobody's name of ours."""
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
