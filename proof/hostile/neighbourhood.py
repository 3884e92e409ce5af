"""Honest engines that lease to each other on one network, and the promises that they keep beside hostile ones.

Three agents, each a producer and a consumer, run the product's own code in a time of their own. Their life goes on with
every tick: leases are granted, kept beyond their terms, released; some are claimed by nobody. After every tick:

- a lease that its consumer wants is held, by that consumer alone, and nobody tells it otherwise (S4, L2);
- a lease that its consumer let go of is over at once, one that nobody claimed at the end of its term (L1), and nobody
  brings it back without its token (S4);
- nothing grows beyond its bound.
"""

import random
from dataclasses import dataclass, field

from kvlease.agent.core import AgentCore, AgentSnapshot
from kvlease.protocol import Cause, Endpoint, Fingerprint, LeaseCard, LeaseConfig, LeaseRef, Timing, resolve
from kvlease.protocol.effects import Revive
from kvlease.protocol.messages import TOKENS_PER_MESSAGE, VERSION
from kvlease.testing.cards import MemoryCards
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from proof.promises.structure import check_lessee, check_lessor, lessee_is_empty, lessor_is_empty

TICK_S = 0.08
"""The time of a tick. It is under the lessor's tolerance: a longer gap between two turns would be forgiven (R26)."""
CONFIG: LeaseConfig = resolve(
    {
        "kv_lease_duration": 1.5,
        "kv_lease_max_age": 4.0,
        "kv_lease_orphan_grace": 0.3,
        "kv_lease_probe_interval": 0.25,
    }
)
ENGINES = 3
SOON_S = 0.6
"""The time in which a claim or a drop reaches the producer: three ticks for Hello, Welcome and Renew, and some more."""
LATE_S = 0.02 + 2 * TICK_S
"""The time after it is due in which an end is seen."""
REUSED_AFTER_S = (0.0, 0.5, 2.0, 4.0)
"""The times after which a lapsed lease's blocks are given to others."""
MAX_SESSIONS = 5
"""The most sessions of a producer. They are few instead of thousands, so that a few strangers reach the bound."""
IDLE_S = 2.0
"""The time for which either side keeps a session without a lease."""
TIMING = Timing(idle_s=IDLE_S, session_idle_s=IDLE_S, max_sessions=MAX_SESSIONS)
"""The bounds, which a short play can reach."""


@dataclass
class Kept:
    """An honest lease from its grant to its end."""

    producer: AgentCore
    consumer: AgentCore | None
    """The engine that claims it; None where nobody ever does."""
    token: int
    holder: str
    granted_at: float
    released_at: float | None = None


@dataclass(frozen=True)
class Lapsed:
    """A lapsed lease, one of whose blocks is given to somebody at `until`."""

    producer: AgentCore
    until: float


