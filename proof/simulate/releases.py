"""The releases of a router in a run: by a decode engine, else by the producer's operator, else by the term."""

from collections.abc import Mapping
from functools import partial

from kvlease.protocol import LeaseRef
from kvlease.routing.actions import KvReference, ReleaseLease
from proof.simulate.context import Context
from proof.simulate.engine import SimEngine
from proof.simulate.fronts import EngineFronts
from proof.simulate.requests import Decode, Prefill


class SimReleases:
    """Carries out `ReleaseLease` as the product's driver does (`kvlease.router.releasing`)."""

    def __init__(
        self, context: Context, engines: Mapping[str, SimEngine], fronts: EngineFronts, limit_s: float
    ) -> None:
        self._context = context
        self._engines = engines
        self._fronts = fronts
        self._limit_s = limit_s
        self._count = 0

    def begin(self, action: ReleaseLease, prefill: Prefill, by: tuple[str, ...], producer: str) -> None:
        """Begin a release of what was offered for `prefill`. `by` and `producer` are engines by name."""
        if not action.reference.leased:
            return
        self._try(action.reference, prefill, list(by), producer)

    def _try(self, reference: KvReference, prefill: Prefill, left: list[str], producer: str) -> None:
        if not left:
            self._ask_producer(reference, producer)
            return
        name = left.pop(0)
        engine = self._engines[name]
        after_s = self._context.chance.of("releases").uniform(0.0005, 0.005)
        if not engine.alive:
            shows = self._context.network.ports[engine.incarnation].death_shows
            next_one = partial(self._try, reference, prefill, left, producer)
            self._context.agenda.after(after_s if shows else self._limit_s, next_one)
            return
        asked = True

        def go_on() -> None:
            nonlocal asked
            if asked:
                asked = False
                self._try(reference, prefill, left, producer)

        def arrive() -> None:
            nonlocal asked
            if self._fronts.busy[name] or self._fronts.errors[name]:
                self._context.agenda.after(after_s, go_on)
                return
            # One that was not waited for any more does it late, which changes nothing.
            asked = False
            self._refuse(engine, reference, prefill)

        self._context.agenda.after(after_s, partial(engine.later, 0.0, arrive))
        self._context.agenda.after(self._limit_s, go_on)

    def _refuse(self, engine: SimEngine, reference: KvReference, prefill: Prefill) -> None:
        self._count += 1
        self._context.counts["releases.decode"] += 1
        request_id = f"release-{self._count}"
        params = dict(reference.params)
        self._context.tell(f"{engine.name} refuses {request_id}, and lets go of the lease of {prefill.request_id}")
        engine.decode.turn_away(
            Decode(request_id, prefill.user, prefill.prompt, params, prefill.token, prefill.labels, 0.0)
        )

    def _ask_producer(self, reference: KvReference, producer: str) -> None:
        engine, lease = self._engines[producer], reference.params["kv_lease"]
        ref = LeaseRef.from_params(lease)
        if not engine.running or engine.incarnation != ref.incarnation or engine.agent.died_at is not None:
            self._context.counts["releases.term"] += 1
            return
        self._context.counts["releases.prefill"] += 1
        if ref.token in engine.prefill.side.blocks.held:
            self._context.tell(f"an operator's call releases {ref.token:016x} at {producer}")
            engine.agent.revoke(ref.token)
