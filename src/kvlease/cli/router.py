"""`kvlease router`: its arguments, and the frame around it."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvlease.console.arguments import engine_url, real, whole
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described
from kvlease.errors import ConfigError
from kvlease.router.settings import (
    ENGINE_KEY_VARIABLE,
    HOST,
    KEYS_VARIABLE,
    NUMBERS,
    NumberSetting,
    RouterSettings,
    default_of,
    from_environment,
)

PARTS = ("aiohttp", "prometheus_client", "starlette", "uvicorn", "yaml")
INSTALL = "pip install 'kvlease[router]'"

_DESCRIPTION = f"""\
Serves the OpenAI API in front of prefill and decode engines. A prompt is prefilled on one, and what that offers is read
by another. If a decode engine fails before its first token, the same prefill is given to the next one: with kvlease on
the engines nothing is computed twice. docs/operate/router.md says what it does, and what it does not.

Engines are named by URLs, in a file that is read again when it changes, and as addresses of names, in any combination.
Clients' keys are in the environment variable {KEYS_VARIABLE}, separated by commas; the key of engines is in
{ENGINE_KEY_VARIABLE}."""

_EXITS = described(
    "it was told to end, and all that ran had ended",
    "it was told to end, and broke off what ran after --drain-timeout",
    "a package is not installed, the address is taken, or the file of engines cannot be used",
)


def add_router(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    router = Command(
        "router",
        _router,
        "prefill and decode engines behind one address",
        _DESCRIPTION,
        _EXITS,
        (
            "kvlease router --prefill http://prefill-0:8000 --decode http://decode-0:8000 http://decode-1:8000",
            "kvlease router --engines engines.yaml --host 0.0.0.0 --port 80",
            "kvlease router --prefill-dns prefill.llm.svc:8000 --decode-dns decode.llm.svc:8000",
            "curl localhost:8000/v1/kvlease/router | jq '.engines[] | {url, condition}'",
        ),
        parts=PARTS,
        install=INSTALL,
        errors=Exit.NOT_DONE,
        left="what ran was broken off",
        check=_check,
    ).add_to(commands)
    _add_engines(router)
    router.add_argument("--host", default=HOST, help="address to listen on (%(default)s)")
    for number in NUMBERS:
        router.add_argument(
            number.flag,
            dest=number.name,
            type=_type_of(number),
            default=default_of(number.name),
            metavar="N" if number.whole else "S" if number.unit == "seconds" else "SHARE",
            help=f"{number.meaning} (%(default)s)",
        )
    router.add_argument(
        "--continue-streams",
        action="store_true",
        help="a greedy stream whose decode engine died after tokens had been sent goes on at another one",
    )
    router.add_argument(
        "--no-whole-prompt-on-decoder",
        dest="whole_prompt_on_decoder",
        action="store_false",
        help="where no prefill engine can be asked, refuse instead of having a decode engine compute the prompt",
    )


def _add_engines(router: argparse.ArgumentParser) -> None:
    for role in ("prefill", "decode"):
        router.add_argument(
            f"--{role}", nargs="+", action="extend", default=[], type=engine_url, metavar="URL", help=f"{role} engines"
        )
    router.add_argument(
        "--engines",
        type=Path,
        metavar="FILE",
        help="YAML or JSON: {prefill: [URL, …], decode: [URL, …]}; read again when it changes",
    )
    for role in ("prefill", "decode"):
        router.add_argument(
            f"--{role}-dns",
            nargs="+",
            action="extend",
            default=[],
            metavar="NAME:PORT",
            help=f"each address of the name is a {role} engine, as those of a headless Service",
        )


def _type_of(number: NumberSetting) -> Callable[[str], float]:
    if number.whole:
        return whole(int(number.low), int(number.high), int(default_of(number.name)))
    return real(number.low, number.high, number.unit, default_of(number.name))


def _check(chosen: argparse.Namespace) -> None:
    try:
        _settings(chosen)
    except ConfigError as error:
        raise BadArguments(str(error)) from None


def _settings(chosen: argparse.Namespace) -> RouterSettings:
    keys, engine_key = from_environment(os.environ)
    return RouterSettings(
        prefill=tuple(dict.fromkeys(chosen.prefill)),
        decode=tuple(dict.fromkeys(chosen.decode)),
        engines_file=chosen.engines,
        prefill_dns=tuple(dict.fromkeys(chosen.prefill_dns)),
        decode_dns=tuple(dict.fromkeys(chosen.decode_dns)),
        host=chosen.host,
        continue_streams=chosen.continue_streams,
        whole_prompt_on_decoder=chosen.whole_prompt_on_decoder,
        api_keys=keys,
        engine_key=engine_key,
        **{number.name: getattr(chosen, number.name) for number in NUMBERS},
    )


def _router(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    import logging

    import prometheus_client

    from kvlease.router.serving import serve

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kvlease").setLevel(logging.INFO)
    # The times of series' creation would double the page.
    prometheus_client.disable_created_metrics()
    broken = serve(_settings(chosen), _say_where)
    return Exit.FOUND if broken else Exit.OK


def _say_where(url: str) -> None:
    print(f"kvlease router listens on {url}", flush=True)
