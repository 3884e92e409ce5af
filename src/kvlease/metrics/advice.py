"""Advice on the term: which `kv_lease_duration` loses fewer than one lease in a million, from a producer's histograms.

A lease is lost in two ways. Nobody claims it within its term: the waits are `kvlease:claim_wait_seconds`. Or its
consumer's renewals have a gap that is longer than the extension: what was left of it at each is
`kvlease:renewal_remaining_seconds`. The longer of the two needs decides. It costs little: a longer term keeps blocks of
requests that are lost between prefill and decode, and of consumers that hang, from others for that much longer, and
nothing else (docs/operate/configure.md).

Few leases say little: "one in a million" with 95 % confidence takes three million of them without a loss. With fewer,
the advice is extrapolated, and says so; or there is none.

`RECORDING_RULES` are the same for Prometheus, without the extrapolation: a term of +Inf is "too few leases to say".
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from kvlease.console.numbers import count, seconds
from kvlease.metrics.scraped import ScrapedHistogram
from kvlease.metrics.tails import Bounded, above, share_at_most, within

ONE_IN_A_MILLION = 1e-6
LEAST = 3 / ONE_IN_A_MILLION
"""The leases without a loss that it takes to say it."""
ENOUGH = 100
"""The least number of claims from which anything is said."""
MARGIN = 1.0
"""The least term, in seconds, that is ever recommended: `kv_lease_duration` allows no shorter one."""

_WAITS = "sum by (le) (increase(kvlease:claim_wait_seconds_bucket[7d]))"
_CLAIMS = "sum(increase(kvlease:claim_wait_seconds_count[7d]))"
_LATE = '(sum(increase(kvlease:late_claims_total{outcome="too_late"}[7d])) or vector(0))'
RECORDING_RULES: Mapping[str, str] = {
    # With k of n above a bound, (2k + 3) / n is never below the 95 % bound of the share, and 3 / n for none.
    "kvlease:term_for_one_in_a_million:seconds": (
        f"histogram_quantile(scalar(1 - (1e-6 - (3 + 2 * {_LATE}) / {_CLAIMS}) / 2), {_WAITS})"
    ),
    "kvlease:leases_claimed_too_late:share_at_most": f"(3 + 2 * {_LATE}) / {_CLAIMS}",
}
"""The rules of Prometheus, by their names: the term that loses under one lease in a million, by the waits of a week,
and the share of leases, at most, that the present term has lost. Both are of all producers that Prometheus scrapes.
Within a bucket Prometheus interpolates, so round the term up to the next bound."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The figures of a producer, or of several with the same settings, that advice is made of."""

    claim_wait: ScrapedHistogram
    """The times from the grant to the first claim."""
    renewal_remaining: ScrapedHistogram | None
    """The part of the extension that was left when a renewal came."""
    too_late: int
    """Claims of leases whose blocks were given to others: they are in no histogram."""
    duration_s: float | None = None
    """The present settings, where they are known."""
    extension_s: float | None = None
    renew_interval_s: float | None = None


