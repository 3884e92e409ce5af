"""Bugs that are planted in the lessor, its time, and the scheduler of a producer."""

from collections.abc import Iterator
from math import floor

from kvlease.engine.producer import ProducerSide
from kvlease.protocol import LeaseState, Lessee, Lessor, lessor
from kvlease.protocol.claims import ConsumerSession
from kvlease.protocol.clock import ExpiryQueue
from kvlease.protocol.effects import Send
from kvlease.protocol.lease import Lease
from kvlease.protocol.messages import Ack, Gone, Probe, Renew, Welcome
from kvlease.protocol.states import ConsumerState, LeaseEvent
from kvlease.protocol.tracking import ProducerSession
from proof.planted.bug import Replacement, honest, planted

LONG_S = 1e9


@planted("S3", within_runs=100, stands_for="etcd's lessor: a renewal of a revoked lease must fail")
def ended_lease_claimed_again() -> Iterator[Replacement]:
    """A claim brings back a lease whose word is clear."""
    honest_cleared, honest_claim = honest(Lessor, "cleared"), honest(Lessor, "_claim")

    def cleared(self: Lessor, token: int, now: float) -> None:
        if token in self.leases:
            self.__dict__.setdefault("ended", {})[token] = self.leases[token]
        honest_cleared(self, token, now)

    def claim(self: Lessor, session: ConsumerSession, token: int, t: float) -> bool:
        lease = self.__dict__.get("ended", {}).get(token)
        if lease is not None and token not in self.leases:
            lease.state = LeaseState.GRANTED
            self.leases[token] = lease
        claimed: bool = honest_claim(self, session, token, t)
        return claimed

    yield Lessor, "cleared", cleared
    yield Lessor, "_claim", claim


@planted("L1", "L2", within_runs=10, stands_for="vllm 58222, 50789: the reaper looked only at the head of its map")
def head_only_reaper() -> Iterator[Replacement]:
    """The lessor looks for what is due from the oldest on, up to the first that is not due."""

    def take_due(self: "ExpiryQueue[int]", now: float) -> list[int]:
        last = floor(now / self._tick_s)
        due = []
        for key, tick in list(self._tick_of.items()):
            if tick > last:
                break
            self.discard(key)
            due.append(key)
        self._next_tick = max(self._next_tick, last)
        return due

    yield ExpiryQueue, "take_due", take_due


@planted("L1", "L2", within_runs=10, stands_for="vllm 50326: a deadline of one host's clock compared on another")
def wall_clock_on_the_wire() -> Iterator[Replacement]:
    """A renewal carries a point in its sender's time, and the producer takes it for its own."""
    honest_renew, honest_on_renew = honest(Lessee, "_renew"), honest(Lessor, "_on_renew")
    stated: dict[tuple[int, int], float] = {}

    def renew(self: Lessee, session: ProducerSession, now: float) -> None:
        stated[self.incarnation, self._seq + 1] = now + session.extension_s
        honest_renew(self, session, now)

    def on_renew(self: Lessor, peer: int, message: Renew, t: float) -> None:
        honest_on_renew(self, peer, message, t)
        session = self.sessions.get(peer)
        if session is not None and session.seq == message.seq and (peer, message.seq) in stated:
            self._set_deadline(session, stated[peer, message.seq])

    yield Lessee, "_renew", renew
    yield Lessor, "_on_renew", on_renew


@planted("L2", within_runs=100, stands_for="vllm 43509, 38900: siblings free under each other; R24")
def released_for_all_consumers() -> Iterator[Replacement]:
    """One consumer's drop ends the lease for the others that claim it."""

    def drop(self: Lessor, _session: ConsumerSession, token: int, t: float) -> None:
        lease = self._live(token)
        if lease is not None:
            self._lapse(lease, LeaseEvent.RELEASE, t)

    yield Lessor, "_drop", drop


@planted("L1", "L2", within_runs=300, stands_for="Mooncake connector: a consumer's death never reaches P; R18")
def death_ignored() -> Iterator[Replacement]:
    """The transport's report that a consumer is dead changes nothing: its leases last their extension."""

    def peer_lost(_self: Lessor, _peer: int, _now: float) -> None:
        return None

    yield Lessor, "peer_lost", peer_lost


