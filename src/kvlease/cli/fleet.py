"""`kvlease fleet compare` and `kvlease fleet plan`: their arguments, and the frame around them."""

import argparse
from itertools import islice
from typing import TYPE_CHECKING, Any

from kvlease.cli.fleet_arguments import add_common, fleet_of, policy_name, source_of
from kvlease.console.arguments import MANY, real, whole
from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described
from kvlease.fleet.named import EXAMPLES, USUAL
from kvlease.fleet.scenarios import SCENARIOS

if TYPE_CHECKING:
    from rich.console import Console

    from kvlease.fleet.settings import Fleet
    from kvlease.fleet.traffic.source import Source

PARTS = ("rich", "matplotlib", "jinja2")
INSTALL = "pip install 'kvlease[fleet]'"

DEFAULT_REQUESTS = 100_000
DEFAULT_SAMPLE = 15_000
DEFAULT_LOST_SHARE = 0.001
DEFAULT_STALL_S = 10.0
DEFAULT_CRASHES_PER_HOUR = 0.1
SHORT_WINDOW_S = 120.0

_FLEET = """\
Hundreds of engines in simulation, with the protocol's own code: what a way of holding blocks costs and
saves under some traffic, and which lease settings to choose for it."""

_COMPARE = f"""\
Plays the same requests and the same faults under several policies on a simulated fleet of engines
and compares them: blocks stranded, prefills wasted and repeated, late reads, goodput, time to first
token, lease traffic. kvlease's part is its own protocol code; engines, network, router and clients
are models.

scenarios:
{chr(10).join(f"  {name:10}{scenario.what}" for name, scenario in SCENARIOS.items())}

policies: {", ".join(USUAL)} unless given; also with other seconds: {EXAMPLES}

Ends with tables, DIR/report.html (with plots; it needs nothing beside it) and DIR/outcome.json."""

_PLAN = """\
Answers which kv_lease_duration, kv_lease_orphan_grace and kv_lease_renew_interval to choose for some
traffic, and what each costs. Plays candidates on a sample of the traffic, undisturbed, with stalls
and with crashes of decode engines, and recommends one by a rule that it states. Prints the JSON to
paste into kv_connector_extra_config. Writes DIR/plan.html and DIR/plan.json."""

_TRACES = """\
A trace is Mooncake's (JSON lines: timestamp in ms, input_length, output_length) or Azure's (CSV:
TIMESTAMP, ContextTokens, GeneratedTokens). Shared prefixes (hash_ids) are not simulated."""

_EXITS = f"{_TRACES}\n\n" + described(
    "it was played",
    "kvlease answered wrongly",
    "a part is not installed",
    bad_arguments="bad arguments or a bad trace",
)


def add_fleet(commands: Any) -> None:
    """Adds the command, which has two of its own, to argparse's subparsers."""
    fleet = Command(
        "fleet",
        None,
        "many engines in simulation: what leases cost and save",
        _FLEET,
        examples=("kvlease fleet compare", "kvlease fleet plan --producers 8 --consumers 16 --stall 5"),
    ).add_to(commands)
    actions = fleet.add_subparsers(title="commands", metavar="COMMAND")
    _add_compare(actions)
    _add_plan(actions)


def _add_compare(actions: Any) -> None:
    compare = Command(
        "compare",
        _compare,
        "policies side by side under traffic",
        _COMPARE,
        _EXITS,
        (
            "kvlease fleet compare",
            "kvlease fleet compare --scenario crashes --policy stock --policy kvlease-10",
            "kvlease fleet compare --producers 200 --consumers 1000 --requests 1000000 --scenario calm "
            "--policy kvlease",
        ),
        parts=PARTS,
        install=INSTALL,
        errors=Exit.BAD_ARGUMENTS,
    ).add_to(actions)
    compare.add_argument(
        "--requests",
        type=whole(1, MANY),
        default=DEFAULT_REQUESTS,
        metavar="N",
        help="of each run (%(default)s)",
    )
    compare.add_argument(
        "--scenario", action="append", choices=sorted(SCENARIOS), help="only this one; may be given several times (all)"
    )
    compare.add_argument(
        "--policy", action="append", type=policy_name, metavar="NAME", help="only this one; may be given several times"
    )
    add_common(compare, "out/compare", "the usual share of what the fleet can do")


def _add_plan(actions: Any) -> None:
    plan = Command(
        "plan",
        _plan,
        "which term, grace and interval for this traffic",
        _PLAN,
        _EXITS,
        (
            "kvlease fleet plan --producers 8 --consumers 16 --stall 5",
            "kvlease fleet plan --trace conversation_trace.jsonl --producer-blocks 50000",
        ),
        parts=PARTS,
        install=INSTALL,
        errors=Exit.BAD_ARGUMENTS,
    ).add_to(actions)
    plan.add_argument(
        "--stall",
        type=real(0.0, 3600.0),
        default=DEFAULT_STALL_S,
        metavar="S",
        help="seconds for which all threads of a decode engine may stand still and no lease is lost (%(default)g)",
    )
    plan.add_argument(
        "--crashes-per-hour",
        type=real(0.0, 1000.0),
        default=DEFAULT_CRASHES_PER_HOUR,
        metavar="N",
        help="of each decode engine (%(default)g)",
    )
    plan.add_argument(
        "--lost-requests",
        type=real(0.0, 1.0),
        default=DEFAULT_LOST_SHARE,
        metavar="SHARE",
        help="of requests that the router loses after their prefill (%(default)g)",
    )
    plan.add_argument(
        "--takeover", action="store_true", help="the router hands requests of a dead decode engine to another one"
    )
    plan.add_argument(
        "--sample",
        type=whole(100, 1_000_000),
        default=DEFAULT_SAMPLE,
        metavar="N",
        help="requests of each run (%(default)s)",
    )
    add_common(plan, "out/plan", "a trace's own, or the usual share of what the fleet can do")