@dataclass
class Neighbourhood:
    """The honest engines. `leaked` are leases whose tokens everybody knows, and with which anybody may do anything."""

    now: float = 1000.0
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    served: dict[Endpoint, LeaseCard] = field(default_factory=dict)
    engines: list[AgentCore] = field(default_factory=list)
    transports: dict[int, MemoryTransport] = field(default_factory=dict)
    """The transports of the engines, by incarnation."""
    kept: dict[int, Kept] = field(default_factory=dict)
    """The honest leases that are not over, by token."""
    lapsed: dict[int, "Lapsed"] = field(default_factory=dict)
    """The leases that have lapsed, and whose blocks nobody has been given yet, by token."""
    leaked: dict[int, AgentCore] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)
    """The tokens of honest leases that everybody has learnt since the leases were claimed."""
    strangers: set[str] = field(default_factory=set)
    """The requests of hostile clients, by id."""
    _chance: random.Random = field(default_factory=lambda: random.Random(7))
    _ticks: int = 0
    _names: int = 0
    quiet: bool = False
    """True once the honest engines begin nothing new."""

    def __post_init__(self) -> None:
        self.engines = [self.engine(f"engine-{i}", self.endpoint(i)) for i in range(ENGINES)]
        for i in range(ENGINES):
            self._begin(i)
        self.run(2 * SOON_S)

    def engine(self, name: str, endpoint: Endpoint) -> AgentCore:
        """An agent on this network, whose card is served at `endpoint`. It takes no turns by itself."""
        core = AgentCore(
            CONFIG,
            name,
            self._open_transport,
            MemoryCards(self.served),
            incarnation=self._chance.getrandbits(64),
            timing=TIMING,
            clock=lambda: self.now,
        )
        self.served[endpoint] = LeaseCard([VERSION], core.incarnation, core.address, [])
        return core

    def _open_transport(self, own: int) -> MemoryTransport:
        self.transports[own] = MemoryTransport(self.network, own)
        return self.transports[own]

    def endpoint(self, i: int) -> Endpoint:
        return f"engine{i}.example", 5600

    # -- the life of the honest ----------------------------------------------------------------------------------

    def _begin(self, i: int) -> None:
        """Grants a lease of engine i to the next engine, one that nobody claims, and one whose token leaks."""
        producer, consumer = self.engines[i], self.engines[(i + 1) % ENGINES]
        self._grant(i, producer, consumer)
        self._grant(i, producer, None)
        if len(self.leaked) < 2 * ENGINES:
            token = self._chance.getrandbits(64) | 1
            self.leaked[token] = producer
            producer.grant(token)

    def _grant(self, i: int, producer: AgentCore, consumer: AgentCore | None) -> None:
        self._names += 1
        lease = Kept(producer, consumer, self._chance.getrandbits(64) | 1, f"honest-{self._names}", self.now)
        self.kept[lease.token] = lease
        producer.grant(lease.token)
        if consumer is not None:
            ref = LeaseRef(producer.incarnation, lease.token, 0, 1500, Fingerprint(1, 0))
            consumer.track(lease.holder, ref, self.endpoint(i))

    def _live(self) -> None:
        """Makes each engine grant about every second, and release what it has held beyond the term."""
        for i in range(ENGINES):
            if (self._ticks + 4 * i) % 12 == 0 and not self.quiet:
                self._begin(i)
        for lease in list(self.kept.values()):
            if lease.consumer is not None and lease.released_at is None and self.now > lease.granted_at + 2.5:
                self._release(lease)

    def _release(self, lease: Kept) -> None:
        assert lease.consumer is not None
        lease.released_at = self.now
        lease.consumer.untrack(lease.holder)
        if lease.token in self.shared:
            # From here on, anybody who knows the token may keep the lease.
            self.shared.discard(lease.token)
            self.leaked[lease.token] = self.kept.pop(lease.token).producer

    def leak(self, which: int) -> None:
        """Tells everybody the token of a lease that its consumer holds, which nobody can end while that wants it."""
        held = [lease for lease in self.kept.values() if lease.consumer is not None and lease.released_at is None]
        old = [lease.token for lease in held if self.now > lease.granted_at + SOON_S]
        if old:
            self.shared.add(old[which % len(old)])

    # -- time ----------------------------------------------------------------------------------------------------

    def run(self, duration_s: float) -> None:
        for _ in range(max(1, round(duration_s / TICK_S))):
            self.tick()

    def tick(self) -> None:
        self.now += TICK_S
        self._ticks += 1
        self._live()
        for engine in self.engines:
            engine.progress()
            engine.turn(self.now)
        for engine in self.engines:
            self._hear(engine)
        self._reuse()
        for lease in self.kept.values():
            self._is_kept(lease)
        # These checks cost more than the rest together, so each tick makes them of one engine.
        engine = self.engines[self._ticks % ENGINES]
        seen = engine.snapshot()
        check_lessor(seen.peer.lessor)
        check_lessee(seen.peer.lessee, TIMING)
        within_bounds(self.sizes(engine, seen), len(self.strangers), len(self.kept) + len(self.leaked | self.lapsed))
        messages_within_bounds(engine)

    def _hear(self, engine: AgentCore) -> None:
        for news in engine.take_news():
            if isinstance(news, Revive):
                assert self.leaked.get(news.token) is engine, "somebody brought a lease back without its token"
                del self.lapsed[news.token]
                continue
            if news.token not in self.leaked:
                self._may_end(self.kept.pop(news.token), engine, news.cause)
            self.lapsed[news.token] = Lapsed(engine, self.now + self._chance.choice(REUSED_AFTER_S))
        for holder in engine.take_lost():
            assert holder in self.strangers, f"{holder} lost its lease"

    def _reuse(self) -> None:
        """Makes engines give blocks of lapsed leases to others, whose agents hear so in their next turns."""
        for token, lease in list(self.lapsed.items()):
            if self.now >= lease.until:
                del self.lapsed[token]
                self.leaked.pop(token, None)
                lease.producer.cleared(token)

    def _may_end(self, lease: Kept, engine: AgentCore, cause: Cause) -> None:
        assert lease.producer is engine
        if lease.consumer is None:
            assert cause is Cause.EXPIRED, f"a lease that nobody knows of ended: {cause}"
            assert self.now >= lease.granted_at + CONFIG.duration_s - 1e-9, "before its term was over"
        else:
            assert lease.released_at is not None, f"{lease.holder} lost its lease: {cause}"
            assert cause is Cause.RELEASED

    def _is_kept(self, lease: Kept) -> None:
        known = lease.producer.peer.lessor.leases.get(lease.token)
        claims = set(known.claims) if known is not None else set()
        if lease.consumer is None:
            assert claims == set(), "somebody claimed what nobody knows of"
            assert self.now <= lease.granted_at + CONFIG.duration_s + LATE_S, "a lease that nobody claims was extended"
        else:
            known_to_others = lease.token in self.shared
            assert claims <= {lease.consumer.incarnation} or known_to_others, "somebody claimed it without its token"
            if lease.released_at is not None:
                assert self.now <= lease.released_at + SOON_S, f"{lease.holder} was not heard to let go"
            elif self.now > lease.granted_at + SOON_S:
                assert known is not None
                assert lease.consumer.incarnation in claims, f"{lease.holder} is not heard"

    # -- the end -------------------------------------------------------------------------------------------------

    def wind_down(self) -> None:
        """Makes all engines let go of everything, and asserts that nothing is left after a while (R12, L3)."""
        self.quiet = True
        for lease in list(self.kept.values()):
            if lease.consumer is not None and lease.released_at is None:
                self._release(lease)
        for holder in self.strangers:
            for engine in self.engines:
                engine.untrack(holder)
        self.run(CONFIG.max_age_s + 3 * IDLE_S)
        assert not self.kept
        assert not self.leaked
        assert not self.lapsed
        for engine in self.engines:
            seen = engine.snapshot()
            lessor_is_empty(seen.peer.lessor)
            lessee_is_empty(seen.peer.lessee)
            left = {name: size for name, size in self.sizes(engine, seen).items() if size}
            assert left == {}, f"left behind: {left}"

    def sizes(self, engine: AgentCore, seen: AgentSnapshot) -> dict[str, int]:
        """The number of things that an agent keeps, by container."""
        p, d = seen.peer.lessor, seen.peer.lessee
        timers = {f"lessor.{name}": buckets for name, buckets in p.timers.items()}
        timers |= {f"lessee.{name}": buckets for name, buckets in d.timers.items()}
        return {f"{name}.timers": sum(len(keys) for _, keys in buckets) for name, buckets in timers.items()} | {
            "said": seen.said,
            "news": len(seen.news),
            "lost": len(seen.lost),
            "links": len(seen.peer.links),
            "connected": len(self.transports[engine.incarnation].peers),
            "lessor.leases": len(p.leases),
            "lessor.sessions": len(p.sessions),
            "lessor.claims": sum(len(session.claims) + len(session.unstated) for session in p.sessions),
            "lessor.effects": p.effects,
            "lessee.sessions": len(d.sessions),
            "lessee.holders": len(d.holders) + len(d.lost),
            "lessee.leases": sum(len(session.leases) for session in d.sessions),
            "lessee.effects": d.effects,
        }


