"""`kvlease up`: its arguments, and the frame around the run."""

import argparse
import getpass
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlease.cli.router import PARTS as ROUTER_PARTS
from kvlease.cli.router import add_router
from kvlease.console.arguments import one_of, real, whole
from kvlease.console.commands import BadArguments, Command
from kvlease.console.exits import Exit, described
from kvlease.up.engines import CONNECTORS, HOST
from kvlease.up.machine import Host, is_installed, this_host
from kvlease.up.plan import Deployment, NotStartable, decide, is_path
from kvlease.up.wanted import DEFAULT_DRAIN_S, DEFAULT_PORT, Wanted

if TYPE_CHECKING:
    from kvlease.up.running import RunSettings

PARTS = ("rich", "httpx", "psutil", *ROUTER_PARTS)
INSTALL = "pip install 'kvlease[up]'"
FORMS = ("plain", "compose", "systemd")
DEFAULT_LOGS = Path("out/up")
MOST_ENGINES = 64
PRINTED_SCRATCH = Path("/tmp/kvlease-up")
"""The directory for temporary files in what is printed; each form has its own way to have one."""

_DESCRIPTION = """\
Starts prefill engines, decode engines and a router on this machine, and keeps them running: the OpenAI
API on one port.

Without arguments it serves a tiny model of kvlease's own, on the CPU where there is no NVIDIA device:
nothing is fetched. With --model and GPUs each engine gets devices of its own, as many as
--tensor-parallel-size asks for. Arguments after -- are vLLM's, for all engines. A process that ends is
started again; Ctrl-C ends all, a second one at once."""

_EXITS = described(
    "everything was ended, and nothing is left running",
    None,
    "an engine or the router did not come up, or a package is missing",
    bad_arguments="bad arguments, or this machine cannot run it",
)


