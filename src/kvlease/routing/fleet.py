"""The engines that the router knows: what they say of themselves, what they were sent, and which to ask next.

Pure: every call takes `now` (monotonic seconds), and chance is passed in. Discovery says who joins and leaves, the
polls what an engine reports; a routed request says what it sends and what became of it.
"""

from collections.abc import Collection, Iterable, Sequence
from random import Random

from kvlease.routing.affinity import gives_way, ranked
from kvlease.routing.engines import EngineReport, EngineRole, EngineStanding, EngineView, FleetSettings, KnownEngine
from kvlease.routing.failures import EngineFailure


class EngineFleet:
    """All engines that the router knows. Not thread-safe.

    An engine is chosen from the best of these that has any (`EngineStanding`): those that are well, those that this
    request has tried already, those that drain, and those that are shut. Of the shut ones it is the one that was shut
    first: if all are, the router is more likely wrong than all engines dead, and who was shut first is likeliest
    back.

    All engines are looked at, not two drawn by chance: a router's own counts are exact. Where several routers share
    engines, they see each other's requests in the reports only, up to a poll's interval late.
    """

    def __init__(self, settings: FleetSettings | None = None) -> None:
        self._settings = settings or FleetSettings()
        self._engines: dict[str, KnownEngine] = {}

    # -- who is there ------------------------------------------------------------------------------------------------

    def join(self, now: float, url: str, role: EngineRole, leased: bool | None = None) -> None:
        """Begins to use an engine; does nothing for one that is used in this role already. `leased`: what is known of
        it beforehand."""
        known = self._engines.get(url)
        if known is None:
            self._engines[url] = KnownEngine(url, role, leased, self._settings, now)
        elif known.left or known.role is not role:
            # Calls that it still has belong to what it was before; they are counted as long as they last.
            known.rejoin(now, role, leased)

    def leave(self, url: str) -> None:
        """Sends an engine nothing more. What is under way there goes on."""
        if known := self._engines.get(url):
            known.left = True
            self._forget(known)

    def report(self, now: float, url: str, report: EngineReport) -> bool:
        """Takes an engine's word on itself; ignores one that is not known any more. Returns True where it is found
        dead by that, having been alive before: the driver ends its calls that have had no token yet, as `CUT`."""
        known = self._engines.get(url)
        return known is not None and known.report(now, report)

    def has(self, role: EngineRole, excluding: Collection[str] = ()) -> bool:
        """Returns True where there is an engine of the role, dead or alive, that is none of these."""
        return any(each.url not in excluding for each in self._of(role))

    def serving(self, now: float, role: EngineRole) -> tuple[str, ...]:
        """Returns the engines of a role that live and do not drain, the least loaded first."""
        well = [each for each in self._of(role) if each.standing(now) < EngineStanding.DRAINING]
        return tuple(each.url for each in sorted(well, key=lambda each: each.load(now)))

    def snapshot(self, now: float) -> tuple[EngineView, ...]:
        """Returns all that is known, in the order in which they joined."""
        return tuple(each.view(now) for each in self._engines.values())

    # -- what is sent ------------------------------------------------------------------------------------------------

    def begun(self, url: str) -> bool:
        """Notes a call to an engine. Returns True where it is the trial of its breaker. `RoutedRequest` calls this and
        the three below, the driver never."""
        return self._engines[url].begun()

    def answered(self, now: float, url: str) -> None:
        """Notes that an engine has begun to answer: the call is not over yet."""
        self._engines[url].answered(now)

    def ended(self, now: float, url: str, failure: EngineFailure | None, trial: bool) -> None:
        """Notes the end of a call, and how it failed; None for an answer."""
        known = self._engines[url]
        known.ended(now, failure, trial)
        self._forget(known)

    def abandoned(self, url: str, trial: bool) -> None:
        """Notes the end of a call of which nobody waited for the end."""
        known = self._engines[url]
        known.abandoned(trial)
        self._forget(known)

    # -- which to ask ------------------------------------------------------------------------------------------------

    def choose_decode(
        self,
        now: float,
        chance: Random,
        *,
        excluding: Collection[str] = (),
        reluctantly: Collection[str] = (),
        fenced: bool = False,
        shut_too: bool = True,
    ) -> str | None:
        """Returns the decode engine with the least load; None where there is none.

        `excluding`: not these. `reluctantly`: these only where there is no other. `fenced`: only those that are known
        to have kvlease, for a reference that another engine may have seen: one of which nothing is known may be stock,
        and its read would not be fenced. `shut_too`: one that is believed dead, where there is no other.
        """
        fitting = (each for each in self._of(EngineRole.DECODE) if not fenced or each.leased)
        standing, best = self._best(now, fitting, excluding, reluctantly)
        if not best or (standing is EngineStanding.SHUT and not shut_too):
            return None
        return _first_shut(best) if standing is EngineStanding.SHUT else _least(now, best, chance)

    def choose_prefill(
        self,
        now: float,
        chance: Random,
        keys: Sequence[bytes] = (),
        *,
        excluding: Collection[str] = (),
        reluctantly: Collection[str] = (),
    ) -> str | None:
        """Returns the prefill engine that has likely seen a prompt with this beginning (`affinity.keys_of`), unless it
        has much more to do than the others; None where there is none. Without keys: the one with the least load."""
        standing, best = self._best(now, self._of(EngineRole.PREFILL), excluding, reluctantly)
        if standing is EngineStanding.SHUT and best:
            return _first_shut(best)
        if not keys or len(best) < 2:
            return _least(now, best, chance) if best else None
        loads = _loads(now, best)
        least = min(loads.values())
        # All are ranked, so that one that is away for a while does not move the prompts of the others.
        order = ranked(keys, sorted(each.url for each in self._of(EngineRole.PREFILL)))
        return next(url for url in order if url in loads and not gives_way(loads[url], least))

    def _best(
        self, now: float, engines: Iterable[KnownEngine], excluding: Collection[str], reluctantly: Collection[str]
    ) -> tuple[EngineStanding, list[KnownEngine]]:
        """Returns the best standing that any engine has for a request, and all that have it."""
        best, found = EngineStanding.SHUT, list[KnownEngine]()
        for each in engines:
            if each.url in excluding:
                continue
            standing = each.standing(now)
            if each.url in reluctantly:
                if standing is EngineStanding.SHUT:
                    continue
                standing = max(standing, EngineStanding.TRIED)
            if standing < best:
                best, found = standing, []
            if standing is best:
                found.append(each)
        return best, found

    def _of(self, role: EngineRole) -> Iterable[KnownEngine]:
        return (each for each in self._engines.values() if each.role is role and not each.left)

    def _forget(self, known: KnownEngine) -> None:
        if known.left and not known.in_flight:
            del self._engines[known.url]


def _loads(now: float, engines: Sequence[KnownEngine]) -> dict[str, float]:
    """Returns how much each has to do, as far as it is warm. A slow start is slow beside others: the engines with which
    a router begins are all equally cold."""
    shares = [each.share(now) for each in engines]
    warmest = max(shares)
    return {each.url: each.load(now) * (warmest / share) for each, share in zip(engines, shares, strict=True)}


def _least(now: float, engines: Sequence[KnownEngine], chance: Random) -> str:
    loads = _loads(now, engines)
    least = min(loads.values())
    return chance.choice([url for url, load in loads.items() if load == least])


def _first_shut(engines: Sequence[KnownEngine]) -> str:
    return min(engines, key=lambda each: each.shut_since).url
