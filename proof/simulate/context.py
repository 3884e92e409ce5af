"""The surroundings of an engine in a run, and the observer that hears what it does.

An engine gets everything in one frozen object, `Context`, and tells everything to `Observer`: it knows neither judges
nor users.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from kvlease.fence import Verdict
from kvlease.protocol import Endpoint, LeaseCard, LeaseConfig, LeaseRef
from kvlease.simulation.chance import Chance
from proof.promises.safety import Safety
from proof.simulate.cards import CardDesk
from proof.simulate.clock import BoundedAgenda
from proof.simulate.dataplane import DataPlane
from proof.simulate.network import SimNetwork
from proof.simulate.plan import Plan
from proof.simulate.requests import Decode, Prefill


class Observer(Protocol):
    """Hears what engines do, as it happens. `engine` is the name of the one that does it."""

    def took_a_turn(self, engine: str) -> None:
        """The engine's agent took a turn in which something happened."""

    def granted(self, engine: str, prefill: Prefill, ref: LeaseRef) -> None:
        """The engine granted a lease on a prefill that is done."""

    def prefilled(self, engine: str, prefill: Prefill, offer: dict[str, Any] | None) -> None:
        """The engine answers a prefill, with what it offers."""

    def aborted(self, engine: str, prefill: Prefill) -> None:
        """The engine has ended a prefill before it was done, as it was told to."""

    def gives(self, engine: str, block: int) -> None:
        """The engine is about to give a block to a request, and no word was cleared for that yet."""

    def ends_at_once(self, token: int) -> bool:
        """Tells whether a lease is over that ends as soon as its engine hears of it: nobody is to read it."""

    def verified(self, engine: str, decode: Decode, verdict: Verdict) -> None:
        """A worker of the engine has read the fence of a request's data."""

    def heartbeat(self, engine: str, request_id: str) -> None:
        """A stock consumer's heartbeat came to one of the engine's workers."""

    def noticed(self, engine: str, request_id: str, worker: int) -> None:
        """A stock consumer has told one of the engine's workers that it has read."""

    def wanted(self, engine: str, decode: Decode, ref: LeaseRef | None) -> None:
        """The engine's scheduler took a leased request on; without `ref` it must not be read."""

    def begins_to_read(self, engine: str, holders: Iterable[str]) -> None:
        """These leased requests are read from this step on."""

    def holds_back(self, engine: str, since: Mapping[str, float]) -> None:
        """These requests, whose data came at these times, still wait for their fence."""

    def let_go(self, engine: str, decode: Decode) -> None:
        """A request is loaded, or over."""

    def began(self, engine: str, decode: Decode) -> None:
        """The engine has the first token of a request whose answer is a stream."""

    def answered(self, engine: str, decode: Decode) -> None:
        """The engine answers a request."""


class Owner(Protocol):
    """An engine, as its own scheduler's and workers' parts know it."""

    name: str
    incarnation: int
    life: random.Random
    """The stream of chance for everything that chance decides about this engine."""

    @property
    def clock(self) -> Callable[[], float]:
        """The engine's own clock, in seconds."""

    def wake(self) -> None:
        """Tell the engine that there is work; this changes nothing where it makes steps already."""

    def fetch_card(self, endpoint: Endpoint) -> "Future[LeaseCard]":
        """Begin to fetch a card; the future may raise `CardUnavailable`."""


@dataclass(frozen=True, slots=True)
class Context:
    """The world, as far as an engine knows it."""

    plan: Plan
    config: LeaseConfig
    chance: Chance
    agenda: BoundedAgenda
    network: SimNetwork
    plane: DataPlane
    cards: CardDesk
    safety: Safety
    names_stay: bool
    """True where a restarted engine keeps its engine id."""
    observer: Observer
    counts: Counter[str]
    """The number of each happening: answers.<how>, verdicts.<verdict>, and so on."""
    tell: Callable[[str], None]
    """Enters a line into the run's trace."""
