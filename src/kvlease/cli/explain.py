"""`kvlease explain`: the story of one request."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described

_EXPLAIN = """\
Tells the story of one request from the events of all engines that it went through: what happened, when,
how long each part took, how it ended, and what to do about it.

Engines write events where kv_connector_extra_config has "kv_lease_events": a directory. The id is the
one that the client sent as X-Request-Id, or the one in its answer; the token of a lease will do, too.
Files that were rotated or compressed (.gz) are read as well."""


def add_explain(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    explain = Command(
        "explain",
        _explain,
        "the story of one request, from the events of all engines",
        _EXPLAIN,
        described(
            "the request was found", "it was not found", "not used", bad_arguments="bad arguments, or no such files"
        ),
        (
            "kvlease explain cmpl-7f3a --events /var/log/kvlease",
            "kvlease explain my-id --events p.jsonl d.jsonl --json",
        ),
        errors=Exit.BAD_ARGUMENTS,
    ).add_to(commands)
    explain.add_argument("request", metavar="REQUEST_ID", help="as the client knows it")
    explain.add_argument(
        "--events",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="DIR_OR_FILE",
        help="of all engines that the request may have gone through",
    )
    explain.add_argument("--json", action="store_true", help="the same for programs")


def _explain(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.events.finding import find
    from kvlease.events.reading import files_in
    from kvlease.events.story import as_json, story_of
    from kvlease.events.telling import not_found, told

    found = find(files_in(chosen.events), chosen.request)
    if not found.lines:
        if chosen.json:
            _print_json({"request": chosen.request, "found": False, "near": list(found.near)})
        else:
            print("\n".join(not_found(chosen.request, found.near, found.survey)))
        return Exit.FOUND
    story = story_of(found.lines)
    if chosen.json:
        _print_json(as_json(story, chosen.request, found.survey.skipped))
    else:
        print("\n".join(told(story, chosen.request, found.survey)))
    return Exit.OK


def _print_json(answer: dict[str, Any]) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
