"""A consumer's worker: leased requests whose data it reads, held back until their fence is read too."""

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
        """Of these, those whose data is in and whose fence is being read."""

    def begin(self, refs: Mapping[str, LeaseRef]) -> None:
        """These are read from this step on."""
        self._refs.update(refs)

    def ref(self, request_id: str) -> LeaseRef | None:
        """The lease that a request is read under; None for one that is not leased."""
        return self._refs.get(request_id)

    def admit(self, request_id: str, words: Sequence[FenceWord]) -> None:
        """Its data is being read: these words will have to vouch for it, one of each worker that it is read from.

        They are settled here, with the incarnation that is read from: by the time the data is in, its engine's name may
        stand for another.
        """
        self._words[request_id] = words

    def stage(self, request_id: str) -> None:
        """Its data is on its way: what can be done for its fence before that has come is done now, at leisure."""
        self._verifier.stage(request_id, self._words[request_id])

    def verify(self, arrived: Collection[str]) -> dict[str, Verdict]:
        """What the fence says of requests whose data is in, once it has been read; each is told once.

        `arrived`: requests whose data is in and which are not failed; those that were named before may be named again,
        those that are not leased may be among them.
        """
        fresh = sorted(request_id for request_id in arrived if self._is_new(request_id))
        for request_id in fresh:
            self._verifier.post(request_id, self._words[request_id])
            self.checking.add(request_id)
        # What is posted now is worth a moment's wait; what an earlier step has left is not.
        read = self._verifier.settle() if fresh else self._verifier.poll() if self.checking else {}
        verdicts = {str(request_id): verdict for request_id, verdict in read.items()}
        self.checking -= verdicts.keys()
        return verdicts

    def held_back(self, arrived: Collection[str]) -> set[str]:
        """Those of them whose fence is still being read: their data must not be used yet."""
        return self.checking.intersection(arrived)

    def forget(self, request_id: str) -> None:
        """It is reported, read or failed."""
        self._refs.pop(request_id, None)
        if self._words.pop(request_id, None) is not None and request_id not in self.checking:
            # It never came to its fence. (One that is being read goes on to its end, so that its word is free again.)
            self._verifier.forget(request_id)

    def _is_new(self, request_id: str) -> bool:
        return request_id in self._refs and request_id not in self.checking
