"""Everything that there is in a run, and the account that is kept of it."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable

from kvlease.protocol import Endpoint, LeaseCard, LeaseConfig, LeaseRef, resolve
from kvlease.sim.cards import CardDesk
from kvlease.sim.chance import Chance
from kvlease.sim.clock import Agenda
from kvlease.sim.dataplane import DataPlane
from kvlease.sim.engine import SimEngine
from kvlease.sim.facts import Facts
from kvlease.sim.network import SimNetwork, in_words
from kvlease.sim.plan import Plan
from kvlease.sim.prefill import Prefill
from kvlease.sim.promises import Promises
from kvlease.sim.safety import Safety
from kvlease.sim.stranded import Stranded
from kvlease.sim.users import Users

MOST_EVENTS = 1_000_000
"""A run has some ten thousand."""


class World:
    """The engines by name, what is between them, who asks, and who watches."""

    def __init__(self, plan: Plan, last_events: int, tell: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.config: LeaseConfig = resolve(dict(plan.config))[0]
        self.chance = Chance(plan.seed)
        self.names_stay = self.chance.of("names").random() < 0.5
        """Whether a restarted engine keeps its engine id."""
        self.reads_need_the_owner = self.chance.of("memory").random() < 0.5
        """Whether the memory of a stopped process cannot be read, as over TCP."""
        self.counts: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=last_events)
        self._tell = tell
        self._hash = hashlib.sha256()
        self.agenda = Agenda(MOST_EVENTS)
        self.safety = Safety()
        self.network = SimNetwork(self.agenda, self.chance, self._message_arrived)
        self.plane = DataPlane(self.agenda, self.chance, plan.read_s, self._can_read)
        self.cards = CardDesk(self.agenda, self.chance, self._serve_card)
        self.no_card: Counter[str] = Counter()
        """Engines whose side channel does not answer, by how many faults."""
        self.facts = Facts(self)
        self.promises = Promises(self, self.facts)
        self.stranded = Stranded(self, self.facts)
        self.engines: dict[str, SimEngine] = {}
        for name in dict.fromkeys((*plan.producers, *plan.consumers)):
            self.start(name)
        self.users = Users(self)

    # -- engines -------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """An engine starts, as another incarnation than any before."""
        engine = self.engines[name] = SimEngine(self, name)
        self.tell(f"{name} starts as {engine.incarnation:016x}")

    def crash(self, name: str, death_shows: bool) -> None:
        engine = self.engines[name]
        self.tell(f"{name} crashes{'' if death_shows else ', which nobody notices'}")
        engine.end(death_shows)
        self.facts.engine_ended(engine, death_shows)
        self.users.engine_ended(engine)

    def shut_down(self, name: str) -> None:
        engine = self.engines[name]
        self.tell(f"{name} shuts down")
        engine.shut_down()
        self.facts.engine_ended(engine, True)
        self.users.engine_ended(engine)

    def granted(self, engine: SimEngine, prefill: Prefill, ref: LeaseRef) -> None:
        self.tell(f"{engine.name} grants {ref.token:016x} in slot {ref.slot} to {prefill.request_id}: {prefill.blocks}")
        self.safety.granted(engine.incarnation, ref.token)
        self.facts.granted(engine, ref.token)

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
        if (words := in_words(payload)) is not None:
            self.tell(f"{ports[source].engine} to {ports[target].engine}: {words}")
        self.facts.message_arrived(source, target, payload)

    # -- the account ---------------------------------------------------------------------------------------------

    def tell(self, what: str) -> None:
        """Something happened; what is told is the run's trace."""
        line = f"{self.agenda.now:10.6f} {what}"
        self._hash.update(line.encode() + b"\n")
        self.last.append(line)
        if self._tell is not None:
            self._tell(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
