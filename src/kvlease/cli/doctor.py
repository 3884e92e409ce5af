"""`kvlease doctor`: its arguments, and the frame around it."""

import argparse
import os
from typing import Any

from kvlease.console.arguments import engine_url
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described

PARTS = ("httpx", "prometheus_client")
INSTALL = "pip install 'kvlease[observe]'"

_DESCRIPTION = """\
Finds what is wrong with an installation, with configurations, and with engines that run. Each finding
says what was found, why it matters, and what to change; docs/operate/doctor.md has them all.

Looks at this machine (versions, vLLM's text, NIXL, plugins, environment), at each --config, and at the
engines at each URL. Nothing is changed. Only with --prefill, --decode or --router a request is sent:
one short completion, whose lease is read or ends by itself."""

_EXITS = described(
    "nothing was found",
    "warnings were found",
    "a package is not installed",
    bad_arguments="errors were found; or bad arguments",
)


def add_doctor(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    doctor = Command(
        "doctor",
        _doctor,
        "what is wrong, and what to change",
        _DESCRIPTION,
        _EXITS,
        (
            "kvlease doctor",
            """kvlease doctor --config "vllm serve MODEL --kv-transfer-config '{…}'" --config prefill.yaml""",
            "kubectl get deployment prefill decode -o yaml | kvlease doctor --no-machine --config -",
            "kvlease doctor http://prefill-0:8000 http://decode-0:8000",
            "kvlease doctor --prefill http://prefill-0:8000 --decode http://decode-0:8000 --router http://router:80",
        ),
        check=_check,
    ).add_to(commands)
    doctor.add_argument(
        "urls", nargs="*", type=engine_url, metavar="URL", help="of an engine: vLLM's API server, or kvlease's listener"
    )
    doctor.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="CONFIG",
        help="an engine's configuration: the JSON of --kv-transfer-config, a `vllm serve` command line, or a file "
        "(JSON, script, Kubernetes manifest, values of a chart); - is standard input; may be given several times",
    )
    doctor.add_argument(
        "--prefill", type=engine_url, metavar="URL", help="send a short prefill to this engine, and see what it offers"
    )
    doctor.add_argument(
        "--decode", type=engine_url, metavar="URL", help="hand that prefill to this engine, and see that it is read"
    )
    doctor.add_argument(
        "--router", type=engine_url, metavar="URL", help="send a completion through this router, and see it on engines"
    )
    doctor.add_argument("--no-machine", action="store_true", help="leave this machine out: engines run elsewhere")
    doctor.add_argument("--json", action="store_true", help="print the result as JSON")


def _check(chosen: argparse.Namespace) -> None:
    if chosen.decode and not chosen.prefill:
        raise BadArguments("--decode needs --prefill: a decode engine is given what a prefill engine offers")
    if chosen.router and not (chosen.urls or chosen.prefill):
        raise BadArguments("--router needs the URLs of the engines behind it: what it did is seen on them")


def _doctor(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.doctor.reading import read

    setups = [setup for text in chosen.config for setup in read(text, os.environ)]
    if chosen.urls or chosen.prefill or chosen.router:
        missing = _missing()
        if missing:
            print(f"kvlease doctor needs {', '.join(missing)} to ask engines: `{INSTALL}` installs it")
            return Exit.NOT_DONE
    return _examine(chosen, setups)


def _missing() -> list[str]:
    from importlib.util import find_spec

    return [part for part in PARTS if find_spec(part) is None]


def _examine(chosen: argparse.Namespace, setups: list[Any]) -> Exit:
    from kvlease.doctor.examination import ToExamine, examine_all
    from kvlease.doctor.findings import exit_status
    from kvlease.doctor.told import as_json, as_text

    urls = dict.fromkeys([*chosen.urls, *(url for url in (chosen.prefill, chosen.decode) if url)])
    asked = ToExamine(setups, list(urls), chosen.prefill, chosen.decode, chosen.router, machine=not chosen.no_machine)
    examined = examine_all(asked)
    print(as_json(examined) if chosen.json else "\n".join(as_text(examined)))
    return exit_status(examined.findings)
