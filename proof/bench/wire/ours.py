"""The messages that kvlease's agents really send each other: a producer and a consumer play for some terms."""

from collections import Counter, deque
from dataclasses import dataclass, field

from kvlease.agent.loop import POLL_S
from kvlease.fence.slots import draw_token
from kvlease.protocol import Fingerprint, LeaseCard, LeaseRef
from kvlease.protocol.messages import VERSION, Renew, decode, milliseconds
from proof.bench.core.leased import ADDRESS, CONFIG, CONSUMER, PLACE, PRODUCER, HandledAgent

TURN_S = POLL_S
"""The time between two turns of an agent, as of the agent's thread; a message arrives at the next turn."""


@dataclass(slots=True)
class WireTraffic:
    """Messages and their bytes, by kind."""

    messages_of: Counter[str] = field(default_factory=Counter)
    bytes_of: Counter[str] = field(default_factory=Counter)

    def count(self, payload: bytes) -> None:
        kind = kind_of(payload)
        self.messages_of[kind] += 1
        self.bytes_of[kind] += len(payload)

    @property
    def messages(self) -> int:
        return self.messages_of.total()

    @property
    def bytes(self) -> int:
        return self.bytes_of.total()


def kind_of(payload: bytes) -> str:
    """The message's name; a Renew that carries changes is another kind than one that only says "alive"."""
    message = decode(payload)
    changes = isinstance(message, Renew) and (message.claims or message.drops)
    return "Renew with changes" if changes else type(message).__name__


class Play:
    """A producer and a consumer, with no network between them that would lose or delay anything."""

    def __init__(self) -> None:
        self.producer = HandledAgent("prefill", PRODUCER, {})
        card = LeaseCard([VERSION], PRODUCER, ADDRESS, [])
        self.consumer = HandledAgent("decode", CONSUMER, {PLACE: card})
        self.traffic = WireTraffic()
        self._alive: deque[tuple[str, int]] = deque()
        self._granted = 0

    @property
    def alive(self) -> int:
        """The number of leases granted and not yet read."""
        return len(self._alive)

    def grant(self) -> None:
        """Finish a prefill, whose request reaches the decode engine."""
        token, holder = draw_token(), f"request {self._granted}"
        self._granted += 1
        self.producer.core.grant(token)
        ref = LeaseRef(PRODUCER, token, 0, milliseconds(CONFIG.duration_s), Fingerprint(1, 0))
        self.consumer.core.track(holder, ref, PLACE)
        self._alive.append((holder, token))

    def read_oldest(self) -> None:
        """Drop the lease of the oldest request, which has its data."""
        holder, _ = self._alive.popleft()
        self.consumer.core.untrack(holder)

    def turns(self) -> None:
        """Let both engines make a step, and both agents take a turn."""
        self.consumer.core.progress()
        self.consumer.turn(TURN_S)
        self.producer.turn(TURN_S)
        for news in self.producer.core.take_news():
            # The blocks are given to others at once.
            self.producer.core.cleared(news.token)
        self._carry(self.consumer, CONSUMER, self.producer)
        self._carry(self.producer, PRODUCER, self.consumer)

    def _carry(self, sender: HandledAgent, peer: int, receiver: HandledAgent) -> None:
        for payload in sender.desk.outbox:
            self.traffic.count(payload)
            receiver.desk.inbox.append((peer, payload))
        sender.desk.outbox.clear()

    def begin_counting(self) -> None:
        self.traffic = WireTraffic()


def waiting(leases: int, terms: int) -> WireTraffic:
    """Plays claimed leases that wait for so many terms: nothing but renewals, their answers and probes."""
    play = Play()
    for _ in range(leases):
        play.grant()
    for _ in range(_turns(2.0)):
        play.turns()
    play.begin_counting()
    for _ in range(_turns(terms * CONFIG.duration_s)):
        play.turns()
    _assert_all_held(play, on_their_way=0)
    return play.traffic


def flowing(leases: int, life_s: float, terms: int) -> WireTraffic:
    """Plays so many leases a term, granted evenly, each of which is read `life_s` after its grant. They are counted for
    so many terms, after the first lives have ended."""
    play = Play()
    settle_s = max(life_s, CONFIG.duration_s / 10) + 2.0
    pause_s = CONFIG.duration_s / leases
    granted = read = 0
    for turn in range(_turns(settle_s + terms * CONFIG.duration_s)):
        now = turn * TURN_S
        if turn == _turns(settle_s):
            play.begin_counting()
        while granted * pause_s <= now:
            play.grant()
            granted += 1
        while read * pause_s + life_s <= now:
            play.read_oldest()
            read += 1
        play.turns()
    # A claim or a drop takes some ticks of 20 ms to be told.
    _assert_all_held(play, on_their_way=round(0.2 / pause_s) + 1)
    return play.traffic


def opening() -> WireTraffic:
    """The traffic of a pair of engines before the first claim."""
    play = Play()
    play.grant()
    while not play.traffic.messages_of["Renew with changes"]:
        play.turns()
    del play.traffic.messages_of["Renew with changes"], play.traffic.bytes_of["Renew with changes"]
    return play.traffic


def _turns(duration_s: float) -> int:
    return round(duration_s / TURN_S)


def _assert_all_held(play: Play, on_their_way: int) -> None:
    """Checks that a mechanism that works was counted: nothing was lost meanwhile, and what was read has ended."""
    lost = play.consumer.core.report().lessee.get("lost", 0)
    held = play.producer.core.report().leases
    assert not lost, f"{lost} leases were lost"
    assert 0 <= held - play.alive <= on_their_way, f"{held} leases at the producer, {play.alive} wanted"
