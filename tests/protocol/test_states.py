"""The tables have all that can happen to a lease and to a session, and all of it does happen (S3, R12)."""

import enum
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pytest

from kvlease.engine.own_fences import SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.errors import ImpossibleEvent
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.protocol import TIMING, Lease, resolve
from kvlease.protocol.claims import ConsumerSession
from kvlease.protocol.messages import Ack, Bye
from kvlease.protocol.states import (
    CONSUMER,
    LEASE,
    PRODUCER,
    ConsumerEvent,
    ConsumerState,
    LeaseEvent,
    LeaseState,
    ProducerEvent,
    ProducerState,
)
from kvlease.protocol.tracking import ProducerSession
from kvlease.testing.benches import D2, P2, D, LesseeBench, LessorBench, P
from kvlease.testing.data_agent import FakeDataAgent
from kvlease.testing.desk import ListedDesk
from kvlease.testing.pool import CountedPool

Row = tuple[enum.StrEnum, enum.StrEnum]
NEXT_LEASE = {row: state for row, (state, _) in LEASE.items()}


def pairs(states: Iterable[enum.StrEnum], events: Iterable[enum.StrEnum]) -> list[Row]:
    return list(itertools.product(states, events))


def goes_by_the_table(thing: Any, table: Mapping[Any, Any], row: Row) -> None:
    state, event = thing.state, row[1]
    assert state is row[0]
    if row in table:
        thing.happen(event)
        assert thing.state is table[row]
    else:
        with pytest.raises(ImpossibleEvent, match=re.escape(f"{event} cannot happen in the state {state}")):
            thing.happen(event)
        assert thing.state is state


@pytest.mark.parametrize("row", pairs(LeaseState, LeaseEvent), ids="-".join)
def test_a_lease_goes_by_its_table_alone(row: tuple[LeaseState, LeaseEvent]) -> None:
    lease = Lease(1, 0.0, 30.0, row[0])
    goes_by_the_table(lease, NEXT_LEASE, row)


@pytest.mark.parametrize("row", pairs(ConsumerState, ConsumerEvent), ids="-".join)
def test_a_session_goes_by_its_table_alone_at_its_producer(row: tuple[ConsumerState, ConsumerEvent]) -> None:
    goes_by_the_table(ConsumerSession(D, 1, row[0]), CONSUMER, row)


@pytest.mark.parametrize("row", pairs(ProducerState, ProducerEvent), ids="-".join)
def test_a_session_goes_by_its_table_alone_at_its_consumer(row: tuple[ProducerState, ProducerEvent]) -> None:
    goes_by_the_table(ProducerSession(P, ("p", 1), row[0]), PRODUCER, row)


@pytest.mark.parametrize("row", sorted(LEASE))
def test_the_cause_of_an_end_is_told_once_where_it_is_decided(row: tuple[LeaseState, LeaseEvent]) -> None:
    (old, _), (new, cause) = row, LEASE[row]
    over = (LeaseState.LAPSED, LeaseState.ENDED)
    assert (cause is not None) == (new in over and old not in over)


def reachable(table: Mapping[Any, Any], start: enum.StrEnum) -> set[enum.StrEnum]:
    found: set[enum.StrEnum] = set()
    todo = [start]
    while todo:
        state = todo.pop()
        new = {to for (old, _), to in table.items() if old is state} - found
        found |= new
        todo += new
    return found


def test_s3_a_lease_comes_back_by_a_claim_alone_and_has_no_way_out_of_ended() -> None:
    assert reachable(NEXT_LEASE, LeaseState.ENDED) == set()
    assert LeaseState.PREPARED not in NEXT_LEASE.values()
    out = {event: to for (state, event), to in NEXT_LEASE.items() if state is LeaseState.LAPSED}
    assert out == {LeaseEvent.CLAIM: LeaseState.CLAIMED, LeaseEvent.CLEAR: LeaseState.ENDED}


@pytest.mark.parametrize(
    ("table", "states", "first", "last"),
    [
        (NEXT_LEASE, LeaseState, LeaseState.PREPARED, LeaseState.ENDED),
        (CONSUMER, ConsumerState, ConsumerState.CLOSED, ConsumerState.CLOSED),
        (PRODUCER, ProducerState, ProducerState.CLOSED, ProducerState.CLOSED),
    ],
)
def test_every_state_can_be_come_to_and_none_is_a_trap(
    table: Mapping[Any, Any], states: type[enum.StrEnum], first: enum.StrEnum, last: enum.StrEnum
) -> None:
    assert reachable(table, first) | {first} == set(states)
    for state in set(states) - {last}:
        assert last in reachable(table, state)


