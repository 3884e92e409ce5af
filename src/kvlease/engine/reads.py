"""The leased requests whose data a consumer's worker reads, held back until their fence is read, too."""

from collections.abc import Collection, Mapping, Sequence

from kvlease.fence import FenceVerifier, FenceWord, Verdict
from kvlease.protocol import LeaseRef


class LeasedReads:
    """The leased requests from the step that begins to read them to the one that reports them."""

    def __init__(self, verifier: FenceVerifier) -> None:
        self._verifier = verifier
        self._refs: dict[str, LeaseRef] = {}
        self._words: dict[str, Sequence[FenceWord]] = {}
        self.checking: set[str] = set()
        """The leased requests whose data is here and whose fence is being read."""

    def begin(self, refs: Mapping[str, LeaseRef]) -> None:
        """Takes the leased requests that are read from this step on."""
        self._refs.update(refs)

    def ref(self, request_id: str) -> LeaseRef | None:
        """Returns the lease that a request is read under; None for a request that is not leased."""
        return self._refs.get(request_id)

    def admit(self, request_id: str, words: Sequence[FenceWord]) -> None:
        """The request's data is being read: these words are to prove it, one of each worker that it is read from.

        They are fixed now, for the incarnation that is read from: when the data is here, the engine's name may stand
        for another one.
        """
        self._words[request_id] = words

    def stage(self, request_id: str) -> None:
        """Prepares the fence read of a request whose data is on its way, while nobody waits for it."""
        self._verifier.stage(request_id, self._words[request_id])

    def verify(self, arrived: Collection[str]) -> dict[str, Verdict]:
        """Returns the verdicts of the fence that are new, of requests whose data is here; each is returned once.

        `arrived`: requests whose data is here and that did not fail. It may name requests that were named before, and
        requests that are not leased.
        """
        fresh = sorted(request_id for request_id in arrived if self._is_new(request_id))
        for request_id in fresh:
            self._verifier.post(request_id, self._words[request_id])
            self.checking.add(request_id)
        # Reads that are posted now end within a short wait; those that an earlier step has left may take long.
        read = self._verifier.settle() if fresh else self._verifier.poll() if self.checking else {}
        verdicts = {str(request_id): verdict for request_id, verdict in read.items()}
        self.checking -= verdicts.keys()
        return verdicts

    def held_back(self, arrived: Collection[str]) -> set[str]:
        """Returns the requests in `arrived` whose fence is still being read: their data must not be used yet."""
        return self.checking.intersection(arrived)

    def forget(self, request_id: str) -> None:
        """The request is reported as read or failed."""
        self._refs.pop(request_id, None)
        if self._words.pop(request_id, None) is not None and request_id not in self.checking:
            # Its fence was never read. (A read under way goes on to its end, so that its landing word is free again.)
            self._verifier.forget(request_id)

    def _is_new(self, request_id: str) -> bool:
        return request_id in self._refs and request_id not in self.checking
