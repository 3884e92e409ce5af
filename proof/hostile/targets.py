"""The targets of fuzzing, by name: functions of bytes that raise when something does not hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from kvlease.logs import OncePerPeriod
from kvlease.protocol import LeaseCard, WorkerFence
from kvlease.protocol.messages import Ack, Bye, Gone, Hello, Message, Probe, Renew, Welcome, encode
from proof.hostile import client as hostile_client
from proof.hostile import notifications, wire
from proof.hostile import peer as hostile_peer

MAX = 2**64 - 1
MESSAGES: tuple[Message, ...] = (
    Hello(1, 2, 3, "engine", b"address"),
    Welcome(1, 2, 3, 30_000, 20_000, 5_000, 250, 7),
    Renew(4, [5, MAX], [6], 7),
    Ack(4, [5], True),
    Gone([MAX] * 20),
    Probe(),
    Bye(8),
)
CARD = LeaseCard([1], MAX, b"address", [WorkerFence(0, 0, 4096, 64), WorkerFence(1, 0, MAX - 8, 1)]).encode()


@dataclass(frozen=True)
class Target:
    """A function to fuzz, with the bytes of its largest input, its share of the time, and its first inputs."""

    holds: Callable[[bytes], None]
    largest: int
    share: int = 1
    seeds: tuple[bytes, ...] = ()


TARGETS: dict[str, Target] = {
    "message": Target(wire.message_holds, 8200, seeds=tuple(map(encode, MESSAGES))),
    "card": Target(wire.card_holds, 4096, seeds=(CARD,)),
    "entry": Target(wire.entry_holds, 4096, seeds=(CARD, wire.as_entry(CARD))),
    "notification": Target(notifications.sorting_holds, 256),
    "client": Target(hostile_client.play, 600, share=3),
    "peer": Target(hostile_peer.play, 2500, share=4),
}


def _let_through(*_: object) -> bool:
    # A function, not a mock, which would keep every record of an hour.
    return True


@contextmanager
def conditions() -> Iterator[None]:
    """The conditions that targets run under: every log line is let through and checked."""
    with mock.patch.object(OncePerPeriod, "filter", _let_through), wire.lines_watched():
        yield
