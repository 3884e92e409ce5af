"""The recommended candidate, chosen by a rule that anybody can check on the table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from kvlease.console.numbers import percent, size
from kvlease.fleet.plan import GRACES_S, INTERVALS, MARGIN, TERMS_S, Candidate, Sweep, Tried, Troubles
from kvlease.fleet.traffic.sampling import TrafficSample

EQUAL_SHARE = 0.001
"""The share of the prefill engines' memory by which two candidates may differ and count as equal."""
EQUAL_TRAFFIC = 1.05
"""The ratio to the least traffic up to which a candidate's traffic counts as equal."""

RULE = (
    "The term is chosen first, then the grace, then the interval. Each time: of the candidates that lost the fewest "
    f"leases in stalls {MARGIN:g} times as long as stated, those that strand the least memory, where "
    f"{100 * EQUAL_SHARE:g} % of the KV memory more counts as equal; of these, those that send the fewest bytes, where "
    f"{100 * (EQUAL_TRAFFIC - 1):g} % more counts as equal; of these, the one nearest to the default."
)
TAKEOVER_RULE = (
    " The router hands requests of a dead decode engine to another one (--takeover): so before the memory, the fewest "
    "prompts computed once more."
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of candidates."""

    label: str
    """The heading, short since eight of them stand side by side on a console."""
    meaning: str


MEANINGS = (
    Column("lost", "leases that ended while wanted, because of the stalls that were played; each costs a prefill"),
    Column("block-s", "that nobody wanted and that were not free, for each death of a decode engine"),
    Column("memory", "mean share of all KV memory that is stranded, with crashes and lost requests as often as stated"),
    Column("redone", "prompts computed once more, on either side, because of all stalls and crashes that were played"),
    Column("msg/s", "of each engine, there for leases alone, both directions, while nothing goes wrong"),
    Column("bytes/s", "the same in bytes"),
    Column("good/s", "right answers whose first token came in time, per second, while nothing goes wrong"),
    Column("stalled", "the same with the stalls that were played"),
)
HEADINGS = ("", *(column.label for column in MEANINGS))


@dataclass(frozen=True, slots=True)
class AdviceStep:
    """One setting, and the candidates that were tried for it."""

    setting: str
    """`term`, `grace` or `interval`."""
    tried: Sequence[Tried]
    chosen: int


@dataclass(frozen=True, slots=True)
class Advice:
    """All candidates that were tried, and the recommended one."""

    sample: TrafficSample
    troubles: Troubles
    steps: Sequence[AdviceStep]

    @property
    def best(self) -> Tried:
        """The recommended candidate."""
        last = self.steps[-1]
        return last.tried[last.chosen]

    @property
    def warning(self) -> str:
        """The warning about the recommendation, or ""."""
        if not self.best.lost:
            return ""
        longest = self.steps[0].tried[-1].candidate.term_s
        return (
            f"no term up to {longest:g} s kept all leases through stalls of {self.troubles.survived_s:g} s: "
            f"{self.best.lost} were lost with the best of them. No answer is wrong for it, prompts are computed again."
        )


def advise(sweep: Sweep, terms_s: Sequence[float] = TERMS_S) -> Advice:
    """Plays candidates for term, grace and interval, one setting after the other."""
    takeover = sweep.sample.fleet.takeover
    parts = len(terms_s), len(GRACES_S), len(INTERVALS)
    done, total = 0, sum(parts)
    steps: list[AdviceStep] = []
    for setting, part in zip(("term", "grace", "interval"), parts, strict=True):
        if setting == "term":
            candidates = [Candidate.of_term(term_s) for term_s in terms_s]
        else:
            before = steps[-1]
            candidates = _neighbours(setting, before.tried[before.chosen].candidate)
        tried = sweep.play(candidates, done / total, (done + part) / total)
        steps.append(AdviceStep(setting, tried, pick(tried, takeover)))
        done += part
    return Advice(sweep.sample, sweep.troubles, steps)


def _neighbours(setting: str, best: Candidate) -> list[Candidate]:
    if setting == "grace":
        return [Candidate(best.term_s, grace_s, best.interval_s) for grace_s in GRACES_S if grace_s <= best.term_s]
    extension_s = best.config.extension_s
    return [Candidate(best.term_s, best.grace_s, extension_s * part) for part in INTERVALS]


def pick(tried: Sequence[Tried], takeover: bool) -> int:
    """Returns the number of the candidate that the rule chooses."""
    fewest = min(one.lost for one in tried)
    left = [number for number, one in enumerate(tried) if one.lost == fewest]
    if takeover:
        least_work = min(tried[number].redone for number in left)
        left = [number for number in left if tried[number].redone == least_work]
    least = min(tried[number].stranded_share for number in left)
    left = [number for number in left if tried[number].stranded_share <= least + EQUAL_SHARE]
    quietest = min(tried[number].calm.traffic.bytes_per_s for number in left)
    left = [number for number in left if tried[number].calm.traffic.bytes_per_s <= quietest * EQUAL_TRAFFIC]
    return min(left, key=lambda number: tried[number].candidate.strangeness)


def describe_rule(advice: Advice) -> str:
    """Returns the rule as it was applied."""
    return RULE + (TAKEOVER_RULE if advice.sample.fleet.takeover else "")


def to_paste(advice: Advice) -> str:
    """Returns the settings as JSON, for vLLM's `kv_connector_extra_config`."""
    config = advice.best.candidate.extra_config
    return json.dumps({key: int(value) if value == int(value) else value for key, value in config.items()})


def lines(step: AdviceStep, engines: int) -> list[list[str]]:
    """Returns the table of a step, a line for each candidate. `engines`: the number of engines that were played."""
    return [[_value(step.setting, one.candidate), *_cells(one, engines)] for one in step.tried]


def _value(setting: str, candidate: Candidate) -> str:
    value = {"term": candidate.term_s, "grace": candidate.grace_s, "interval": candidate.interval_s}[setting]
    return f"{value:.3g} s"


def _cells(one: Tried, engines: int) -> list[str]:
    calm = one.calm
    return [
        f"{one.lost:,}",
        f"{one.stranded_a_crash:,.0f}",
        percent(one.stranded_share),
        f"{one.redone:,}",
        f"{calm.traffic.messages_per_s / engines:.3g}",
        size(calm.traffic.bytes_per_s / engines),
        f"{calm.goodput_per_s:.3g}",
        f"{one.stalled.goodput_per_s:.3g}",
    ]
