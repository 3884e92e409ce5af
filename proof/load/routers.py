"""The routers that are measured: ours, those beside it, and none."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from proof.load.engines import HOST, CoreProcess, LoadError, python_path
from proof.realengines.ports import free_port
from proof.realengines.routers import TOY_PROXY, VLLM_ROUTER

OURS = "kvlease router"
DIRECT = "no router"
"""The client asks P, and then D with what P said."""
RUST = "vllm-router 0.1.17"
TOY = "vLLM's toy proxy"
ROUTERS = (DIRECT, OURS, RUST, TOY)


@dataclass(frozen=True, slots=True)
class RunningRouter:
    """A router that answers."""

    name: str
    url: str
    pid: int


def start_routers(
    names: Sequence[str],
    prefill: Sequence[str],
    decode: Sequence[str],
    core: int,
    logs: Path,
    stack: ExitStack,
    ours: Sequence[str] = (),
) -> list[RunningRouter]:
    """Starts routers on one core, in front of the same engines; the stack ends them. `ours`: more options of ours."""
    started = []
    for name in names:
        port = free_port(HOST)
        command, ready, environment = _COMMANDS[name](prefill, decode, port)
        if name == OURS:
            command = [*command, *ours]
        process = CoreProcess(name.replace(" ", "-").replace("'", ""), command, core, logs, **environment)
        stack.callback(process.kill)
        process.start()
        url = f"http://{HOST}:{port}"
        process.await_answer(url + ready)
        started.append(RunningRouter(name, url, process.pid))
    return started


_Command = tuple[Sequence[str], str, dict[str, str]]


def _ours(prefill: Sequence[str], decode: Sequence[str], port: int) -> _Command:
    command = [sys.executable, "-m", "kvlease.cli", "router", "--host", HOST, "--port", str(port)]
    return [*command, "--prefill", *prefill, "--decode", *decode], "/ready", {"PYTHONPATH": python_path()}


def _rust(prefill: Sequence[str], decode: Sequence[str], port: int) -> _Command:
    if not (VLLM_ROUTER / "vllm_router").is_dir():
        raise LoadError(f"there is no vllm_router in {VLLM_ROUTER}: `make routers` installs it")
    command = [sys.executable, "-m", "vllm_router.launch_router", "--vllm-pd-disaggregation", "--host", HOST]
    command += ["--port", str(port), "--policy", "round_robin", "--log-level", "error"]
    command += ["--prometheus-port", str(free_port(HOST))]
    command += [*_each("--prefill", prefill), *_each("--decode", decode)]
    return command, "/health", {"PYTHONPATH": str(VLLM_ROUTER)}


def _toy(prefill: Sequence[str], decode: Sequence[str], port: int) -> _Command:
    if not TOY_PROXY.is_file():
        raise LoadError(f"there is no {TOY_PROXY}: `make routers` fetches it")
    command = [sys.executable, str(TOY_PROXY), "--host", HOST, "--port", str(port)]
    command += ["--prefiller-hosts", *[HOST] * len(prefill), "--prefiller-ports", *map(_port, prefill)]
    command += ["--decoder-hosts", *[HOST] * len(decode), "--decoder-ports", *map(_port, decode)]
    return command, "/healthcheck", {}


_COMMANDS: dict[str, Callable[[Sequence[str], Sequence[str], int], _Command]] = {OURS: _ours, RUST: _rust, TOY: _toy}


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _port(url: str) -> str:
    return url.rsplit(":", 1)[1]
