"""R1, R2, R3, R18, R25: at a lessor, each deadline of the documentation comes at the time that its formula gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from docs.made.deadlines import DEADLINES, MOMENTS, Deadline
from kvlease.protocol import TIMING, Cause, LeaseState
from kvlease.protocol.clock import TICK_S
from kvlease.protocol.config import SECONDS
from kvlease.protocol.effects import Effect
from kvlease.protocol.messages import Probe
from kvlease.testing.benches import D, LessorBench, ends, sent

TOKEN = 1
SETTINGS: tuple[Mapping[str, float], ...] = (
    {},
    {"duration": 7, "extension": 11, "renew_interval": 3, "orphan_grace": 2, "max_age": 23, "probe_interval": 1.5},
    {"duration": 100, "extension": 80, "orphan_grace": 90, "max_age": 600},
)
"""Settings in such proportions that each formula has another value, and each of its operands decides once."""


@dataclass
class Story:
    """A lease at a producer, and the moments of it that a deadline counts from."""

    settings: Mapping[str, float]
    moments: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bench = LessorBench(TIMING, **self.settings)
        self.bench.grant(TOKEN)
        self.note("granted")

    @property
    def state(self) -> LeaseState:
        return self.bench.lessor.leases[TOKEN].state

    def note(self, moment: str) -> None:
        self.moments[moment] = self.bench.now

    def wait(self, duration_s: float) -> None:
        """Lets time pass, in which nothing ends."""
        assert ends(self.bench.wait(duration_s)) == {}

    def claim(self) -> None:
        self.bench.claim(TOKEN)
        self.note("renewed")

    def renew(self) -> None:
        self.bench.renew()
        self.note("renewed")

    def until(self, over: Callable[[list[Effect]], bool]) -> float:
        """The time at which it is over: the lessor takes a turn whenever it is due. `over` gets the effects since."""
        effects: list[Effect] = []
        while not over(effects):
            due = self.bench.lessor.next_due()
            assert due is not None, "nothing will ever be over"
            self.bench.now = due + 1e-6
            self.bench.lessor.was_awake(self.bench.now)
            self.bench.lessor.advance(self.bench.now)
            effects += self.bench.lessor.take_effects()
        return self.bench.now

    def until_ended(self, cause: Cause) -> float:
        return self.until(lambda effects: ends(effects) == {TOKEN: cause})


def nobody_claims(story: Story) -> float:
    return story.until_ended(Cause.EXPIRED)


def stock_heartbeat(story: Story) -> float:
    story.wait(3)
    story.bench.lessor.extend(TOKEN, story.bench.now)
    story.note("heard")
    return story.until_ended(Cause.EXPIRED)


def silent_session(story: Story) -> float:
    story.claim()
    story.wait(1)
    story.renew()
    return story.until(lambda _: not story.bench.lessor.sessions[D].claims)


def silent_sessions(story: Story) -> float:
    story.wait(2)
    story.claim()
    story.wait(1)
    story.bench.hello()
    story.note("renewed")
    return story.until_ended(Cause.EXPIRED)


def not_stated_again(story: Story) -> float:
    story.claim()
    story.wait(1)
    story.bench.hello()
    story.note("greeted")
    story.wait(1)
    story.bench.renew()
    return story.until(lambda _: not story.bench.lessor.sessions[D].claims)


def dead_consumer(story: Story) -> float:
    story.claim()
    story.wait(1)
    story.bench.lose_peer()
    story.note("reported")
    return story.until_ended(Cause.ORPHANED)


def old_age(story: Story) -> float:
    story.claim()
    config, granted = story.bench.config, story.bench.now
    while story.bench.now + config.renew_interval_s < granted + config.max_age_s:
        story.wait(config.renew_interval_s)
        story.renew()
    return story.until_ended(Cause.AGED_OUT)


def no_claims(story: Story) -> float:
    story.claim()
    story.wait(1)
    story.bench.renew(drops=[TOKEN])
    story.note("rested")
    return story.until(lambda _: D not in story.bench.lessor.sessions)


def dead_without_claims(story: Story) -> float:
    story.claim()
    story.wait(1)
    story.bench.renew(drops=[TOKEN])
    story.note("rested")
    story.wait(1)
    story.bench.lose_peer()
    story.note("reported")
    return story.until(lambda _: D not in story.bench.lessor.sessions)


def silence(story: Story) -> float:
    story.claim()
    story.note("spoken")
    return story.until(lambda effects: bool(sent(effects, Probe)))


STORIES: dict[str, Callable[[Story], float]] = {
    "a lease that nobody has claimed": nobody_claims,
    "a lease that a stock consumer keeps": stock_heartbeat,
    "a claim whose session has fallen silent": silent_session,
    "a lease whose sessions have all fallen silent": silent_sessions,
    "a claim that was not stated again after another Hello": not_stated_again,
    "a lease whose last consumer is dead": dead_consumer,
    "any lease": old_age,
    "a session without claims": no_claims,
    "a session without claims whose consumer is dead": dead_without_claims,
    "a silence while the consumer claims a lease": silence,
}


def test_every_deadline_has_its_story() -> None:
    assert [row.of for row in DEADLINES] == list(STORIES)


@pytest.mark.parametrize("settings", SETTINGS, ids=["defaults", "short", "long"])
@pytest.mark.parametrize("row", DEADLINES, ids=lambda row: row.of)
def test_it_is_over_when_the_formula_says(row: Deadline, settings: Mapping[str, float]) -> None:
    story = Story(settings)
    over_at = STORIES[row.of](story)
    said = story_time(row.at, story)
    assert said <= over_at <= said + TICK_S + 1e-3, f"{row.at} is {said - 100:g}, over after {over_at - 100:g} s"


def story_time(formula: str, story: Story) -> float:
    """The value of a formula, made of the story's moments, which the documentation explains, settings and `Timing`."""
    assert story.moments.keys() <= MOMENTS.keys()
    config = story.bench.config
    names = {setting.key: getattr(config, setting.key.removeprefix("kv_lease_") + "_s") for setting in SECONDS}
    names |= {name: getattr(TIMING, name) for name in TIMING.__slots__} | story.moments
    value = eval(formula, {"__builtins__": {"min": min, "max": max}}, names)
    assert isinstance(value, float)
    return value