# -- what the commands do ------------------------------------------------------------------------------------------


def _compare(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.console.files import write
    from kvlease.console.progress import open_console, progress, show
    from kvlease.fleet.compare import ComparisonSetup, compare, describe_pace
    from kvlease.fleet.report import comparison_html, comparison_json, comparison_tables

    console, command = open_console(), chosen.written(chosen)
    source, fleet = source_of(chosen), fleet_of(chosen)
    _check(source, fleet, chosen.requests, console)
    setup = ComparisonSetup(fleet, source, chosen.requests, chosen.seed, chosen.rate)
    scenarios = [scenario for name, scenario in SCENARIOS.items() if not chosen.scenario or name in chosen.scenario]
    with progress(console, "the first run", bar=True) as watch:
        found = compare(setup, scenarios, list(dict.fromkeys(chosen.policy or USUAL)), chosen.jobs, watch)
    show(console, *comparison_tables(found))
    shortest_s = min(outcome.window_s for outcome in found.outcomes)
    if shortest_s < SHORT_WINDOW_S:
        console.print(
            f"requests came for {shortest_s:.0f} simulated seconds only, which shows little of leases of 30 s "
            "and nothing of a timeout of 480 s: give more --requests, or fewer engines",
            style="yellow",
        )
    write(chosen.out / "report.html", comparison_html(found, command))
    write(chosen.out / "outcome.json", comparison_json(found, command))
    played = sum(outcome.requests.arrived for outcome in found.outcomes)
    console.print(f"{played:,} requests in {found.wall_s:.0f} s; {describe_pace(found.outcomes)}")
    console.print(
        f"plots and what was simulated: {chosen.out / 'report.html'}; every figure: {chosen.out / 'outcome.json'}"
    )
    wrong = sum(outcome.requests.wrong for outcome in found.outcomes if outcome.policy_kind == "kvlease")
    if wrong:
        console.print(f"kvlease broke its promise: {wrong} wrong answers", style="bold red")
    return Exit.FOUND if wrong else Exit.OK


def _plan(chosen: argparse.Namespace) -> Exit:
    from kvlease.console.files import write
    from kvlease.console.progress import open_console, progress, show
    from kvlease.fleet.advice import MEANINGS, advise, to_paste
    from kvlease.fleet.plan import Sweep, Troubles
    from kvlease.fleet.plan_report import plan_html, plan_json, tables, words
    from kvlease.fleet.scenarios import at_usual_rate
    from kvlease.fleet.traffic.sampling import take

    console, command = open_console(), chosen.written(chosen)
    source, fleet = source_of(chosen), fleet_of(chosen, takeover=chosen.takeover, lost_share=chosen.lost_requests)
    _check(source, fleet, None, console)
    troubles = Troubles(chosen.stall, chosen.crashes_per_hour)
    if chosen.rate or chosen.trace is None:
        source = at_usual_rate(source, fleet, chosen.rate, chosen.seed)
    sample = take(source, fleet, chosen.sample, troubles.window_s, chosen.seed)
    with progress(console, "the first run", bar=True) as watch:
        advice = advise(Sweep(sample, troubles, chosen.seed, chosen.jobs, watch))
    show(console, *tables(advice))
    for column in MEANINGS:
        console.print(f"{column.label:9}{column.meaning}")
    console.print()
    for text in words(advice):
        console.print(text)
    console.print("\n" + to_paste(advice))
    write(chosen.out / "plan.html", plan_html(advice, source, command, chosen.seed))
    write(chosen.out / "plan.json", plan_json(advice, source, command, chosen.seed))
    console.print(f"\nplots and tables: {chosen.out / 'plan.html'}; every figure: {chosen.out / 'plan.json'}")
    return Exit.OK


def _check(source: "Source", fleet: "Fleet", count: int | None, console: "Console") -> None:
    """Reads as much of a trace as will be played, so that its errors are told before minutes have gone by."""
    from kvlease.fleet.traffic.sampling import LOOKED_THROUGH
    from kvlease.fleet.traffic.source import fits
    from kvlease.fleet.traffic.traces import Skipped, Trace, arrivals

    if not isinstance(source, Trace):
        return
    skipped = Skipped()
    number = too_long = 0
    for arrival in islice(arrivals(source, skipped), LOOKED_THROUGH if count is None else count):
        number += 1
        too_long += not fits(fleet, arrival)
    console.print(f"{source.path}: {number:,} requests read; prefixes that prompts share are not simulated")
    if skipped.count:
        console.print(f"{skipped.count:,} bad lines were left out, the first of them: {skipped.first}")
    if too_long:
        console.print(f"{too_long:,} requests fit into no engine and will fail: give more --producer-blocks")
