"""The search for a term, a grace and an interval for some traffic: candidates, played on the same requests.

Each candidate is played three times: undisturbed, with every decode engine standing still once for as long as leases
have to survive, and with every other decode engine dying once. So the memory that a crash strands is measured on many
crashes, and then multiplied by the stated number of them; stalls likewise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import floor
from typing import Any

from kvlease.fleet.outcome import FleetOutcome
from kvlease.fleet.play import play
from kvlease.fleet.policies import Kvlease
from kvlease.fleet.settings import NO_FAULTS, Crash, FleetFaults, Stall
from kvlease.fleet.traffic.sampling import TrafficSample
from kvlease.protocol.config import DEFAULT_DURATION_S, LeaseConfig, resolve
from kvlease.simulation.chance import Stream, stream
from kvlease.simulation.processes import Watch, in_processes

TERMS_S = (5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0)
GRACES_S = (0.0, 1.0, 5.0)
INTERVALS = (1 / 8, 1 / 4, 1 / 2)
"""The candidates for the interval, as parts of the extension."""
MARGIN = 1.5
"""The factor by which the stalls that leases have to survive are longer than stated."""
HOUR_S = 3600.0
LEAST_WINDOW_S = 120.0
STALLS_IN_WINDOW = 8
"""The least length of a sample in stalls, so that most of it is undisturbed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Three settings; all others follow from them (`kvlease.protocol.config`)."""

    term_s: float
    grace_s: float
    interval_s: float

    @classmethod
    def of_term(cls, term_s: float) -> "Candidate":
        """Returns the candidate with this term, and the grace and the interval that follow from it."""
        config = resolve({"kv_lease_duration": term_s})
        return cls(term_s, config.orphan_grace_s, config.renew_interval_s)

    @property
    def extra_config(self) -> dict[str, float]:
        """The candidate in the form of vLLM's `kv_connector_extra_config`."""
        return {
            "kv_lease_duration": self.term_s,
            "kv_lease_orphan_grace": self.grace_s,
            # Rounded down to a millisecond, since two intervals have to fit into the extension.
            "kv_lease_renew_interval": floor(self.interval_s * 1000) / 1000,
        }

    @property
    def strangeness(self) -> float:
        """The distance from the defaults in seconds; 0 for the defaults."""
        usual = self.of_term(self.term_s)
        return (
            abs(self.term_s - DEFAULT_DURATION_S)
            + abs(self.grace_s - usual.grace_s)
            + abs(self.interval_s - usual.interval_s)
        )

    @property
    def config(self) -> LeaseConfig:
        """The candidate's settings with all that follow from them."""
        return resolve(self.extra_config)


@dataclass(frozen=True, slots=True)
class Troubles:
    """The troubles that the fleet is expected to have."""

    stall_s: float
    """The longest time for which all threads of a decode engine may stand still without losing a lease."""
    crashes_per_hour: float
    """The crashes an hour of each decode engine."""

    @property
    def survived_s(self) -> float:
        """The length in seconds of the stalls that are played."""
        return self.stall_s * MARGIN

    @property
    def window_s(self) -> float:
        """The least length of a sample in seconds."""
        return max(LEAST_WINDOW_S, STALLS_IN_WINDOW * self.survived_s)


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate, and its outcomes."""

    candidate: Candidate
    calm: FleetOutcome
    stalled: FleetOutcome
    crashed: FleetOutcome
    engines: int
    """The number of decode engines that were played."""
    crashes_per_hour: float
    """The crashes an hour of each decode engine, as stated."""

    @property
    def lost(self) -> int:
        """The number of leases that ended, while wanted, because of the stalls."""
        return max(self.stalled.leases.lost_while_wanted - self.calm.leases.lost_while_wanted, 0)

    @property
    def stranded_a_crash(self) -> float:
        """The stranded block-seconds for each death of a decode engine."""
        return _held_for_nothing(self.crashed) / max(self.crashed.crashes, 1)

    @property
    def stranded_share(self) -> float:
        """The mean share of the prefill engines' memory that is stranded, with crashes and lost requests as stated."""
        usual = _held_for_nothing(self.calm) / self.calm.window_s
        by_crashes = self.stranded_a_crash * self.crashes_per_hour * self.engines / HOUR_S
        return (usual + by_crashes) / self.calm.blocks.capacity

    @property
    def redone(self) -> int:
        """The number of prompts computed once more, on either side, because of the stalls and crashes played."""
        return sum(_redone(outcome) - _redone(self.calm) for outcome in (self.stalled, self.crashed))


