"""What is fuzzed, by name: functions of bytes that raise when something does not hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import hostile_client
import hostile_peer
import notifications
import wire
from neighbourhood import small_bounds

from kvlease.logs import OncePerPeriod

TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": wire.message_holds,
    "card": wire.card_holds,
    "entry": wire.entry_holds,
    "notification": notifications.sorting_holds,
    "client": hostile_client.play,
    "peer": hostile_peer.play,
}
LARGEST: dict[str, int] = {
    "message": 8200,
    "card": 4096,
    "entry": 4096,
    "notification": 256,
    "client": 600,
    "peer": 2500,
}
"""Bytes of an input, by target."""


@contextmanager
def conditions() -> Iterator[None]:
    """As the targets are run: with bounds that can be reached, and every log line looked at."""
    with small_bounds(), mock.patch.object(OncePerPeriod, "filter", return_value=True), wire.lines_watched():
        yield
