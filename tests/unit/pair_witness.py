"""The invariants of the protocol, checked on a `World` after every tick (S3, S4, L1, L2, L3, R12)."""

from pair_model import CONFIG, GHOST_S, Consumer, Producer, Weather, Witness, World

from kvlease.protocol import Cause, LeaseRef, LeaseState, Standing, lessee, lessor
from kvlease.protocol.effects import Revoke
from kvlease.protocol.lessee import RETRY_S, TRIES
from kvlease.protocol.tracking import Phase, Session
from kvlease.sim.structure import LIVE, check_lessee, check_lessor, lessee_is_empty, lessor_is_empty

# The longest way back into a session: all copies of a renewal and of a Hello unanswered, a card, two round trips.
RECOVERY_S = CONFIG.extension_s + 2 * TRIES * RETRY_S + 4.0
MILLISECOND = 0.001


class Strict(Witness):
    def __init__(self) -> None:
        self.causes: dict[int, Cause] = {}
        self._claimants: dict[int, set[int]] = {}
        self._dropping: dict[tuple[int, int], Session] = {}
        self._settled: dict[tuple[int, int], int] = {}
        """(Consumer, token) of drops that were acknowledged, and the number of the producer's session."""

    def revoked(self, world: World, producer: Producer, effect: Revoke) -> None:
        assert effect.token not in self.causes, f"{effect.token:x} was revoked twice"
        self.causes[effect.token] = effect.cause
        if effect.cause in (Cause.EXPIRED, Cause.ORPHANED, Cause.RELEASED):
            for consumer in world.consumers:
                assert not self._deserved_it(world, producer, consumer, effect.token), f"L2: {effect}"

    def _deserved_it(self, world: World, producer: Producer, consumer: Consumer, token: int) -> bool:
        """Whether `consumer` was alive, wanted the lease, and could be heard: then only age may end it (L2, R24)."""
        calm_s = world.now - max(world.rough_at, producer.troubled_at, consumer.troubled_at)
        return calm_s > RECOVERY_S and any(
            world.now - wish.since > RECOVERY_S and consumer.lessee.standing(holder, world.now) is not Standing.LOST
            for holder, wish in consumer.wants.items()
            if wish.ref.token == token
        )

    def lost(self, world: World, consumer: Consumer, holder: str) -> None:
        ref = consumer.wants[holder].ref
        assert not is_live(world, ref), f"R20: {holder} was told that its lease is lost, but its producer holds it"

    def ticked(self, world: World) -> None:
        for producer in world.producers:
            if producer.running:
                check_lessor(producer.lessor)
                for token in self.causes.keys() & producer.lessor.leases.keys():
                    state = producer.lessor.leases[token].state
                    assert state is LeaseState.REVOKING, f"S3: {token:x} came back as {state}"
        for consumer in world.consumers:
            if consumer.running:
                check_lessee(consumer.lessee)
                self._check_standings(world, consumer)
                self._check_settled_drops(world, consumer)

    def _check_standings(self, world: World, consumer: Consumer) -> None:
        """HELD is the producer's word, and it keeps it, but for age and a death report (which may be false)."""
        for holder, wish in consumer.wants.items():
            token, producer = wish.ref.token, world.producer_of(wish.ref)
            doubted_at = world.doubted_at.get((producer.incarnation, consumer.incarnation), float("-inf"))
            excused = (
                not producer.alive
                or token in world.read_by_others
                or self.causes.get(token) in (Cause.AGED_OUT, Cause.ORPHANED)
                or world.now - doubted_at < CONFIG.extension_s + RECOVERY_S
            )
            if not excused and consumer.lessee.standing(holder, world.now + MILLISECOND) is Standing.HELD:
                session = producer.lessor.sessions.get(consumer.incarnation)
                claimed = session is not None and token in session.claims
                assert claimed, f"{holder} believes that it holds {token:x}, which ended: {self.causes.get(token)}"

    def _check_settled_drops(self, world: World, consumer: Consumer) -> None:
        """A drop that is acknowledged is done: nothing that comes late brings the lease back (S4)."""
        for producer, session in consumer.lessee.sessions.items():
            drops = [token for token, claimed in session.pending.items() if not claimed]
            drops += session.window.drops if session.window else []
            for token in drops:
                self._dropping[consumer.incarnation, token] = session
            for token in session.leases:
                self._claimants.setdefault(token, set()).add(consumer.incarnation)
                self._dropping.pop((consumer.incarnation, token), None)
                self._settled.pop((consumer.incarnation, token), None)
            for ref in world.refs_of(producer):
                key = (consumer.incarnation, ref.token)
                if self._dropping.get(key) is session and session.phase is Phase.OPEN and ref.token not in drops:
                    self._settled[key] = session.number
                    del self._dropping[key]
        for (incarnation, token), number in self._settled.items():
            ref = world.ref_of[token]
            if self._claimants.get(token, {incarnation}) == {incarnation}:
                assert not is_live(world, ref), f"S4: {token:x} was dropped, and that was acknowledged"
            claiming = world.producer_of(ref).lessor.sessions.get(incarnation)
            assert claiming is None or claiming.number != number or token not in claiming.claims, f"S4: {token:x}"


def is_live(world: World, ref: LeaseRef) -> bool:
    producer = world.producer_of(ref)
    lease = producer.lessor.leases.get(ref.token)
    return producer.alive and lease is not None and lease.state in LIVE


def converge(world: World) -> None:
    """The faults stop. Everybody knows the truth in the end, and when nobody wants anything, nothing is left (L3)."""
    world.network.weather = Weather()
    for p, producer in enumerate(world.producers):
        if not producer.alive:
            world.restart_producer(p)
    for process in (*world.producers, *world.consumers):
        process.wakes_at = world.now
    for consumer in world.consumers:
        consumer.stalled_until = world.now
    world.run(GHOST_S)
    world.run(max(CONFIG.duration_s, CONFIG.extension_s) + CONFIG.orphan_grace_s + RECOVERY_S)
    check_truth(world)
    for d, consumer in enumerate(world.consumers):
        while consumer.wants:
            world.finish(d, 0)
    world.run(CONFIG.extension_s + RECOVERY_S)
    for producer in world.producers:
        assert not producer.lessor.leases, "L1: nobody wants anything"
    world.run(lessee.IDLE_S + lessor.SESSION_IDLE_S + 2.0)
    check_nothing_is_left(world)


def check_truth(world: World) -> None:
    wanted = {wish.ref.token for consumer in world.consumers for wish in consumer.wants.values()}
    for producer in world.producers:
        for token, lease in producer.lessor.leases.items():
            assert token in wanted or lease.state is LeaseState.REVOKING, f"L1: nobody wants {token:x}"
            for peer in lease.claims:
                claimant = world.everyone[peer]
                assert isinstance(claimant, Consumer)
                assert any(wish.ref.token == token for wish in claimant.wants.values()), "S4: a claim that nobody made"
    for consumer in world.consumers:
        for holder, wish in consumer.wants.items():
            standing = consumer.lessee.standing(holder, world.now)
            if wish.ref.token not in world.read_by_others:
                truth = Standing.HELD if is_live(world, wish.ref) else Standing.LOST
                assert standing is truth, f"R20: {holder} {wish.ref.token:x} is {standing}"


def check_nothing_is_left(world: World) -> None:
    for producer in world.producers:
        lessor_is_empty(producer.lessor)
        assert not producer.connected
    for consumer in world.consumers:
        lessee_is_empty(consumer.lessee)
        assert not consumer.connected
