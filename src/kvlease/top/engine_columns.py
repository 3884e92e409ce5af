"""The columns of the table of engines."""

from kvlease.console.tables import Cell
from kvlease.top.cells import alarm, lasting, long_duration, memory, number, per_second, share
from kvlease.top.document import total
from kvlease.top.headings import NOTHING, Heading, of_value
from kvlease.top.picture import ROSE_LATELY_S, EngineLine
from kvlease.top.sparks import spark

ROLES = {"producer": "P", "consumer": "D", "both": "P+D"}


def _role(line: EngineLine, _: int) -> Cell:
    return Cell(ROLES.get(line.now.role or "", NOTHING))


def _state(line: EngineLine, _: int) -> Cell:
    if not line.now.answers:
        return Cell("down", "bad")
    if line.now.agent == "dead":
        return Cell("dead", "bad")
    if line.now.draining:
        return Cell("draining", "open")
    return Cell("up", "good") if line.now.agent else Cell(NOTHING)


def _state_order(line: EngineLine) -> str:
    """The order of urgency."""
    order = ("down", "dead", "draining", "up")
    return str(next((place for place, word in enumerate(order) if _state(line, 0).text.startswith(word)), 9))


def _unheard(line: EngineLine) -> int | None:
    return total(line.now.unheard_leases)


def _unheard_bytes(line: EngineLine) -> int | None:
    return total(line.now.unheard_bytes)


def _sessions(line: EngineLine) -> int | None:
    return total(line.now.sessions)


def why(line: EngineLine) -> str:
    """Returns what is to be said of an engine; "" where there is nothing."""
    if line.now.error:
        return line.now.error + (f" for {long_duration(line.silent_s)}" if line.silent_s >= 1 else "")
    if line.restarted_s is not None and line.restarted_s < ROSE_LATELY_S:
        return f"restarted within {long_duration(line.restarted_s + 1)}"
    return line.now.note or ""


ENGINES: tuple[Heading[EngineLine], ...] = (
    of_value(
        "engine",
        "engine",
        "host and port, and the data-parallel rank where there are several",
        Cell,
        lambda line: line.name,
        15,
        words=True,
        most=32,
    ),
    Heading(
        "role",
        "role",
        "P lends (prefill), D reads (decode): told by what it holds and has done",
        _role,
        lambda line: _role(line, 0).text,
        4,
        words=True,
        drop=1,
    ),
    Heading(
        "state",
        "state",
        "up; draining: it grants no new leases; dead: its lease agent has failed; down: it does not answer",
        _state,
        _state_order,
        8,
        words=True,
    ),
    of_value(
        "held", "held", "memory of the KV blocks that its leases hold", memory, lambda line: line.now.held_bytes, 8
    ),
    Heading(
        "history",
        "history",
        "the same over the last readings, the newest at the right; a dot where it did not answer",
        lambda line, width: Cell(spark(line.held, width)),
        lambda line: line.now.held_bytes,
        8,
        words=True,
        drop=3,
        most=48,
        tint="cyan",
    ),
    of_value("leases", "leases", "leases granted and not over", number, lambda line: line.now.active_leases, 6),
    of_value(
        "claimed",
        "claimed",
        "those of them that a consumer claims",
        number,
        lambda line: line.now.claimed_leases,
        7,
        drop=10,
    ),
    of_value(
        "tokens",
        "tokens",
        "tokens of the prompts that are held",
        number,
        lambda line: line.now.held_tokens,
        10,
        drop=12,
    ),
    of_value("blocks", "blocks", "KV blocks that are held", number, lambda line: line.now.held_blocks, 9, drop=11),
    Heading(
        "unheard",
        "unheard",
        "leases held for consumers that are dead or silent",
        lambda line, _: alarm(_unheard(line), "open"),
        _unheard,
        7,
    ),
    Heading(
        "unheard_memory",
        "memory",
        "the memory of those",
        lambda line, _: memory(_unheard_bytes(line), "open" if _unheard_bytes(line) else ""),
        _unheard_bytes,
        8,
        drop=17,
    ),
    Heading(
        "late",
        "late",
        "late reads, which were refused, since it started (red: one in the last minute)",
        lambda line, _: alarm(line.late_reads, "bad" if line.late_lately else "open"),
        lambda line: line.late_reads,
        4,
        drop=2,
    ),
    Heading(
        "wasted",
        "wasted",
        "tokens of prefills that were computed twice, since it started",
        lambda line, _: alarm(line.wasted_tokens, "bad" if line.wasted_lately else "open"),
        lambda line: line.wasted_tokens,
        8,
        drop=6,
    ),
    of_value(
        "lapsed",
        "lapsed",
        "leases that are over and can still be read; their blocks are free",
        number,
        lambda line: line.now.lapsed_leases,
        6,
        drop=13,
    ),
    of_value(
        "cache",
        "KV",
        "the part of the KV cache in use: by requests and by leases",
        share,
        lambda line: line.now.kv_cache_usage,
        5,
        drop=4,
    ),
    of_value("grants", "grants/s", "leases granted each second", per_second, lambda line: line.grants_per_s, 8, drop=8),
    of_value("ends", "ends/s", "leases that ended each second", per_second, lambda line: line.ends_per_s, 6, drop=9),
    of_value("sessions", "sessions", "open sessions with other engines", number, _sessions, 8, drop=7),
    of_value("uptime", "uptime", "the time since it started", lasting, lambda line: line.now.uptime_s, 6, drop=14),
    Heading(
        "version",
        "version",
        "that of kvlease",
        lambda line, _: Cell(line.now.version or NOTHING),
        lambda line: line.now.version,
        7,
        words=True,
        drop=16,
    ),
    Heading(
        "why",
        "",
        "the reason why it does not answer, or does not tell everything",
        lambda line, _: Cell(why(line), "bad" if line.now.error else ""),
        why,
        16,
        words=True,
        drop=15,
        most=60,
    ),
)
