"""The invariants of the protocol, checked on a `World` after every tick (S3, S4, L1, L2, L3, R12)."""

from pair_model import CONFIG, GHOST_S, Consumer, Producer, Weather, Witness, World

from kvlease.protocol import Cause, LeaseRef, LeaseState, Standing, lessee, lessor
from kvlease.protocol.effects import Revoke
from kvlease.protocol.lessee import RETRY_S, TRIES
from kvlease.sim.standing import Settled, believed, check_beliefs, check_loss, granted, stated
from kvlease.sim.structure import LIVE, check_lessee, check_lessor, lessee_is_empty, lessor_is_empty

# The longest way back into a session: all copies of a renewal and of a Hello unanswered, a card, two round trips.
RECOVERY_S = CONFIG.extension_s + 2 * TRIES * RETRY_S + 4.0


class Strict(Witness):
    def __init__(self) -> None:
        self.settled = Settled()

    @property
    def causes(self) -> dict[int, Cause]:
        return self.settled.causes

    def revoked(self, world: World, producer: Producer, effect: Revoke) -> None:
        self.settled.revoked(effect.token, effect.cause)
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
        if (producer := world.producer_of(ref)).alive:
            check_loss(consumer.incarnation, ref.token, granted(producer.lessor))

    def ticked(self, world: World) -> None:
        for producer in world.producers:
            if producer.running:
                check_lessor(producer.lessor)
        for consumer in world.consumers:
            if consumer.running:
                check_lessee(consumer.lessee)
                self.settled.look(consumer.incarnation, stated(consumer.lessee))
                self._check_beliefs(world, consumer)
        for producer in world.producers:
            if producer.alive:
                self.settled.check(granted(producer.lessor))

    def _check_beliefs(self, world: World, consumer: Consumer) -> None:
        """HELD is the producer's word, and it keeps it, but for what it had no say in."""
        beliefs = believed(consumer.lessee, world.now)
        for producer in world.producers:
            doubted_at = world.doubted_at.get((producer.incarnation, consumer.incarnation), float("-inf"))
            if producer.alive and world.now - doubted_at >= CONFIG.extension_s + RECOVERY_S:
                own = [belief for belief in beliefs if belief[1] not in world.read_by_others]
                check_beliefs(own, consumer.incarnation, granted(producer.lessor), self.causes)


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