def within_bounds(size: dict[str, int], strangers: int, leases: int) -> None:
    """Asserts the bounds of what an agent keeps. `strangers`: hostile requests ever; `leases`: honest and leaked."""
    sessions = MAX_SESSIONS + strangers + ENGINES
    for name in ("links", "connected", "lessor.probes.timers", "lessor.restatements.timers", "lessor.sessions.timers"):
        assert size[name] <= sessions, name
    assert size["lessor.sessions"] <= MAX_SESSIONS
    assert size["lessor.leases"] <= leases + size["said"], "those that just ended are among what was said"
    assert size["lessor.claims"] <= 2 * MAX_SESSIONS * leases
    assert size["lessee.sessions"] <= strangers + ENGINES
    assert size["lessee.holders"] <= strangers + leases


def messages_within_bounds(engine: AgentCore) -> None:
    """Asserts the bounds of what goes to a producer, and of the counters' names: no stranger can add one."""
    for session in engine.peer.lessee.sessions.values():
        assert len(session.sent_at) <= TIMING.max_unanswered
        window = session.window
        assert window is None or len(window.claims) + len(window.drops) <= TOKENS_PER_MESSAGE
    report = engine.report()
    assert len(report.lessor) + len(report.lessee) + len(report.agent) <= MAX_KINDS


MAX_KINDS = 64
"""The most names of counters: none is made of what a stranger sent."""
