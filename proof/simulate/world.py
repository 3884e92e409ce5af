"""Everything that there is in a run, and the account that is kept of it."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kvlease.fence import Verdict
from kvlease.protocol import Cause, Endpoint, LeaseCard, LeaseConfig, LeaseRef, resolve
from kvlease.simulation.chance import Chance
from proof.promises.safety import Safety
from proof.simulate.cards import CardDesk
from proof.simulate.clock import BoundedAgenda
from proof.simulate.context import Context
from proof.simulate.dataplane import DataPlane
from proof.simulate.engine import SimEngine
from proof.simulate.facts import Facts
from proof.simulate.failover import FailoverPromises
from proof.simulate.fronts import EngineFronts
from proof.simulate.network import SimNetwork, describe
from proof.simulate.plan import Plan
from proof.simulate.promises import Promises
from proof.simulate.requests import Decode, Prefill
from proof.simulate.routing import SimRouter
from proof.simulate.stranded import Stranded
from proof.simulate.users import Users

MOST_EVENTS = 1_000_000
"""The bound on a run's events, of which there are usually some ten thousand."""


class SimWorld:
    """The world of a run: the engines by name, what is between them, who asks, and who watches."""

    def __init__(self, plan: Plan, last_events: int, tell: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.config: LeaseConfig = resolve(dict(plan.config))
        self.chance = Chance(plan.seed)
        self.reads_need_the_owner = self.chance.of("memory").random() < 0.5
        """True where the memory of a stopped process cannot be read, as over TCP."""
        self.counts: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=last_events)
        self._tell = tell
        self._hash = hashlib.sha256()
        self.agenda = BoundedAgenda(MOST_EVENTS)
        self.safety = Safety()
        self.network = SimNetwork(self.agenda, self.chance, self._message_arrived)
        self.plane = DataPlane(self.agenda, self.chance, plan.read_s, self._can_read)
        self.no_card: Counter[str] = Counter()
        """The number of faults that keep an engine's side channel from answering, by engine."""
        self.engines: dict[str, SimEngine] = {}
        self._context = context = Context(
            plan,
            self.config,
            self.chance,
            self.agenda,
            self.network,
            self.plane,
            CardDesk(self.agenda, self.chance, self._serve_card),
            self.safety,
            names_stay=self.chance.of("names").random() < 0.5,
            observer=self,
            counts=self.counts,
            tell=self.tell,
        )
        self.facts = Facts(context, self.engines)
        self.promises = Promises(context, self.engines, self.facts)
        self.stranded = Stranded(context, self.engines, self.facts, self.promises)
        for name in dict.fromkeys((*plan.producers, *plan.consumers)):
            self.start(name)
        self.users = Users(context, self.engines)
        self.fronts = EngineFronts(context, self.engines)
        self.failover, self.router = self._start_router(context)

    def _start_router(self, context: Context) -> tuple[FailoverPromises | None, SimRouter | None]:
        drawn = self.plan.router
        if drawn is None:
            return None, None
        judge = FailoverPromises(context, self.engines, self.facts, self.promises.trouble, self.fronts, drawn)
        return judge, SimRouter(context, self.engines, drawn, self.users.routed, judge, self.fronts)

    @property
    def unanswered(self) -> set[int]:
        """The users, by number, who wait for something."""
        return self.users.unanswered if self.router is None else self.users.unanswered | self.router.unanswered

    # -- engines -------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start an engine, as another incarnation than any before."""
        before = self.engines.get(name)
        engine = self.engines[name] = SimEngine(self._context, name)
        if before is not None:
            # Where its death had not shown, it does now: the host answers again.
            self.fronts.engine_ended(before)
        self.tell(f"{name} starts as {engine.incarnation:016x}")

    def crash(self, name: str, death_shows: bool) -> None:
        engine = self.engines[name]
        self.tell(f"{name} crashes{'' if death_shows else ', which nobody notices'}")
        engine.end(death_shows)
        self.facts.engine_ended(engine, death_shows)
        self.users.engine_ended(engine)
        if death_shows:
            self.fronts.engine_ended(engine)

    def shut_down(self, name: str) -> None:
        engine = self.engines[name]
        self.tell(f"{name} shuts down")
        engine.shut_down()
        self.facts.engine_ended(engine, True)
        self.users.engine_ended(engine)
        self.fronts.engine_ended(engine)

    # -- what engines tell (`Observer`) --------------------------------------------------------------------------

    def took_a_turn(self, engine: str) -> None:
        self.promises.agent_took_a_turn(self.engines[engine])

    def granted(self, engine: str, prefill: Prefill, ref: LeaseRef) -> None:
        self.tell(f"{engine} grants {ref.token:016x} in slot {ref.slot} to {prefill.request_id}: {prefill.blocks}")
        self.safety.granted(self.engines[engine].incarnation, ref.token, prefill.blocks)
        self.facts.granted(self.engines[engine], ref.token)

    def prefilled(self, engine: str, prefill: Prefill, offer: dict[str, Any] | None) -> None:
        if self.router is None or not self.router.prefilled(self.engines[engine], prefill, offer):
            self.users.prefilled(self.engines[engine], prefill, offer)

    def aborted(self, engine: str, prefill: Prefill) -> None:
        self.fronts.aborted(self.engines[engine], prefill)

    def gives(self, engine: str, block: int) -> None:
        self.promises.gives(self.engines[engine], block)

    def ends_at_once(self, token: int) -> bool:
        return self.promises.settled.causes.get(token) in (Cause.ABORTED, Cause.REVOKED)

    def verified(self, engine: str, decode: Decode, verdict: Verdict) -> None:
        self.promises.verified(self.engines[engine], decode, verdict)

    def heartbeat(self, engine: str, request_id: str) -> None:
        self.facts.heartbeat(self.engines[engine], request_id)

    def noticed(self, engine: str, request_id: str, worker: int) -> None:
        self.facts.noticed(self.engines[engine], request_id, worker)

    def wanted(self, engine: str, decode: Decode, ref: LeaseRef | None) -> None:
        self.facts.wanted(self.engines[engine], decode, ref)

    def begins_to_read(self, engine: str, holders: Iterable[str]) -> None:
        self.promises.begins_to_read(self.engines[engine], holders)

    def holds_back(self, engine: str, since: Mapping[str, float]) -> None:
        self.promises.holds_back(self.engines[engine], since)

    def let_go(self, engine: str, decode: Decode) -> None:
        self.facts.let_go(self.engines[engine], decode)

    def began(self, engine: str, decode: Decode) -> None:
        if self.router is not None:
            self.router.began(self.engines[engine], decode)

    def answered(self, engine: str, decode: Decode) -> None:
        if self.router is None or not self.router.answered(self.engines[engine], decode):
            self.users.answered(self.engines[engine], decode)

    # -- what is between them ------------------------------------------------------------------------------------

    def _can_read(self, owner: str, reader: str) -> bool:
        frozen = self.reads_need_the_owner and not self.engines[owner].running
        return not frozen and self.network.reachable(owner, reader) and self.network.reachable(reader, owner)

    def _serve_card(self, asker: str, endpoint: Endpoint) -> LeaseCard | None:
        engine = self.engines.get(endpoint[0])
        if engine is None or not engine.running or self.no_card[engine.name]:
            return None
        if not (self.network.reachable(asker, engine.name) and self.network.reachable(engine.name, asker)):
            return None
        return engine.card()

    def _message_arrived(self, source: int, target: int, payload: bytes) -> None:
        ports = self.network.ports
        if (words := describe(payload)) is not None:
            self.tell(f"{ports[source].engine} to {ports[target].engine}: {words}")
        self.facts.message_arrived(source, target, payload)

    # -- the account ---------------------------------------------------------------------------------------------

    def tell(self, what: str) -> None:
        """Enter an event into the run's trace, from which the digest is made."""
        line = f"{self.agenda.now:10.6f} {what}"
        self._hash.update(line.encode() + b"\n")
        self.last.append(line)
        if self._tell is not None:
            self._tell(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
