"""The promises that are judged of the whole world, after each action: S3, S4, R20, L1 and L2 as they stand.

S1, S2 and S5 are judged with each fact (`books`), the structure of the halves and what they say with each turn
(`agent`, `checks`).
"""

from typing import Any

from kvlease.protocol import LeaseRef
from proof.explore.checks import check_held
from proof.explore.draft import CONSUMERS, DraftState
from proof.explore.views import Views
from proof.promises.standing import believed, check_beliefs, check_loss


class Judge:
    """Judges drafts of states; what was found to agree once is not looked at again."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._sound: set[tuple[Any, ...]] = set()
        """Tuples of parts that were found to agree."""

    def judge(self, draft: DraftState) -> None:
        """Judge a state. Raises `Violation`."""
        held = self._views.granted(draft.agent)
        while draft.lost:
            d, holder = draft.lost.pop()
            ref = _ref(draft, holder)
            if ref.incarnation == draft.incarnation:
                check_loss(CONSUMERS[d], ref.token, held)
        if (pair := (draft.books, draft.agent)) not in self._sound:
            self._views.settled(draft.books).check(held)
            self._sound.add(pair)
        if (pair := (-draft.engine, draft.agent)) not in self._sound:
            if not self._views.has_news(draft.agent):
                check_held(held, self._views.leased(draft.engine))
            self._sound.add(pair)
        for d in draft.living:
            key = (draft.books, draft.agent, draft.consumers[2 * d], draft.tick)
            if key not in self._sound and draft.runs(d) and d not in draft.outside.doubted:
                self._judge_beliefs(draft, d)
                self._sound.add(key)

    def _judge_beliefs(self, draft: DraftState, d: int) -> None:
        beliefs = believed(self._views.part(draft.consumers[2 * d]).core.peer.lessee.snapshot(), draft.now)
        settled = self._views.settled(draft.books)
        held = self._views.granted(draft.agent)
        check_beliefs(beliefs, CONSUMERS[d], held, settled.causes, frozenset(settled.ended))


def _ref(draft: DraftState, holder: str) -> LeaseRef:
    """The reference to the lease that this request is for."""
    offer = draft.outside.offers[int(holder[1:])]
    assert offer is not None
    return offer.ref
