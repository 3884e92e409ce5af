"""The schedule of faults and of clients' requests: a pure function of a seed and of how much there is to be.

A round is one fault and the requests around it. Which faults and which clients are frequent is drawn as well, so that
each seed has a bias of its own (swarm testing: Groce et al., ISSTA 2012); what there is room for occurs at least once.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

FaultKind = Literal[
    "kill-d",
    "kill-p",
    "restart-d",
    "restart-p",
    "stop-d",
    "stall-d",
    "stop-p",
    "long-step",
    "abort-all",
    "cut",
    "cut-one-way",
    "loss",
    "slow",
]
Client = Literal["plain", "abort-at-p", "abort-at-d", "vanish", "twice", "switch", "dawdle", "mixed-up", "after"]
Way = Literal["both", "to", "from"]
Memory = Literal["full", "half"]

MEMORY: Mapping[Memory, str] = {
    "full": "the prefill engine has few blocks, and traffic goes through all of them every few requests",
    "half": "it has four times as many, about half of which nobody needs: late reads find what they came for",
}
FAULTS: Mapping[FaultKind, str] = {
    "kill-d": "a decode engine is killed, and started again",
    "kill-p": "the prefill engine is killed, and started again with another term",
    "restart-d": "a decode engine is ended by SIGTERM, and started again",
    "restart-p": "the prefill engine is ended by SIGTERM, and started again with another term",
    "stop-d": "a decode engine stands still for less than an extension",
    "stall-d": "a decode engine stands still for longer than a term",
    "stop-p": "the prefill engine stands still",
    "long-step": "a decode engine's worker stands still for longer than a term, its scheduler does not",
    "abort-all": "all clients abort at once",
    "cut": "the network between the prefill and a decode engine is cut",
    "cut-one-way": "the same, in one direction",
    "loss": "packets between the prefill and a decode engine are lost",
    "slow": "the network to a decode engine is slow",
}
NETWORK_FAULTS: frozenset[FaultKind] = frozenset({"cut", "cut-one-way", "loss", "slow"})
RESTARTS_P: frozenset[FaultKind] = frozenset({"kill-p", "restart-p"})
CLIENTS: Mapping[Client, str] = {
    "plain": "prefills, then decodes",
    "abort-at-p": "aborts while the prefill engine has its request",
    "abort-at-d": "aborts while a decode engine has its request",
    "vanish": "is never seen again after the prefill",
    "twice": "sends the same reference to both decode engines",
    "switch": "gives up a decode engine and sends the reference to the other one",
    "dawdle": "lets a time around the term pass between prefill and decode",
    "mixed-up": "gets the reference to somebody else's prompt from its router",
    "after": "prefills and decodes when the fault is over and all blocks were free",
}

DECODERS = 2
MIN_PROMPTS, MAX_PROMPTS = 8, 40
"""Different prompts in all: enough of them to fill P's blocks, and no more than a short run makes use of."""
MIN_REQUESTS_A_FAULT = 4
SHORTEST_TERM_S, LONGEST_TERM_S = 2, 30
LEAD_S = 2.0
"""Traffic before each fault."""
TAIL_S = 2.0
RESTART_S = 13.0
"""The time that the start of an engine takes, about: traffic goes on for so long."""

_TERMS_S = (SHORTEST_TERM_S, 3, 4, 6, 9, 14, LONGEST_TERM_S)
_LINK_FAULT_S = 8.0
_LONGEST_CUT_S = 20.0
_LONGEST_STOP_OF_P_S = 12.0
_LONGEST_DAWDLING_S = 12.0
# The share of requests that no prefix cache knows: a decode engine that has a prompt in its own reads nothing.
_FRESH = 2 / 3
# The weights that a seed may give to each kind of client but the plain one, and to each kind of fault.
_CLIENT_WEIGHTS = (1, 2, 4)
_FAULT_WEIGHTS = (1, 2, 6)
_EXTENSION = 2 / 3

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ChaosFault:
    """One fault, `LEAD_S` into its round. What its kind has no use for is drawn all the same, and without effect.

    `decoder`: the decode engine it befalls, or whose link. `lasts_s`: until it is undone, or what was ended is started
    again. `loss`: the share of packets. `kbit_per_s`: the speed of a slow link. `next_term_s`, `keeps_name`: of a
    prefill engine that is started again; with its name it keeps its engine id, and is another incarnation under it.
    `takes_clients`: a decode engine hangs, then it is killed, and whoever had a request under way never tries again.
    """

    number: int
    kind: FaultKind
    decoder: int
    lasts_s: float
    way: Way
    loss: float
    kbit_per_s: int
    next_term_s: int
    keeps_name: bool
    takes_clients: bool