def _held_for_nothing(outcome: FleetOutcome) -> float:
    """Returns the stranded block-seconds, without those until a producer hears of a read, which no setting shortens."""
    # The difference may be a little below 0, since sums in another order differ in their last digits.
    return max(outcome.blocks.stranded_block_s - outcome.blocks.stranded_read_block_s, 0.0)


def _redone(outcome: FleetOutcome) -> int:
    return outcome.prefills.repeated + outcome.prefills.recomputed


@dataclass(frozen=True, slots=True)
class Job:
    """One run, with all that another process needs to play it."""

    candidate: Candidate
    disturbed: str
    """The disturbance: `calm`, `stalled` or `crashed`."""
    faults: FleetFaults
    sample: TrafficSample
    seed: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """Plays candidates on one sample."""

    sample: TrafficSample
    troubles: Troubles
    seed: int
    jobs: int
    watch: Watch = lambda *_: None

    def play(self, candidates: Sequence[Candidate], began: float, until: float) -> list[Tried]:
        """Plays candidates and returns them with their outcomes; progress goes from `began` to `until`."""
        cases = {
            "calm": NO_FAULTS,
            "stalled": stalls(self.sample, self.troubles, self.seed),
            "crashed": crashes(self.sample, self.seed),
        }
        runs = [
            Job(candidate, disturbed, faults, self.sample, self.seed)
            for candidate in candidates
            for disturbed, faults in cases.items()
        ]
        found: dict[tuple[Candidate, str], FleetOutcome] = {}
        for number, (job, outcome) in enumerate(self._outcomes(runs), start=1):
            found[job.candidate, job.disturbed] = outcome
            self.watch(_name(job), began + (until - began) * number / len(runs))
        return [
            Tried(
                candidate,
                found[candidate, "calm"],
                found[candidate, "stalled"],
                found[candidate, "crashed"],
                engines=self.sample.fleet.consumers,
                crashes_per_hour=self.troubles.crashes_per_hour,
            )
            for candidate in candidates
        ]

    def _outcomes(self, runs: Sequence[Job]) -> Iterator[tuple[Job, FleetOutcome]]:
        yield from in_processes(_play, runs, self.jobs)


def _play(job: Job) -> tuple[Job, FleetOutcome]:
    fleet = job.sample.fleet
    if job.disturbed != "calm":
        # Lost requests are played only in the calm run, where nothing else strands memory.
        fleet = replace(fleet, lost_share=0.0)
    return job, play(fleet, Kvlease(job.candidate.extra_config), iter(job.sample.arrivals), job.faults, job.seed)


def _name(job: Job) -> str:
    return f"term {job.candidate.term_s:g} s, grace {job.candidate.grace_s:g} s, {job.disturbed}"


def stalls(sample: TrafficSample, troubles: Troubles, seed: int) -> FleetFaults:
    """Returns stalls: every decode engine stands still once, with all of its threads."""
    if not troubles.stall_s:
        return NO_FAULTS
    times = _times(sample, sample.fleet.consumers, stream("stalls", seed))
    lasts_s = troubles.survived_s
    return FleetFaults(stalls=tuple(Stall(at, "consumer", index, lasts_s, "process") for index, at in enumerate(times)))


def crashes(sample: TrafficSample, seed: int) -> FleetFaults:
    """Returns crashes: every other decode engine dies once, and is back after the usual time."""
    engines = range(0, sample.fleet.consumers, 2)
    times = _times(sample, len(engines), stream("crashes", seed))
    return FleetFaults(crashes=tuple(Crash(at, "consumer", index) for index, at in zip(engines, times, strict=True)))


def _times(sample: TrafficSample, count: int, chance: Stream) -> list[float]:
    """Returns random times in the sample, but not in its first tenth, in which queues fill, nor in its last."""
    return [chance.uniform(0.1, 0.9) * sample.window_s for _ in range(count)]


def tried_json(tried: Tried) -> dict[str, Any]:
    """Returns every figure of a candidate."""
    return {
        "extra_config": tried.candidate.extra_config,
        "leases_lost_in_stalls": tried.lost,
        "stranded_block_s_a_crash": tried.stranded_a_crash,
        "stranded_share": tried.stranded_share,
        "redone_prefills": tried.redone,
        "calm": asdict(tried.calm),
        "stalled": asdict(tried.stalled),
        "crashed": asdict(tried.crashed),
    }