@planted("L1", within_runs=500, stands_for="docs/decisions/0003: death voids the grant")
def dead_consumer_keeps_the_term() -> Iterator[Replacement]:
    """A lease that a dead consumer claimed is kept for the rest of the grant's own term."""

    def orphan(self: Lessor, session: ConsumerSession, t: float) -> None:
        for token in list(session.claims):
            lease = self.leases[token]
            self._unclaim(session, lease, t)
            self._expire_unclaimed(lease, t)

    yield Lessor, "_orphan", orphan


@planted("L1", within_runs=1500, stands_for="R18; SGLang's NIXL backend: P has no timeout, and nobody asks")
def no_probe() -> Iterator[Replacement]:
    """A producer that has nothing to say says nothing, and so never learns of a death."""
    original = honest(Lessor, "_send")

    def send(self: Lessor, session: ConsumerSession, message: Welcome | Ack | Gone | Probe, t: float) -> None:
        original(self, session, message, t)
        if isinstance(message, Probe) and self._effects and self._effects[-1] == Send(session.peer, message):
            self._effects.pop()

    yield Lessor, "_send", send


@planted("L1", "L2", within_runs=1000, stands_for="protocol, deadlines: a Hello within the grace restores the session")
def dead_once_dead_for_ever() -> Iterator[Replacement]:
    """A consumer that was reported dead by mistake stays dead, whatever it says."""
    original = honest(Lessor, "_open")

    def reopen(self: Lessor, session: ConsumerSession, seq: int, t: float) -> None:
        state = session.state
        original(self, session, seq, t)
        if state is ConsumerState.DEAD:
            session.state = state

    yield Lessor, "_open", reopen


@planted("R20", within_runs=25, stands_for="R23: another consumer may claim the lease")
def second_consumer_refused() -> Iterator[Replacement]:
    """A lease that one consumer claims cannot be claimed by another."""
    original = honest(Lessor, "_claim")

    def claim(self: Lessor, session: ConsumerSession, token: int, t: float) -> bool:
        lease = self.leases.get(token)
        if lease is not None and set(lease.claims) - {session.peer}:
            return False
        claimed: bool = original(self, session, token, t)
        return claimed

    yield Lessor, "_claim", claim


@planted("R25", within_runs=50, stands_for="inferred from vLLM's code: nothing bounds a lease's age; R25")
def no_max_age() -> Iterator[Replacement]:
    """A lease lives as long as somebody renews it."""
    original = honest(Lessor, "_set_lease_timer")

    def set_lease_timer(self: Lessor, lease: Lease) -> None:
        if lease.claims:
            self._lease_timers.set(lease.token, lease.granted_at + LONG_S)
        else:
            original(self, lease)

    yield Lessor, "_set_lease_timer", set_lease_timer


@planted(
    "L1", "L2", within_runs=50, stands_for="inferred from vLLM's code: a term under 6 s makes the heartbeat interval 0"
)
def intervals_in_whole_seconds() -> Iterator[Replacement]:
    """Durations cross the wire in whole seconds, rounded down."""

    def milliseconds(duration_s: float) -> int:
        return floor(duration_s) * 1000

    yield lessor, "milliseconds", milliseconds


@planted(
    "L1", within_runs=25, stands_for="llm-d operations guide: a request that dies in the router strands its blocks"
)
def grant_without_a_term() -> Iterator[Replacement]:
    """A lease that nobody claims waits for its maximum age."""

    def set_lease_timer(self: Lessor, lease: Lease) -> None:
        self._lease_timers.set(lease.token, lease.granted_at + self.config.max_age_s)

    yield Lessor, "_set_lease_timer", set_lease_timer


@planted("L3", within_runs=100, stands_for="R12: nothing is left behind")
def ends_kept_from_the_lessor() -> Iterator[Replacement]:
    """The lessor never hears that the words are cleared, and never forgets the lease."""

    def cleared(_self: Lessor, _token: int, _now: float) -> None:
        return None

    yield Lessor, "cleared", cleared


@planted("L1", "L3", within_runs=500, stands_for="vllm-backport 33: after days the transport died, and nobody noticed")
def dead_agent_keeps_its_leases() -> Iterator[Replacement]:
    """A producer whose agent has died holds its leases for ever."""

    def take_back_all(_self: ProducerSide, _died_at: float) -> None:
        return None

    yield ProducerSide, "_take_back_all", take_back_all
