"""One moment of all engines: what the view shows until the next one, and what scripts get."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from msgspec.structs import asdict

from kvlease.admin.answers import LeaseEntry
from kvlease.top.document import ConsumerNow, EngineNow, FleetNow, LeaseNow, ProducerNow
from kvlease.top.watching import Past, Watched

ROSE_LATELY_S = 60.0
"""The time for which the rise of a counter that should stand still is shown as new."""


@dataclass(frozen=True, slots=True)
class EngineLine:
    """One engine, and what has become of it since the first reading."""

    now: EngineNow
    name: str
    silent_s: float
    """The time for which it has not answered; 0 if it does."""
    held: tuple[float | None, ...] = ()
    """Bytes held, reading by reading; None where it did not answer."""
    grants_per_s: float | None = None
    ends_per_s: float | None = None
    late_reads: float | None = None
    late_lately: bool = False
    wasted_tokens: float | None = None
    wasted_lately: bool = False
    restarted_s: float | None = None
    """The time since its counters began anew."""


@dataclass(frozen=True, slots=True)
class LeaseLine:
    """One lease, with the names that the view has for its engines. There are thousands: they cost nothing unseen."""

    lease: LeaseEntry
    url: str
    producer: str
    names: Mapping[str, str]
    """The names of engines by their ids."""

    @property
    def consumers(self) -> str:
        """The names of those that claim it."""
        return ", ".join(_peer(consumer.engine_id, self.names) for consumer in self.lease.consumers)

    def entry(self) -> LeaseNow:
        """Returns the lease as the document has it."""
        return LeaseNow(url=self.url, **asdict(self.lease))


@dataclass(frozen=True, slots=True)
class SessionLine:
    """One session, seen from a producer or from a consumer."""

    engine: str
    peer: str
    peer_is: str
    """"consumer" or "producer"."""
    entry: ConsumerNow | ProducerNow


@dataclass(frozen=True, slots=True)
class Picture:
    """All lines of the three tables."""

    at: float
    """The time of it (Unix)."""
    engines: tuple[EngineLine, ...]
    leases: tuple[LeaseLine, ...]
    leases_total: int
    sessions: tuple[SessionLine, ...]

    def document(self) -> FleetNow:
        """Returns the document for scripts."""
        entries = [line.entry for line in self.sessions]
        return FleetNow(
            at=self.at,
            engines=[line.now for line in self.engines],
            leases=[line.entry() for line in self.leases],
            leases_total=self.leases_total,
            consumers=[entry for entry in entries if isinstance(entry, ConsumerNow)],
            producers=[entry for entry in entries if isinstance(entry, ProducerNow)],
        )

    @property
    def all_answer(self) -> bool:
        """Tells whether every engine answers."""
        return all(line.now.answers for line in self.engines)


def take(watched: Sequence[Watched], now: float, at: float) -> Picture:
    """Returns how it is. `now` is the clock of the readings, `at` the time of day."""
    names = _names([engine for one in watched for engine in one.engines])
    by_id = {
        engine.engine_id: names[engine.url, engine.rank]
        for one in watched
        for engine in one.engines
        if engine.engine_id
    }
    return Picture(
        at,
        tuple(
            _line(engine, names[engine.url, engine.rank], one.pasts.get(engine.rank, Past()), now, at)
            for one in watched
            for engine in one.engines
        ),
        tuple(line for one in watched for line in _leases(one, names, by_id)),
        sum(one.leases_total for one in watched),
        tuple(line for one in watched for line in _sessions(one, names, by_id)),
    )


def _names(engines: Sequence[EngineNow]) -> dict[tuple[str, int], str]:
    """Short names: the host and port of a URL, with the rank where several engines are behind it."""
    several = {engine.url for engine in engines if engine.rank}
    return {
        (engine.url, engine.rank): short(engine.url) + (f"/{engine.rank}" if engine.url in several else "")
        for engine in engines
    }


def short(url: str) -> str:
    """Returns a URL without what all of them have."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path


def _line(engine: EngineNow, name: str, past: Past, now: float, at: float) -> EngineLine:
    late, wasted = past.tally("late"), past.tally("wasted")
    return EngineLine(
        engine,
        name,
        silent_s=0.0 if engine.since is None else max(0.0, at - engine.since),
        held=tuple(past.held),
        grants_per_s=past.tally("grants").per_second() if engine.answers else None,
        ends_per_s=past.tally("ends").per_second() if engine.answers else None,
        late_reads=late.total if engine.fence_checks is not None else None,
        late_lately=late.rose_at is not None and now - late.rose_at < ROSE_LATELY_S,
        wasted_tokens=wasted.total if engine.wasted_prefill_tokens is not None else None,
        wasted_lately=wasted.rose_at is not None and now - wasted.rose_at < ROSE_LATELY_S,
        restarted_s=None if past.restarted_at is None else now - past.restarted_at,
    )


def _leases(one: Watched, names: dict[tuple[str, int], str], by_id: dict[str, str]) -> Iterator[LeaseLine]:
    ranks = {rank: name for (url, rank), name in names.items() if url == one.url}
    for entry in one.leases:
        yield LeaseLine(entry, one.url, ranks.get(entry.rank) or short(one.url), by_id)


def _sessions(one: Watched, names: dict[tuple[str, int], str], by_id: dict[str, str]) -> list[SessionLine]:
    if one.sessions is None:
        return []
    return [
        SessionLine(
            names.get((one.url, consumer.rank), short(one.url)),
            _peer(consumer.engine_id, by_id),
            "consumer",
            ConsumerNow(url=one.url, **asdict(consumer)),
        )
        for consumer in one.sessions.consumers
    ] + [
        SessionLine(
            names.get((one.url, producer.rank), short(one.url)),
            producer.endpoint,
            "producer",
            ProducerNow(url=one.url, **asdict(producer)),
        )
        for producer in one.sessions.producers
    ]


def _peer(engine_id: str, by_id: Mapping[str, str]) -> str:
    """The name of an engine that is watched, too, and else what it calls itself."""
    return by_id.get(engine_id, engine_id)
