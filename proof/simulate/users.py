"""Users and the router between them and the engines: prefill on P, decode on D, again elsewhere when that fails."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kvlease.protocol import Fingerprint
from proof.simulate.context import Context
from proof.simulate.engine import PORT, SimEngine
from proof.simulate.plan import Plan, UserRequest
from proof.simulate.requests import Decode, Prefill

TRY_AGAIN_S = 0.5
OWN = 1 << 16
"""The kind of prompt that is no other user's, less the user's number."""
STOCK_HEARTBEAT_S = 0.5


def apart_s(plan: Plan) -> float:
    """The time in which a request that nothing disturbs has its answer, and its slot is free again; in seconds."""
    return 4.0 + 2 * plan.read_s


def prompt_labels_of(number: int, request: UserRequest) -> tuple[int, ...]:
    """The content of each block of a user's prompt."""
    own, alike = OWN + number, request.alike
    shared = request.shared if alike else 0
    return tuple(((alike if i < shared else own) << 16) + i + 1 for i in range(request.blocks))


@dataclass(slots=True)
class _Attempt:
    """The requests that one engine was asked to serve, until it has answered all of them."""

    engine: SimEngine
    request_ids: set[str]
    prefill: bool


@dataclass(slots=True)
class _User:
    number: int
    request: UserRequest
    offer: dict[str, Any] | None = None
    truth: int | None = None
    labels: tuple[int, ...] = ()
    """The contents that were computed for it."""
    attempts: list[_Attempt] = field(default_factory=list)
    tries: int = 0
    retried: bool = False
    over: bool = False

    @property
    def prompt_labels(self) -> tuple[int, ...]:
        """The content of each block of its prompt: the first ones may be those of all prompts of its kind."""
        return prompt_labels_of(self.number, self.request)

    @property
    def prompt(self) -> Fingerprint:
        """The prompt's fingerprint: no two users have the same prompt, and some have prompts of equal length."""
        return Fingerprint(self.request.blocks, self.number)


