"""The findings of an exploration, in words and as JSON."""

from collections.abc import Sequence
from typing import Any

from proof import program
from proof.explore.scale import Bounds
from proof.explore.search import Found
from proof.explore.words import describe


def describe_progress(found: Found) -> str:
    """Describes in one line how far an exploration is."""
    return (
        f"{found.states:,} states, {found.transitions:,} transitions, depth {found.depth}, "
        f"{found.seconds:,.0f} s, {found.peak_mib:,.0f} MiB"
    )


def summary(name: str, found: Found, planted: str | None = None) -> list[str]:
    """Describes in lines what was explored, with which bug planted if any, and what came of it."""
    bounds = found.bounds
    rate = found.transitions / found.cpu_s if found.cpu_s else 0.0
    lines = [
        f"{name}: {bounds.consumers} consumers, {bounds.workers} workers, leases of {list(bounds.sizes)} of "
        f"{bounds.blocks} blocks, {bounds.slots} slots, {bounds.ticks} ticks, {bounds.faults} faults"
        + (", fine steps" if bounds.fine else ""),
        f"  {found.states:,} states, {found.transitions:,} transitions, depth {found.depth}; "
        + ("explored completely" if found.complete else "not explored to the end"),
        f"  {found.liveness_checks:,} states played on without faults (L1, L2, L3, R20, R25)",
        f"  {found.parts:,} states of parts, {found.computed:,} inputs worked out by the product's code",
        f"  {found.seconds:,.1f} s ({found.cpu_s:,.1f} s of processor time), {rate:,.0f} transitions a second, "
        f"{found.peak_mib:,.0f} MiB",
    ]
    return lines + (violated(name, found, planted) if found.violation else [])


def violated(name: str, found: Found, planted: str | None = None) -> list[str]:
    """Describes in lines the shortest way to a broken promise, and the command that plays it again."""
    numbers = ",".join(map(str, found.numbers))
    lines = [f"  BROKEN {found.violation}", f"  after {len(found.way)} actions, the fewest there are:"]
    lines += [f"    {number:3}  {describe(action)}" for number, action in enumerate(found.way, 1)]
    if found.played_on:
        lines.append("  and then, without faults:")
        lines += [f"         {describe(action)}" for action in found.played_on]
    command = f"{program()} explore {name} {_as_options(found.bounds)} --replay {numbers or 'start'}"
    return [*lines, f"  again: {command}" + (f" --planted {planted}" if planted else "")]


def _as_options(bounds: Bounds) -> str:
    given = [
        f"--{name} {getattr(bounds, name)}" for name in ("ticks", "faults", "blocks", "slots", "workers", "consumers")
    ]
    given += [
        f"--{name} {','.join(map(str, getattr(bounds, name)))}" for name in ("sizes", "kinds") if getattr(bounds, name)
    ]
    return " ".join([*given, "--fine"] if bounds.fine else given)


def as_json(name: str, found: Found) -> dict[str, Any]:
    """Every figure of an exploration, ready to be written as JSON."""
    bounds = found.bounds
    return {
        "world": name,
        "bounds": {field: getattr(bounds, field) for field in bounds.__slots__},
        "states": found.states,
        "transitions": found.transitions,
        "depth": found.depth,
        "complete": found.complete,
        "liveness_checks": found.liveness_checks,
        "parts": found.parts,
        "computed": found.computed,
        "seconds": round(found.seconds, 3),
        "cpu_s": round(found.cpu_s, 3),
        "peak_mib": round(found.peak_mib, 1),
        "transitions_by_action": dict(found.taken.most_common()),
        "transitions_by_event": dict(found.events.most_common()),
        "violation": None if found.violation is None else str(found.violation),
        "way": [describe(action) for action in found.way],
        "numbers": found.numbers,
        "played_on": [describe(action) for action in found.played_on],
    }


def totals(all_found: Sequence[Found]) -> str:
    """Describes all explorations together in one line."""
    states, transitions = sum(f.states for f in all_found), sum(f.transitions for f in all_found)
    seconds = sum(f.seconds for f in all_found)
    verdict = "every world explored completely" if all(f.complete for f in all_found) else "NOT complete"
    return f"{len(all_found)} worlds, {states:,} states, {transitions:,} transitions in {seconds:,.0f} s: {verdict}"