# -- every row is taken ------------------------------------------------------------------------------------------


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[Row]:
    """The rows that are looked up in the tables during the test."""
    rows: set[Row] = set()

    class Noted(dict[Row, Any]):
        def __getitem__(self, row: Row) -> Any:
            rows.add(row)
            return super().__getitem__(row)

    for module in [module for name, module in sys.modules.items() if name.startswith("kvlease.")]:
        for name, table in (("LEASE", LEASE), ("CONSUMER", CONSUMER), ("PRODUCER", PRODUCER)):
            if getattr(module, name, None) is table:
                monkeypatch.setattr(module, name, Noted(cast("Mapping[Row, Any]", table)))
    return rows


def of(states: type[enum.StrEnum], rows: set[Row]) -> set[Row]:
    return {row for row in rows if isinstance(row[0], states)}


def claimed_by(*peers: int) -> LessorBench:
    p = LessorBench(duration=30, max_age=60, orphan_grace=1)
    p.grant(1)
    for peer in peers:
        p.claim(1, peer=peer)
    return p


def a_prefill_is_aborted() -> None:
    """Ends a lease that was never granted: the engine's scheduler ends it, and the lessor does not hear of it."""
    producer = ProducerSide(resolve({}), ListedDesk(P), CountedPool(1), 1)
    producer.open(1, SharedFences([FenceTable(RegisteredWords(FakeDataAgent(), 1))]))
    producer.prepare("r")
    producer.abort("r")
    assert producer.counts == {"ends.aborted": 1}


def test_every_row_of_a_lease_is_taken(taken: set[Row]) -> None:
    claimed_by(D, D2).wait(31)
    claimed_by(D).wait_renewing(61)
    claimed_by().wait(31)
    claimed_by().end(1)
    claimed_by(D).end(1)
    claimed_by().lessor.abort(1, 100.0)
    unread = claimed_by()
    unread.hello()
    unread.renew(drops=[1])
    read = claimed_by(D)
    read.renew(drops=[1])
    read.claim(1)
    read.renew(drops=[1])
    read.end(1)
    silent = claimed_by(D)
    silent.wait(25)
    silent.renew()
    kept = claimed_by(D)
    kept.wait_renewing(30)
    kept.wait(25)
    dead = claimed_by(D)
    dead.lose_peer()
    dead.wait(2)
    beating = claimed_by()
    for _ in range(5):
        beating.lessor.extend(1, beating.now)
        beating.wait(15)
    for ended in (claimed_by(), claimed_by(D)):
        ended.lessor.revoke(1, ended.now)
    a_prefill_is_aborted()
    assert of(LeaseState, taken) == LEASE.keys()


AFTER_A_DEATH: tuple[Callable[[LessorBench], object], ...] = (
    LessorBench.bye,
    LessorBench.hello,
    lambda p: p.wait(TIMING.session_idle_s + 1),
)


def test_every_row_of_a_session_is_taken_at_its_producer(taken: set[Row]) -> None:
    for peers in ((), (D,)):
        living = claimed_by(*peers)
        living.hello()
        living.hello()
        living.claim(1)
        living.renew(drops=[1])
        living.bye()
        for what in AFTER_A_DEATH:
            dead = claimed_by(*peers)
            dead.hello()
            dead.lose_peer()
            what(dead)
    idle = claimed_by()
    idle.hello()
    idle.wait(TIMING.session_idle_s + 1)
    assert of(ConsumerState, taken) == CONSUMER.keys()


def seeking() -> LesseeBench:
    d = LesseeBench()
    d.track("r1", 1)
    return d


def greeting() -> LesseeBench:
    d = seeking()
    d.fetched(d.card())
    return d


def opened() -> LesseeBench:
    d = LesseeBench()
    d.open_and_held()
    return d


def nobody_wants_it(d: LesseeBench) -> None:
    d.untrack("r1")
    for _ in range(40):
        if any(session.fetching for session in d.lessee.sessions.values()):
            d.fetched(None)
        d.wait_answered(1)


def it_asks_for_a_hello(d: LesseeBench) -> None:
    d.wait(5.05)
    d.hear(Ack(d.last_seq, [], reopen=True))


def it_is_lost(d: LesseeBench) -> None:
    d.lessee.peer_lost(P, d.now)


def another_is_there(d: LesseeBench) -> None:
    d.fetched(d.card(P2))


STORIES: tuple[tuple[Callable[[], LesseeBench], Callable[[LesseeBench], object]], ...] = (
    (seeking, another_is_there),
    *((begin, end) for begin in (seeking, greeting, opened) for end in (lambda d: d.hear(Bye()), nobody_wants_it)),
    *((begin, end) for begin in (greeting, opened) for end in (it_is_lost, lambda d: d.wait(20))),
    (greeting, lambda d: d.lessee.close()),
    (opened, it_asks_for_a_hello),
)


def test_every_row_of_a_session_is_taken_at_its_consumer(taken: set[Row]) -> None:
    for begin, end in STORIES:
        end(begin())
    assert of(ProducerState, taken) == PRODUCER.keys()
