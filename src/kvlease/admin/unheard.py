"""The leases that are held for consumers which are not heard any more, looked at in the agent's thread."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from kvlease.engine.leased_blocks import LeaseSize
from kvlease.protocol import Peer
from kvlease.protocol.states import ConsumerState

PERIOD_S = 0.25
"""The least time between two looks."""
SILENT_INTERVALS = 2
"""The number of its intervals after which a consumer that has not renewed is silent: one message may be lost."""


class HeldSize(NamedTuple):
    """The leases held for somebody."""

    leases: int = 0
    tokens: int = 0
    blocks: int = 0


def size_together(tokens: Iterable[int], size_of: Callable[[int], LeaseSize | None]) -> HeldSize:
    """Returns the size of these leases together, in any thread (`LeasedBlocks.size`)."""
    # The engine may have ended one of them in this moment.
    sizes = [size for size in map(size_of, tokens) if size is not None]
    return HeldSize(len(sizes), sum(size.tokens for size in sizes), sum(size.blocks for size in sizes))


class UnheardSizes(NamedTuple):
    """The leases held for consumers that are not heard any more."""

    dead: HeldSize = HeldSize()
    """The transport has reported the consumer dead."""
    silent: HeldSize = HeldSize()
    """The consumer has not renewed for longer than two of its intervals."""


_NONE = UnheardSizes()


class UnheardLeases:
    """Looks at the sessions of an engine's consumers, now and then.

    Attributes: `sizes`: those of the last look; any thread may read it.
    """

    def __init__(self, size_of: Callable[[int], LeaseSize | None], changed: Callable[[], None] = lambda: None) -> None:
        """`size_of` gives the size of a lease, in any thread (`LeasedBlocks.size`). `changed` is called after a look
        that found something else than the one before."""
        self.sizes = _NONE
        self._size_of = size_of
        self._changed = changed
        self._next_at = float("-inf")

    def look(self, peer: Peer, now: float) -> None:
        """Looks, if it is time to: at all sessions, and at the claims of those that are not heard.

        The thread that takes the turns calls it after each (`AgentCore.watch_by`).
        """
        if now < self._next_at:
            return
        self._next_at = now + PERIOD_S
        # Without a claim nothing is held for anybody: so it is where most looks end.
        before, self.sizes = self.sizes, self._sizes(peer) if peer.lessor.claimed else _NONE
        if self.sizes != before:
            self._changed()

    def _sizes(self, peer: Peer) -> UnheardSizes:
        lessor = peer.lessor
        # A session's deadline is one extension after its last renewal. In the lessor's own time a pause of the agent is
        # no silence of its consumers.
        silent_s = SILENT_INTERVALS * lessor.config.renew_interval_s
        latest = lessor.time - silent_s + lessor.config.extension_s
        dead: set[int] = set()
        silent: set[int] = set()
        for session in lessor.sessions.values():
            if session.state is ConsumerState.DEAD:
                dead |= session.claims
            elif session.state is ConsumerState.ACTIVE and session.deadline < latest:
                silent |= session.claims
        if not dead and not silent:
            return _NONE
        return UnheardSizes(size_together(dead, self._size_of), size_together(silent, self._size_of))