def add_up(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    up = Command(
        "up",
        _up,
        "prefill and decode engines and a router on this machine",
        _DESCRIPTION,
        _EXITS,
        (
            "kvlease up",
            "kvlease up --decode 2",
            "kvlease up --prefill 2 --decode 2 --model Qwen/Qwen3-0.6B -- --max-model-len 8192",
            "kvlease up --print systemd --to units",
        ),
        errors=Exit.BAD_ARGUMENTS,
        stray="vLLM's arguments for all engines stand after --, such as `kvlease up -- --max-model-len 8192`",
        check=_check,
    ).add_to(commands)
    number = whole(1, MOST_ENGINES)
    up.add_argument("--prefill", type=number, default=1, metavar="N", help="prefill engines (%(default)s)")
    up.add_argument("--decode", type=number, default=1, metavar="M", help="decode engines (%(default)s)")
    up.add_argument("--model", metavar="MODEL", help="a directory, or a name that vLLM fetches (a tiny one, made here)")
    up.add_argument(
        "--connector", type=one_of("connector", CONNECTORS), default="kvlease", help="kvlease or stock (%(default)s)"
    )
    up.add_argument("--host", default=HOST, help="the router's address (%(default)s)")
    up.add_argument(
        "--port", type=whole(1, 65535), default=DEFAULT_PORT, metavar="P", help="the router's port (%(default)s)"
    )
    _add_passed_on(up)
    _add_devices(up)
    up.add_argument("--logs", type=Path, default=DEFAULT_LOGS, metavar="DIR", help="where the logs go (%(default)s)")
    up.add_argument(
        "--drain",
        type=whole(0, 600),
        default=DEFAULT_DRAIN_S,
        metavar="S",
        help="seconds for requests and leases to end after Ctrl-C (%(default)s)",
    )
    up.add_argument(
        "--start-limit",
        type=real(1.0, 86_400.0, "seconds", 600.0),
        default=1800.0,
        metavar="S",
        help="seconds within which an engine must serve (%(default)g)",
    )
    up.add_argument("--quiet", action="store_true", help="print where requests go, and what goes wrong, alone")
    up.add_argument(
        "--print", dest="form", choices=FORMS, help="print what would be started, as a script, compose file or units"
    )
    up.add_argument("--to", type=Path, metavar="DIR", help="with --print: write files into this directory")
    up.add_argument("--image", metavar="NAME", help="with --print compose: the image of all services")


def _add_passed_on(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--prefill-args", default="", metavar="ARGS", help="vLLM's arguments for prefill engines, as one text"
    )
    up.add_argument("--decode-args", default="", metavar="ARGS", help="vLLM's arguments for decode engines")
    up.add_argument(
        "--router-args",
        default="",
        metavar="ARGS",
        help="arguments of `kvlease router`; a single word needs the equals sign: --router-args=--continue-streams",
    )
    up.add_argument(
        "--extra-config", default="{}", metavar="JSON", help='for kv_connector_extra_config: {"kv_lease_duration": 10}'
    )
    up.add_argument(
        "--tensor-parallel-size", type=whole(1, 1024), metavar="T", help="devices of each engine, as after the --"
    )
    up.add_argument("vllm", nargs="*", metavar="-- VLLM_ARGS", help="vLLM's arguments for all engines")


def _add_devices(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--devices", metavar="LIST", help="GPUs such as 0,1,2,3, or `none` for the CPU (all that are found)"
    )
    up.add_argument("--share-devices", action="store_true", help="engines may share devices: for a small model")


def _check(chosen: argparse.Namespace) -> None:
    if chosen.to and not chosen.form:
        raise BadArguments("--to goes with --print: `kvlease up --print systemd --to units`")
    if chosen.image and chosen.form != "compose":
        raise BadArguments("--image goes with --print compose")
    if not chosen.host:
        raise BadArguments(f"--host is empty: give an address to listen on, such as {HOST}, or 0.0.0.0 for all")
    if chosen.vllm and not chosen.vllm[0].startswith("-"):
        raise BadArguments(
            f"{chosen.vllm[0]!r} is no argument: a model is given by --model, and vLLM's arguments stand after -- and "
            "begin with -"
        )
    # Engines would start first, and the router would refuse them a minute later.
    parser = argparse.ArgumentParser(prog="kvlease up: --router-args for kvlease")
    add_router(parser.add_subparsers())
    parser.parse_args(["router", *_words("--router-args", chosen.router_args)])


def _up(chosen: argparse.Namespace) -> Exit:
    from kvlease.up.checks import check_wanted

    wanted = wanted_of(chosen)
    check_wanted(wanted)
    host = this_host(wanted.devices)
    if chosen.form:
        return _print(chosen, wanted, host)
    return _run(chosen, wanted, host)


# -- from arguments to what is wanted ------------------------------------------------------------------------------


def wanted_of(chosen: argparse.Namespace) -> Wanted:
    """Returns what the arguments ask for. Raises `BadArguments`."""
    split = [] if chosen.tensor_parallel_size is None else ["--tensor-parallel-size", str(chosen.tensor_parallel_size)]
    return Wanted(
        prefill=chosen.prefill,
        decode=chosen.decode,
        model=_model(chosen.model),
        connector=chosen.connector,
        host=chosen.host,
        port=chosen.port,
        devices=_devices(chosen.devices),
        share_devices=chosen.share_devices,
        engine_arguments=(*split, *chosen.vllm),
        role_arguments={
            "prefill": _words("--prefill-args", chosen.prefill_args),
            "decode": _words("--decode-args", chosen.decode_args),
        },
        drain_s=chosen.drain,
        router_arguments=_words("--router-args", chosen.router_args),
        extra_config=_settings(chosen.extra_config),
    )


def _model(text: str | None) -> str | None:
    if text is None or not (is_path(text) or Path(text).is_dir()):
        return text
    # Engines may be started from another directory.
    return str(Path(text).expanduser().absolute())


def _devices(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    devices = () if text == "none" else tuple(part.strip() for part in text.split(","))
    if not all(devices) or len(set(devices)) < len(devices):
        raise BadArguments(f"--devices is {text!r}: it must be different GPUs, such as 0,1,2,3, or `none` for the CPU")
    return devices


def _words(option: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise BadArguments(f"{option} is {text!r}, which a shell could not read: {error}") from None


def _settings(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise BadArguments(f"--extra-config is no JSON: {error}") from None
    if not isinstance(settings, dict):
        raise BadArguments(f'--extra-config is {text!r}: it must be an object, such as {{"kv_lease_duration": 10}}')
    return settings


# -- printing ------------------------------------------------------------------------------------------------------


def _print(chosen: argparse.Namespace, wanted: Wanted, host: Host) -> Exit:
    from kvlease.up.model import place_of

    if chosen.form == "compose" and not is_installed("yaml"):
        print(f"kvlease up --print compose needs yaml, not installed here: `{INSTALL}` installs it")
        return Exit.NOT_DONE
    tiny = place_of("llama")
    if wanted.model is None and not tiny.is_dir():
        print(f"{tiny} is not there yet: `{host.python} -m kvlease.up.model` makes it", file=sys.stderr)
    files = _files(chosen, decide(wanted, host, tiny, PRINTED_SCRATCH))
    if chosen.to is None:
        # Several files are told apart by their names, as comments.
        texts = [f"# {name}\n{text}" if len(files) > 1 else text for name, text in files.items()]
        sys.stdout.write("\n".join(texts))
        return Exit.OK
    try:
        chosen.to.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (chosen.to / name).write_text(text)
            print(chosen.to / name)
    except OSError as error:
        raise BadArguments(f"--to {chosen.to} cannot be written: {error.strerror}; give another directory") from None
    return Exit.OK


def _files(chosen: argparse.Namespace, decided: Deployment) -> dict[str, str]:
    """The files of a form, by name."""
    match chosen.form:
        case "systemd":
            from kvlease.up.systemd import as_units

            return as_units(decided, getpass.getuser(), chosen.drain)
        case "compose":
            from kvlease.up.compose import as_compose

            return {"compose.yml": as_compose(decided, chosen.drain, chosen.image)}
    from kvlease.up.plain import as_script

    return {"up.sh": as_script(decided, chosen.logs)}


# -- running -------------------------------------------------------------------------------------------------------


def _run(chosen: argparse.Namespace, wanted: Wanted, host: Host) -> Exit:
    missing = [part for part in PARTS if not is_installed(part)]
    if missing:
        print(f"kvlease up needs {', '.join(missing)}, not installed here: `{INSTALL}` installs it")
        return Exit.NOT_DONE
    from kvlease.up.checks import check_machine
    from kvlease.up.children import make_scratch
    from kvlease.up.model import build_model, place_of
    from kvlease.up.ports import is_free
    from kvlease.up.running import RunSettings

    check_machine(wanted, host, is_installed, is_free)
    # Decided before a model is made, since that takes seconds, and devices may be missing.
    decided = decide(wanted, host, place_of("llama"), Path(), lambda port: is_free(HOST, port))
    _make(chosen.logs)
    if wanted.model is None:
        build_model("llama")
    # From here on nothing is refused any more: what is made now is removed when the run is over.
    decided = decide(wanted, host, place_of("llama"), make_scratch(), lambda port: is_free(HOST, port))
    settings = RunSettings(logs=chosen.logs, start_limit_s=chosen.start_limit, drain_s=chosen.drain)
    return _keep_running(decided, settings, chosen.quiet, _described(wanted, host))


def _make(logs: Path) -> None:
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotStartable(f"--logs {logs} cannot be made: {error.strerror}; give another directory") from None


def _keep_running(decided: Deployment, settings: "RunSettings", quiet: bool, what: str) -> Exit:
    import asyncio

    from kvlease.console.progress import open_console
    from kvlease.up.running import UpRun
    from kvlease.up.view import UpView

    view = UpView(open_console(), quiet=quiet)
    view.lead(f"{what}, at {decided.router.url}/v1; logs in {settings.logs}")

    async def run() -> Exit:
        return await UpRun(decided, settings, view, os.environ).run()

    return asyncio.run(run())


def _described(wanted: Wanted, host: Host) -> str:
    model = wanted.model or "a tiny model"
    where = "on the CPU" if host.on_cpu else f"on {len(host.devices)} devices"
    return f"{wanted.prefill} prefill + {wanted.decode} decode of {model} {where}, {wanted.connector}"
