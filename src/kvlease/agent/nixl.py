"""Lease messages as NIXL notifications, over whatever network NIXL's backend finds between two engines.

This is what NIXL 1.5.1 with UCX was seen to do, over shared memory and over TCP; `tests/engine/test_nixl_transport.py`
tests the parts that the lease agent relies on:

- NIXL makes progress only in `receive`, for what was sent as well as for what arrives. The first message to a peer
  needs some calls of it on both sides.
- A message of a peer that we have not connected to arrives, under the peer's own name.
- After a peer is killed with SIGKILL, the first or second `send` raises, within 5 ms when we make progress, and so does
  every later one. Connecting to it again raises at once.
- Disconnecting takes microseconds, also when the peer is dead or stopped. What was sent before still arrives, and the
  peer's messages still reach us. After a new connection, messages pass in both directions.
- A stopped (SIGSTOP) or stuck peer raises no error and blocks nobody: messages queue up in our memory, 12 to 16 KB for
  each of 8 KB, without bound, and it gets them all when it goes on. **NIXL has no back pressure**: a sender must stop
  when nothing is acknowledged. A network cut without a reset looks the same (for 45 s at least), and heals the same
  way. Disconnecting does not free that queue; the peer's death does, or `close`.
- A damaged address is refused and does no harm, with one exception: if its connection part is whole and its (empty)
  memory part is not, NIXL keeps half of it, and this agent cannot connect to that peer again.
"""

import importlib
import re
from collections.abc import Mapping, Sequence

from kvlease.errors import PeerGone
from kvlease.fence import AgentErrors

_NAME = re.compile(r"kvlease-([0-9a-f]{16})")
_ANY_NAME = re.compile(rb"kvlease-.{0,16}", re.DOTALL)


def agent_name(incarnation: int) -> str:
    """Returns the NIXL agent name of the lease agent `incarnation` (u64)."""
    assert 0 <= incarnation < 1 << 64, incarnation
    return f"kvlease-{incarnation:016x}"


def incarnation_of(name: str) -> int | None:
    """Returns the incarnation in a lease agent's name; None when `name` is no lease agent's."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None


def names_only(peer: int, address: bytes) -> bool:
    """Tells whether `address` names the lease agent `peer` and no other, so that loading it changes nobody else's."""
    named = _ANY_NAME.findall(address)
    return bool(named) and set(named) == {agent_name(peer).encode()}


def sort_out(arrived: Mapping[str | bytes, Sequence[bytes]]) -> tuple[list[tuple[int, bytes]], int]:
    """Returns the messages of lease agents among notifications by their sender's name, and the number of all others."""
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
    """Returns the errors of a NIXL package: each platform has another one, and its errors have no common base."""
    bindings = importlib.import_module(f"{package}._bindings")
    names = [name for name in vars(bindings) if name.startswith("nixl") and name.endswith("Error")]
    return AgentErrors(tuple(getattr(bindings, name) for name in names), bindings.nixlRemoteDisconnectError)


class NixlTransport:
    """A `Transport` over a NIXL agent of its own, without memory and without a progress thread.

    It does not share the engine's NIXL agent, which is not safe to use from a second thread, and on which a stock
    engine cannot parse foreign notifications. A progress thread would keep a core busy.

    Attributes: `foreign` counts messages dropped because they did not come from a lease agent (a poll that NIXL could
    not decode counts once).
    """

    def __init__(self, incarnation: int, backends: Sequence[str] = ("UCX",), package: str = "nixl") -> None:
        """Create the NIXL agent (some 20 ms, 5 MB). `incarnation` is this agent's own (u64).

        `package` is the NIXL to use; each platform has another.
        """
        # Imported only here, since `import kvlease` must work where NIXL is not installed.
        api = importlib.import_module(f"{package}._api")
        config = api.nixl_agent_config(enable_prog_thread=False, backends=list(backends))
        self._agent = api.nixl_agent(agent_name(incarnation), config)
        self._address: bytes = self._agent.get_agent_metadata()
        # Any of them means that this peer cannot be reached: strangers choose the addresses that we are told, and can
        # make many mistakes. RemoteDisconnect: the peer died. Backend: nobody listens there, or UCX gave up.
        # NotAllowed: an agent of that name is known, at another address.
        self._errors = errors_of(package).all
        # Connected peers, by incarnation: True while reachable, False once found dead, until disconnected.
        self._reachable: dict[int, bool] = {}
        self.foreign = 0

    @property
    def address(self) -> bytes:
        """The NIXL metadata of this agent, 300 to 500 B."""
        return self._address

    def remembers(self, name: str | bytes) -> bool:
        """Tells whether NIXL keeps an agent of this name: an address that was refused is to leave nothing behind."""
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
            # Removed by the name that NIXL gave, which may be bytes that are no text.
            self._agent.remove_remote_agent(name)
            raise PeerGone(f"the address given for {agent_name(peer)} is that of {_as_str(name)!r}")
        self._reachable[peer] = True

    def send(self, peer: int, payload: bytes) -> None:
        """Hands `payload` to NIXL in about 20 µs; never waits for the peer.

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
        """Returns all that has arrived, as (sender's incarnation, payload); makes progress, never waits."""
        try:
            arrived = self._agent.get_new_notifs()
        except UnicodeDecodeError:
            # An agent's name is not UTF-8. NIXL's binding then loses the whole batch, lease messages included; the
            # protocol repeats what is not acknowledged.
            self.foreign += 1
            return []
        messages, foreign = sort_out(arrived)
        self.foreign += foreign
        return messages

    def disconnect(self, peer: int) -> None:
        """Forgets `peer`, in some 100 µs, dead or alive. A no-op when it is not connected."""
        if self._reachable.pop(peer, None) is not None:
            self._agent.remove_remote_agent(agent_name(peer))

    def close(self) -> None:
        """Frees everything; takes some 0.2 s when much is queued for a stopped peer."""
        for peer in list(self._reachable):
            self.disconnect(peer)
        # NIXL has no call to end an agent: it ends with its last reference.
        del self._agent


def _as_str(name: str | bytes) -> str:
    """Returns a name that NIXL gave, as str or as bytes depending on the call; none of our names is anything but
    UTF-8."""
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