@dataclass(frozen=True, kw_only=True)
class Request:
    """One client's request. `at_s`: seconds into the round; `delay_s`: until it aborts, switches, repeats, goes on;
    `fresh`: no prefix cache has anything of it, so that all of its blocks are read."""

    number: int
    client: Client
    prompt: int
    decoder: int
    at_s: float
    delay_s: float
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Round:
    """A fault, the requests around it, in the order of their times, and the term of the prefill engine before it."""

    term_s: int
    fault: ChaosFault
    requests: Sequence[Request]

    @property
    def final_term_s(self) -> int:
        """The longer of the terms before and after the fault."""
        return max(self.term_s, self.fault.next_term_s) if self.fault.kind in RESTARTS_P else self.term_s


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Everything that is going to happen, but for the answers."""

    seed: int
    network: bool
    prompts: int
    rounds: Sequence[Round]


def draw_schedule(seed: int, *, requests: int, faults: int, network: bool = True) -> Schedule:
    """The schedule of a seed. Without a network there are other faults in place of those of the network.

    Raises ValueError where there are too few requests for so many faults.
    """
    if faults < 1 or requests < faults * MIN_REQUESTS_A_FAULT:
        raise ValueError(
            f"{requests} requests and {faults} faults: at least one fault, and {MIN_REQUESTS_A_FAULT} requests a fault"
        )
    return _Draw(seed).schedule(requests, faults, network)


class _Draw:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        self._terms = self._first_terms_s()
        self._number = 0
        self._prompts = MAX_PROMPTS

    def schedule(self, requests: int, faults: int, network: bool) -> Schedule:
        self._prompts = max(MIN_PROMPTS, min(MAX_PROMPTS, requests // 2))
        kinds = self._mixed([kind for kind in FAULTS if network or kind not in NETWORK_FAULTS], faults, _FAULT_WEIGHTS)
        odd: list[Client] = [client for client in CLIENTS if client not in ("plain", "after")]
        around = requests - DECODERS * faults
        odd_clients = self._mixed(odd, around * 2 // 5, _CLIENT_WEIGHTS)
        clients: list[Client] = [*odd_clients, *["plain"] * (around - len(odd_clients))]  # type: ignore[list-item]
        self._random.shuffle(clients)
        term_s, rounds = self._term_s(), []
        for number, kind in enumerate(kinds, start=1):
            share = clients[around * (number - 1) // faults : around * number // faults]
            fault = self._fault(number, kind, term_s)
            rounds.append(Round(term_s=term_s, fault=fault, requests=self._requests(share, fault, term_s)))
            term_s = fault.next_term_s if kind in RESTARTS_P else term_s
        return Schedule(seed=self._seed, network=network, prompts=self._prompts, rounds=tuple(rounds))

    def _mixed(self, kinds: Sequence[T], count: int, weights: Sequence[int]) -> list[T]:
        """`count` of these in any order: each one once if there is room, the rest with weights drawn for this seed."""
        once = self._random.sample(kinds, min(count, len(kinds)))
        drawn = [self._random.choice(weights) for _ in kinds]
        mixed = [*once, *self._random.choices(kinds, drawn, k=count - len(once))]
        self._random.shuffle(mixed)
        return mixed

    def _term_s(self) -> int:
        """The next term; all terms come before one comes again."""
        if not self._terms:
            self._terms = self._shuffled(_TERMS_S)
        return self._terms.pop()

    def _first_terms_s(self) -> list[int]:
        """The first terms; the shortest and the longest come early: with all faults, P is started three times."""
        *rest, early = self._shuffled([term for term in _TERMS_S if term not in (SHORTEST_TERM_S, LONGEST_TERM_S)])
        return [*rest, *self._shuffled([early, SHORTEST_TERM_S, LONGEST_TERM_S])]

    def _shuffled(self, terms: Sequence[int]) -> list[int]:
        return self._random.sample(terms, len(terms))

    def _fault(self, number: int, kind: FaultKind, term_s: int) -> ChaosFault:
        return ChaosFault(
            number=number,
            kind=kind,
            decoder=self._random.randrange(DECODERS),
            lasts_s=round(self._lasts_s(kind, term_s), 1),
            way="both" if kind != "cut-one-way" else self._random.choice(("to", "from")),
            loss=round(self._random.uniform(0.01, 0.1), 3),
            kbit_per_s=self._random.randrange(6_000, 40_000, 1000),
            next_term_s=self._term_s() if kind in RESTARTS_P else term_s,
            keeps_name=self._random.random() < 0.5,
            takes_clients=kind == "kill-d" and self._random.random() < 0.5,
        )

    def _lasts_s(self, kind: FaultKind, term_s: float) -> float:
        short = self._random.uniform(0.2, 0.8) * term_s * _EXTENSION
        long = term_s + self._random.uniform(1, 3)
        match kind:
            case "stop-d":
                return short
            case "stall-d" | "long-step":
                return long
            case "stop-p":
                return min(self._random.choice((short, long)), _LONGEST_STOP_OF_P_S)
            case "cut" | "cut-one-way":
                return min(self._random.choice((short, long)), _LONGEST_CUT_S)
            case "loss" | "slow":
                return _LINK_FAULT_S
            case "abort-all":
                return 0.0
            case _:
                return self._random.uniform(0.5, 3)

    def _requests(self, clients: Sequence[Client], fault: ChaosFault, term_s: float) -> tuple[Request, ...]:
        """The requests of a round, at even distances until a while after the fault; then one for each decode engine."""
        whole_s = LEAD_S + fault.lasts_s + TAIL_S
        if fault.kind in ("kill-d", "kill-p", "restart-d", "restart-p"):
            whole_s += RESTART_S
        distance_s = whole_s / len(clients)
        around = [
            self._request(client, at_s=(n + self._random.random()) * distance_s, term_s=term_s)
            for n, client in enumerate(clients)
        ]
        after = [self._request("after", at_s=whole_s, term_s=term_s, decoder=decoder) for decoder in range(DECODERS)]
        return (*around, *after)

    def _request(self, client: Client, *, at_s: float, term_s: float, decoder: int | None = None) -> Request:
        self._number += 1
        delay_s = self._random.uniform(0, 1)
        if client == "dawdle":
            delay_s = min(self._random.uniform(0.5, 1.5) * term_s, _LONGEST_DAWDLING_S)
        return Request(
            number=self._number,
            client=client,
            prompt=self._random.randrange(self._prompts),
            decoder=self._random.randrange(DECODERS) if decoder is None else decoder,
            at_s=round(at_s, 2),
            delay_s=round(delay_s, 2),
            fresh=self._random.random() < _FRESH,
        )
