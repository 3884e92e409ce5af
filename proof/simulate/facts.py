"""The books by which promises about time are judged: who was granted what, who wants it, and who let go of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvlease.protocol import LeaseRef
from proof.simulate.context import Context
from proof.simulate.engine import SimEngine
from proof.simulate.network import is_hello
from proof.simulate.requests import Decode


@dataclass(slots=True)
class Wish:
    """A request of a consumer that wants a lease."""

    engine: SimEngine
    token: int
    producer: int
    since: float


@dataclass(slots=True)
class GrantFacts:
    """A lease that has not ended, and when anybody last had a right to them."""

    engine: SimEngine
    at: float
    wanted_at: float
    frozen_s: float
    """The time for which the engine had been stopped before the grant, in seconds."""
    revived_at: float = float("-inf")
    """The time at which it lived again last, after it had lapsed."""
    claimants_died_at: float | None = None
    let_go: dict[str, float] = field(default_factory=dict)
    """The time at which each consumer that wanted the lease let go of it last, by engine name."""
    read_by: set[int] = field(default_factory=set)
    """The workers of the producer that a stock consumer has told that it has read."""
    abandoned: bool = False
    """True once a consumer that wanted the lease has ended."""


class Facts:
    """The books of a run; they are told what happens, as `Safety` is."""

    def __init__(self, context: Context, engines: Mapping[str, SimEngine]) -> None:
        self.wishes: dict[tuple[int, str], Wish] = {}
        """The wishes, by (consumer, holder)."""
        self.grants: dict[int, GrantFacts] = {}
        """The grants of producers that live, by token."""
        self.said_hello: dict[tuple[int, int], float] = {}
        """The time at which a consumer's latest Hello came to a producer, by (producer, consumer)."""
        self._context = context
        self._engines = engines

    def granted(self, engine: SimEngine, token: int) -> None:
        now = self._context.agenda.now
        self.grants[token] = GrantFacts(engine, now, now, engine.frozen_s)

    def revived(self, token: int) -> None:
        """The lessor has taken a claim of a lease that had lapsed."""
        grant = self.grants.get(token)
        if grant is not None:
            grant.revived_at = grant.wanted_at = self._context.agenda.now
            grant.claimants_died_at = None

    def wanted(self, engine: SimEngine, decode: Decode, ref: LeaseRef | None) -> None:
        """A consumer's scheduler has taken a leased request on."""
        if ref is None or decode.truth is None or ref.token != decode.truth:
            # What a bad router made of a reference is nobody's lease.
            return
        grant = self.grants.get(ref.token)
        if grant is not None and grant.engine.incarnation != ref.incarnation:
            return
        self.wishes[engine.incarnation, decode.request_id] = Wish(
            engine, ref.token, ref.incarnation, self._context.agenda.now
        )

    def let_go(self, engine: SimEngine, decode: Decode) -> None:
        """The request is loaded, or over."""
        wish = self.wishes.pop((engine.incarnation, decode.request_id), None)
        if wish is not None:
            self._touch(wish.token)
            if wish.token in self.grants:
                self.grants[wish.token].let_go[engine.name] = self._context.agenda.now

    def engine_ended(self, engine: SimEngine, death_shows: bool) -> None:
        now = self._context.agenda.now
        wanted = {wish.token for (consumer, _), wish in self.wishes.items() if consumer == engine.incarnation}
        for token, known in self.grants.items():
            # The engine cannot let go any more, or cannot say that it did.
            known.abandoned |= token in wanted or engine.name in known.let_go
        noticed = self._claims_of(engine.incarnation) if death_shows else set()
        for key in [key for key in self.wishes if key[0] == engine.incarnation]:
            self._touch(self.wishes.pop(key).token)
        for token in noticed:
            grant = self.grants.get(token)
            if grant is not None:
                grant.claimants_died_at = now
        self.grants = {t: g for t, g in self.grants.items() if g.engine is not engine}

    def _claims_of(self, consumer: int) -> set[int]:
        """Leases that only this consumer claims, by their producers' account."""
        tokens = set()
        for token, grant in self.grants.items():
            lease = grant.engine.agent.peer.lessor.leases.get(token)
            if lease is not None and lease.claims == (consumer,):
                tokens.add(token)
        return tokens

    def heartbeat(self, producer: SimEngine, request_id: str) -> None:
        """A stock consumer's heartbeat came to the producer."""
        slot = producer.prefill.side.slots.of(request_id)
        if slot is not None:
            self._touch(slot.token)

    def noticed(self, producer: SimEngine, request_id: str, worker: int) -> None:
        """A stock consumer has told one of the producer's workers that it has read."""
        slot = producer.prefill.side.slots.of(request_id)
        if slot is not None and slot.token in self.grants:
            self.grants[slot.token].read_by.add(worker)

    def message_arrived(self, source: int, target: int, payload: bytes) -> None:
        """A message arrived: anything from a consumer extends its sessions, and a Hello proves that it lives."""
        if is_hello(payload):
            self.said_hello[target, source] = self._context.agenda.now
        engine = self._engines.get(self._context.network.ports[target].engine)
        if engine is None or engine.incarnation != target:
            return
        session = engine.agent.peer.lessor.sessions.get(source)
        for token in session.claims if session is not None else ():
            self._touch(token)

    def _touch(self, token: int) -> None:
        grant = self.grants.get(token)
        if grant is not None:
            grant.wanted_at = self._context.agenda.now

    # -- who there is --------------------------------------------------------------------------------------------

    def engine(self, incarnation: int) -> "SimEngine | None":
        """The engine that lives as this incarnation."""
        port = self._context.network.ports.get(incarnation)
        engine = self._engines[port.engine] if port is not None else None
        return engine if engine is not None and engine.incarnation == incarnation and engine.alive else None

    def with_agent(self, incarnation: int) -> "SimEngine | None":
        """The engine that lives as this incarnation, if its agent lives too."""
        engine = self.engine(incarnation)
        return engine if engine is not None and engine.agent.died_at is None else None
