"""The arguments that `kvlease fleet compare` and `kvlease fleet plan` share, and what they come to."""

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlease.console.arguments import MANY, SEEDS, add_jobs, add_out, command_line, real, whole
from kvlease.errors import KvLeaseError
from kvlease.fleet.named import policy_named
from kvlease.fleet.settings import Fleet

if TYPE_CHECKING:
    from kvlease.fleet.traffic.source import Source

MOST_ENGINES = 100_000
OWN = ("producers", "consumers", "producer_blocks")
"""Settings of the fleet that have an argument of their own."""
# With these, bursts wait on decode engines, as they do where memory bandwidth is short, and the memory of a prefill
# engine is a few seconds of its work: that is where leases matter.
DEFAULT_PRODUCERS = 48
DEFAULT_CONSUMERS = 12
DEFAULT_PRODUCER_BLOCKS = 4000


def add_common(parser: argparse.ArgumentParser, out: str, usual_rate: str) -> None:
    """Adds these arguments, and `written`, which makes a command line of what was chosen; results go to `out` by
    default."""
    for side, engines, default in (
        ("producers", "prefill", DEFAULT_PRODUCERS),
        ("consumers", "decode", DEFAULT_CONSUMERS),
    ):
        parser.add_argument(
            f"--{side}",
            type=whole(1, MOST_ENGINES),
            default=default,
            metavar="N",
            help=f"{engines} engines (%(default)s)",
        )
    parser.add_argument(
        "--producer-blocks",
        type=whole(1, MANY),
        default=DEFAULT_PRODUCER_BLOCKS,
        metavar="N",
        help="KV blocks of 16 tokens of each prefill engine (%(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help=f"another setting of the fleet; may be given several times ({', '.join(_settable())})",
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="play this trace instead of made requests")
    parser.add_argument(
        "--rate", type=real(1e-3, 1e6), metavar="R", help=f"requests a second, on average ({usual_rate})"
    )
    parser.add_argument("--skip-bad-lines", action="store_true", help="leave bad lines of a trace out, and count them")
    parser.add_argument("--seed", type=whole(0, SEEDS), default=1, metavar="S", help="of all chance (%(default)s)")
    add_jobs(parser)
    add_out(parser, out)
    parser.set_defaults(written=partial(command_line, parser))


def policy_name(text: str) -> str:
    """The name of a policy, from an argument."""
    try:
        policy_named(text)
    except KvLeaseError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _settable() -> dict[str, Any]:
    """The other settings of the fleet, and their defaults."""
    return {each.name: each.default for each in fields(Fleet) if each.name not in OWN}


def setting(text: str) -> tuple[str, Any]:
    """A setting of the fleet and its value, from an argument such as `consumer_seats=64`."""
    name, _, value = text.partition("=")
    known = _settable()
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name!r} is no setting of the fleet; there are: {', '.join(known)}")
    try:
        return name, _convert(value, known[name])
    except ValueError:
        example = str(known[name]).lower() if isinstance(known[name], bool) else known[name]
        raise argparse.ArgumentTypeError(f"{text!r} cannot be: {name} is a value such as {example}") from None


def _convert(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        return {"true": True, "false": False}[text] if text in ("true", "false") else float("no")
    if isinstance(default, str):
        return text
    if text == "none":
        return None
    return int(text) if isinstance(default, int) else float(text)


def fleet_of(chosen: argparse.Namespace, **more: Any) -> Fleet:
    """The fleet that was chosen. Raises `ConfigError`."""
    own = {name: getattr(chosen, name) for name in OWN}
    return Fleet(**own, **(more | dict(chosen.set)))


def source_of(chosen: argparse.Namespace) -> "Source":
    """The requests that were chosen. The rate of made ones is set later, where none was chosen."""
    from kvlease.fleet.traffic.made import MadeTraffic
    from kvlease.fleet.traffic.traces import Trace

    if chosen.trace is not None:
        return Trace(chosen.trace, skip_bad_lines=chosen.skip_bad_lines)
    return MadeTraffic(rate=chosen.rate or 1.0)