@dataclass(frozen=True, slots=True)
class TermAdvice:
    """The advice, and what it stands on."""

    claims: int
    """First claims of leases, and claims that came too late for any."""
    lost: int
    """Those of them that came after the present term."""
    lost_share: float
    """The share of leases that the present term loses: at most that, at 95 %."""
    duration_s: float | None
    """The present term."""
    term: Bounded | None
    """The term that waits for a first claim need; None where the sample is too small."""
    by_renewals: Bounded | None
    """The term, of which the extension is two thirds, that the gaps between renewals need."""

    @property
    def recommended(self) -> Bounded | None:
        """The term to set: the longer of the two, rounded up to a value that people write."""
        found = [each for each in (self.term, self.by_renewals) if each is not None]
        if self.term is None or not found:
            return None
        longest = max(found, key=lambda each: each.seconds)
        return replace(longest, seconds=max(MARGIN, rounded_up(longest.seconds)))

    @property
    def binds(self) -> str:
        """The setting that decides: "kv_lease_extension" for gaps between renewals, or else "kv_lease_duration"."""
        if self.term is not None and self.by_renewals is not None and self.by_renewals.seconds > self.term.seconds:
            return "kv_lease_extension"
        return "kv_lease_duration"

    @property
    def is_too_short(self) -> bool:
        """Tells whether the present term is known to lose more than one in a million, or is below what is
        recommended."""
        return self.lost > ONE_IN_A_MILLION * self.claims or self.longer is not None

    @property
    def longer(self) -> Bounded | None:
        """The recommended term where it is longer than the present one; None where that is not known."""
        best = self.recommended
        return best if best is not None and self.duration_s is not None and best.seconds > self.duration_s else None

    def sentences(self) -> Iterator[str]:
        """Yields the advice in words."""
        if self.claims < ENOUGH:
            yield f"Leases claimed so far: {count(self.claims)}, too few to say anything. Ask again after some traffic."
            return
        of = f"Of {count(self.claims)} claims {count(self.lost)} came too late"
        term = "the present term" if self.duration_s is None else f"kv_lease_duration {self.duration_s:g}"
        yield f"{of}: {term} loses at most one in {count(1 / self.lost_share)} (at 95 %)."
        best = self.recommended
        if best is None:
            yield (
                f'"One in a million" takes {count(LEAST)} leases without a loss; these waits are too few, or too much '
                "alike, to extrapolate from. Keep the term."
            )
            return
        if best.extrapolated:
            yield (
                f"kv_lease_duration {best.seconds:g} is an estimate for one in a million, for a tail that goes on as "
                f"it begins; a rare stall that {count(self.claims)} claims did not meet is not in it."
            )
        else:
            yield f"kv_lease_duration {best.seconds:g} loses fewer than one in a million (seen in the waits, at 95 %)."
        yield _what_binds(self)


def _what_binds(advice: TermAdvice) -> str:
    assert advice.term is not None
    wait = f"a first claim needs {seconds(advice.term.seconds)}"
    if advice.by_renewals is None:
        return f"What decides is the wait for a first claim; of renewals too little is known ({wait})."
    gaps = f"gaps between renewals need {seconds(advice.by_renewals.seconds)}"
    if advice.binds == "kv_lease_extension":
        return f"What decides is the gaps between renewals, so kv_lease_extension by itself would do ({gaps}; {wait})."
    return f"What decides is the wait for a first claim ({wait}; {gaps})."


def advise(seen: Observed, share: float = ONE_IN_A_MILLION) -> TermAdvice:
    """Returns the advice that these figures give: the term that loses fewer than `share` of leases."""
    claims = round(seen.claim_wait.count)
    late = maybe_late = 0
    if seen.duration_s is not None:
        late, maybe_late = above(seen.claim_wait, seen.duration_s)
    return TermAdvice(
        claims=claims + seen.too_late,
        lost=late + seen.too_late,
        lost_share=share_at_most(maybe_late + seen.too_late, claims + seen.too_late) if claims else 1.0,
        duration_s=seen.duration_s,
        term=within(seen.claim_wait, share, seen.too_late) if claims >= ENOUGH else None,
        by_renewals=_by_renewals(seen, share),
    )


def _by_renewals(seen: Observed, share: float) -> Bounded | None:
    """The term whose extension, two thirds of it, bridges the gaps, if its renewals come four times in an extension."""
    remaining, extension_s, interval_s = seen.renewal_remaining, seen.extension_s, seen.renew_interval_s
    if remaining is None or extension_s is None or interval_s is None or remaining.count < ENOUGH:
        return None
    gap = within(used(remaining, extension_s), share)
    if gap is None:
        return None
    # A longer extension has longer intervals; what comes on top of an interval is the network's and the engine's.
    disturbance_s = max(0.0, gap.seconds - interval_s)
    return replace(gap, seconds=disturbance_s * 4 / 3 * 3 / 2)


def used(remaining: ScrapedHistogram, extension_s: float) -> ScrapedHistogram:
    """Returns the gaps between renewals: the extension less what was left of it. Of two bounds the worse one counts."""
    below = [(b, n) for b, n in zip(remaining.bounds, remaining.cumulative, strict=True) if 0 <= b < extension_s]
    bounds = tuple(extension_s - bound for bound, _ in reversed(below))
    counted = tuple(remaining.count - n for _, n in reversed(below))
    return ScrapedHistogram((*bounds, math.inf), (*counted, remaining.count), 0.0, remaining.count)


def rounded_up(value: float) -> float:
    """Returns the next number of two digits, at most, that is not smaller: 31.2 becomes 32, and 0.71 itself."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    steps = math.ceil(round(value / unit, 6))
    return float(f"{steps * unit:.2g}")