class Users:
    """Everybody who asks for something, and what they have been told."""

    def __init__(self, context: Context, engines: Mapping[str, SimEngine]) -> None:
        self._context = context
        self._engines = engines
        kept = context.plan.kept_requests
        numbers = range(len(context.plan.requests)) if kept is None else kept
        asked = dict(zip(numbers, context.plan.requests, strict=True))
        self._numbers = asked.keys()
        self._users = {n: _User(n, request) for n, request in asked.items() if not request.routed}
        self.unanswered = set(self._users)
        """Users, by number, who wait for something."""
        self.routed = {n: request for n, request in asked.items() if request.routed}
        """The requests, by number, that are none of these users': kvlease's router has them."""
        self.outcomes: dict[int, str] = {}
        """The origin of the answer (`Decode.how`), by user."""
        for user in self._users.values():
            context.agenda.at(user.request.at_s, partial(self._begin, user))

    def ask_everybody(self) -> dict[int, str]:
        """Make a small request for every producer and other consumer whose agents live; returns who reads from whom."""
        agents = {name for name, engine in self._engines.items() if engine.agent.died_at is None}
        plan = self._context.plan
        pairs = [(p, d) for p in plan.producers for d in plan.consumers if p != d]
        first = max((*self._numbers, *self._users), default=0) + 1
        asked: dict[int, str] = {}
        for number, (p, d) in enumerate([pair for pair in pairs if agents.issuperset(pair)], first):
            user = self._users[number] = _User(number, UserRequest(self._context.agenda.now, p, (d,), 1))
            self.unanswered.add(number)
            # Each producer and each consumer gets one after the other: there may be but one slot, and one seat.
            turns = max(len(plan.producers), len(plan.consumers))
            turn = 1 + (plan.producers.index(p) + plan.consumers.index(d)) % turns
            self._context.agenda.after(turn * apart_s(plan), partial(self._begin, user))
            asked[number] = f"{d} reads from {p}"
        return asked

    # -- a request's way -----------------------------------------------------------------------------------------

    def _begin(self, user: _User) -> None:
        if user.request.abort_s is not None:
            self._context.agenda.after(user.request.abort_s, lambda: self._abort(user))
        self._ask_prefill(user)

    def _ask_prefill(self, user: _User) -> None:
        if user.over:
            return
        engine = self._engines[user.request.producer]
        if not engine.alive:
            self._context.agenda.after(TRY_AGAIN_S, lambda: self._ask_prefill(user))
            return
        user.tries += 1
        user.offer = user.truth = None
        ids = self._request_ids(user)
        user.attempts.append(_Attempt(engine, set(ids), prefill=True))
        parent = ids[0].partition("_")[2] or None
        for request_id in ids:
            labels, steps = user.prompt_labels, user.request.prefill_steps
            engine.add_prefill(Prefill(request_id, user.number, user.prompt, labels, steps, parent))

    def _request_ids(self, user: _User) -> list[str]:
        parent = f"r{user.number}.{user.tries}"
        if user.request.siblings == 1:
            return [parent]
        return [f"{i}_{parent}" for i in range(user.request.siblings)]

    def prefilled(self, engine: SimEngine, prefill: Prefill, offer: dict[str, Any] | None) -> None:
        """P has finished one of the siblings; the response, with the last one's reference, goes out after all."""
        user = self._users[prefill.user]
        attempt = self._attempt(user, engine, prefill.request_id)
        if attempt is None:
            return
        attempt.request_ids.discard(prefill.request_id)
        if attempt.request_ids:
            return
        user.attempts.remove(attempt)
        params: dict[str, Any] = {"do_remote_prefill": offer is not None}
        if offer is not None:
            params |= {"remote_engine_id": engine.engine_id, "remote_host": engine.name, "remote_port": PORT} | offer
            user.truth, user.labels = prefill.token, prefill.labels
        user.offer = params
        if user.request.lost:
            self._context.tell(f"the router forgets the reference of r{user.number}")
            self._finish(user)
            return
        ask = partial(self._ask_decode, user, 0)
        if user.request.stock and offer is not None and user.request.siblings == 1:
            ask = partial(self._read_as_stock, user, engine, prefill.request_id)
        self._context.agenda.after(user.request.think_s, ask)

    def _read_as_stock(self, user: _User, engine: SimEngine, request_id: str) -> None:
        """Play a stock consumer: heartbeats while it waits, notices when it has read, no fence; nobody judges its
        answer."""
        agenda, chance = self._context.agenda, self._chance(user)
        read_at = agenda.now + user.request.busy_s
        beats = int(user.request.busy_s / STOCK_HEARTBEAT_S)
        for worker in engine.prefill_workers:
            for beat in range(beats + 1):
                # `later` brings them to a stopped worker when it goes on, and never to a dead one.
                engine.later(beat * STOCK_HEARTBEAT_S + 0.1 * chance.random(), partial(worker.heartbeat, request_id))
            engine.later(user.request.busy_s + chance.random(), partial(worker.notice, request_id))
        self._context.tell(f"a stock consumer reads r{user.number} at {read_at:.6f}")
        self._finish(user)

    def _ask_decode(self, user: _User, choice: int) -> None:
        if user.over:
            return
        names = user.request.consumers
        alive = [name for name in (*names[choice:], *names[:choice]) if self._engines[name].alive]
        if not alive:
            self._context.agenda.after(TRY_AGAIN_S, lambda: self._ask_decode(user, choice))
            return
        engine = self._engines[alive[0]]
        user.tries += 1
        ids = self._request_ids(user)
        user.attempts.append(_Attempt(engine, set(ids), prefill=False))
        params = self._offer_that_arrives(user)
        for request_id in ids:
            busy_s, siblings = user.request.busy_s, len(ids) > 1
            # Each sibling has a copy of its own, as if decoded from a client's JSON.
            own = None if params is None else dict(params)
            engine.add_decode(
                Decode(request_id, user.number, user.prompt, own, user.truth, user.labels, busy_s, siblings)
            )
        if user.request.patience_s and not user.retried and len(names) > 1:
            user.retried = True
            self._context.agenda.after(user.request.patience_s, lambda: self._ask_decode(user, choice + 1))

    def _offer_that_arrives(self, user: _User) -> dict[str, Any] | None:
        if user.request.mangled:
            return self._mangle(user)
        if user.request.mixed_up and user.truth is not None:
            others = [other.offer for other in self._users.values() if other is not user and other.truth is not None]
            return self._chance(user).choice(others) if others else user.offer
        return user.offer

    def _mangle(self, user: _User) -> dict[str, Any] | None:
        """The reference as a bad router passes it on."""
        offer, chance = user.offer, self._chance(user)
        if not offer or "kv_lease" not in offer:
            return offer
        lease = dict(offer["kv_lease"])
        match chance.randrange(6):
            case 0:
                lease["token"] = f"{chance.getrandbits(64):016x}"
            case 1:
                lease["slot"] = (int(lease["slot"]) + 1) % self._context.plan.blocks
            case 2:
                lease["incarnation"] = f"{chance.getrandbits(64):016x}"
            case 3:
                lease = {"token": lease["token"]}
            case 4:
                lease["slot"] = 1 << 20
            case 5:
                return offer | {"kv_lease": None}
        return offer | {"kv_lease": lease}

    def answered(self, engine: SimEngine, decode: Decode) -> None:
        """D has answered one of the siblings."""
        user = self._users[decode.user]
        attempt = self._attempt(user, engine, decode.request_id)
        if attempt is None:
            return
        attempt.request_ids.discard(decode.request_id)
        if not attempt.request_ids:
            user.attempts.remove(attempt)
            self.outcomes[user.number] = decode.how
            if user.request.repeated and not user.retried:
                user.retried = True
                # Soon, or when the lease has lapsed.
                again_s = 2 * self._context.config.duration_s * self._chance(user).random() ** 2
                self._context.agenda.after(again_s, partial(self._ask_decode, user, 1))
            else:
                self._finish(user)

    def _finish(self, user: _User) -> None:
        """End a user's request, and abort what engines still do for it."""
        user.over = True
        self.unanswered.discard(user.number)
        self._cancel(user)

    def _abort(self, user: _User) -> None:
        if not user.over:
            self._context.tell(f"the client of r{user.number} goes away")
            self._context.counts["answers.aborted"] += 1
            self._finish(user)

    def _cancel(self, user: _User) -> None:
        for attempt in user.attempts:
            if attempt.engine.alive:
                queue = attempt.engine.prefill if attempt.prefill else attempt.engine.decode
                for request_id in sorted(attempt.request_ids):
                    queue.abort(request_id)
        user.attempts.clear()

    def engine_ended(self, engine: SimEngine) -> None:
        """Break the engine's connections: the router asks again, for a decode with the reference that it has."""
        for user in self._users.values():
            broken = [attempt for attempt in user.attempts if attempt.engine is engine]
            for attempt in broken:
                user.attempts.remove(attempt)
            if broken and not user.over and not user.attempts:
                ask = partial(self._ask_prefill, user) if broken[0].prefill else partial(self._ask_decode, user, 1)
                self._context.agenda.after(TRY_AGAIN_S * self._chance(user).random(), ask)

    def _chance(self, user: _User) -> random.Random:
        return self._context.chance.of(f"user {user.number}")

    def _attempt(self, user: _User, engine: SimEngine, request_id: str) -> _Attempt | None:
        for attempt in user.attempts:
            if attempt.engine is engine and request_id in attempt.request_ids:
                return attempt
        return None
