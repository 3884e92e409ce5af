"""The tries of one request: which engine is asked next, with which reference, and when there is nothing more to try.

A reference that an engine may have seen goes on only if it has a lease, and only to an engine that is known to have
kvlease: its claim is fenced, so a read is right or does not happen, whatever the first engine did, also where the grace
of a dead reader is 0 and the lease has lapsed. Without a lease nothing says what the blocks hold by now: the prompt is
computed again.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from kvlease.routing.actions import KvReference
from kvlease.routing.engines import EngineRole
from kvlease.routing.facts import Recompute, WholePrompt
from kvlease.routing.failures import FAILURES, EngineFailure
from kvlease.routing.fleet import EngineFleet
from kvlease.routing.policy import RetryPolicy

PREFILL, DECODE = EngineRole.PREFILL, EngineRole.DECODE


class NextCall(NamedTuple):
    """The next call of a request."""

    role: EngineRole
    engine: str
    recompute: Recompute | None = None
    """The reason for which the reference is given up before; None: it is kept, or there is none."""
    whole: WholePrompt | None = None
    """The reason for which a decode engine gets the whole prompt from now on."""


class RequestTries:
    """The tries of one request, or of one continuation of its stream.

    Attributes, for reading only: `reference` is what the next decode engine is to read, and `seen` says that one may
    have seen it.
    """

    def __init__(
        self, fleet: EngineFleet, policy: RetryPolicy, chance: Random, keys: Sequence[bytes], prefill: bool
    ) -> None:
        self.reference: KvReference | None = None
        self.seen = False
        self._fleet = fleet
        self._policy = policy
        self._chance = chance
        self._keys = keys
        self._prefill = prefill
        self._asked = {PREFILL: 0, DECODE: 0}
        self._errors = {PREFILL: 0, DECODE: 0}
        """The `ERROR` answers of each role; of decode engines those to the present reference."""
        self._all_errors = 0
        self._cuts = 0
        self._tried: set[str] = set()
        self._useless: set[str] = set()
        """The engines of which this request knows that another try is of no use."""

    # -- what happens ------------------------------------------------------------------------------------------------

    def take(self, step: NextCall) -> None:
        """Notes that a step is carried out."""
        self._asked[step.role] += 1
        if step.recompute is not None:
            self.reference, self.seen = None, False
            self._errors[DECODE] = 0

    def offered(self, reference: KvReference | None) -> None:
        """Notes the answer of a prefill engine."""
        self.reference, self.seen = reference, False

    def answered(self) -> None:
        """Notes that a decode engine has read the reference, or needed none."""
        self.reference, self.seen = None, False

    def failed(self, role: EngineRole, engine: str, failure: EngineFailure) -> None:
        """Notes that a call has failed."""
        rule = FAILURES[failure]
        self._tried.add(engine)
        if rule.retried and not rule.same_engine:
            self._useless.add(engine)
        if role is DECODE and self.reference is not None:
            self.seen = self.seen or rule.seen
        if failure is EngineFailure.ERROR:
            self._errors[role] += 1
            self._all_errors += 1
        elif failure is EngineFailure.CUT:
            self._cuts += 1

    # -- what is next ------------------------------------------------------------------------------------------------

    def first(self, now: float) -> NextCall | None:
        """Returns the first step; None where nobody can be asked. Nothing is computed where nobody could read it."""
        if not self._prefill:
            return self._decode(now, WholePrompt.ASKED)
        return self._compute(now, None)

    def after_prefill(self, now: float) -> NextCall | None:
        """Returns the step after a prefill engine's answer; None where nobody can be asked.

        An answer without an offer is no failure, so the decode engine gets the prompt whatever the policy says of
        prefill engines that fail.
        """
        return self._decode(now, WholePrompt.NO_OFFER if self.reference is None else None)

    def after_failure(self, now: float, role: EngineRole, failure: EngineFailure) -> NextCall | None:
        """Returns the step after a call that failed; None where nothing is left to try."""
        if not FAILURES[failure].retried or self._all_errors >= self._policy.errors or self._cuts >= self._policy.cuts:
            return None
        if role is PREFILL:
            return self._compute(now, None)
        if self.reference is None or not self.seen:
            return self._decode(now, None)
        return self._decode_again(now)

    def is_useless(self, engine: str) -> bool:
        """Returns True where this request has seen that an engine cannot be asked."""
        return engine in self._useless

    def was_tried(self, engine: str) -> bool:
        """Returns True where a call of this request has failed at an engine."""
        return engine in self._tried

    def _decode_again(self, now: float) -> NextCall | None:
        """Returns the step with a reference that an engine may have seen. A living engine of any kind comes before one
        that is believed dead, even if that costs another prefill."""
        assert self.reference is not None
        if not self.reference.leased:
            return self._compute(now, Recompute.UNFENCED)
        if self._errors[DECODE] >= self._policy.errors_each_way:
            return self._compute(now, Recompute.ERRORS)
        for shut_too in (False, True):
            if engine := self._decoder(now, fenced=True, shut_too=shut_too):
                return NextCall(DECODE, engine)
            if self._decoder(now, fenced=False, shut_too=shut_too):
                return self._compute(now, Recompute.NO_READER)
        return None

    def _compute(self, now: float, recompute: Recompute | None) -> NextCall | None:
        """Returns the step by which the prompt is computed: by a prefill engine, or by a decode engine, where none
        can."""
        if self._asked[DECODE] >= self._policy.decode_attempts or not self._fleet.has(DECODE, self._useless):
            return None
        if recompute is not None and self._decoder(now) is None:
            # The only engine that is left is one that has failed, and is believed dead by now.
            return None
        wearied = self._errors[PREFILL] >= self._policy.errors_each_way
        if self._prefill and not wearied and self._asked[PREFILL] < self._policy.prefill_attempts:
            engine = self._fleet.choose_prefill(
                now, self._chance, self._keys, excluding=self._useless, reluctantly=self._tried
            )
            if engine is not None:
                return NextCall(PREFILL, engine, recompute)
        if not self._policy.whole_prompt_on_decoder:
            return None
        step = self._decode(now, WholePrompt.NO_PREFILL)
        return None if step is None else step._replace(recompute=recompute)

    def _decode(self, now: float, whole: WholePrompt | None) -> NextCall | None:
        engine = self._decoder(now)
        return None if engine is None else NextCall(DECODE, engine, whole=whole)

    def _decoder(self, now: float, *, fenced: bool = False, shut_too: bool = True) -> str | None:
        """Returns the decode engine to ask next; None where there is none, or where it would be one call too many."""
        if self._asked[DECODE] >= self._policy.decode_attempts:
            return None
        return self._fleet.choose_decode(
            now,
            self._chance,
            excluding=self._useless,
            reluctantly=self._tried,
            fenced=fenced,
            shut_too=shut_too,
        )
