"""The routers that people put before prefill and decode engines, as processes: ours, vllm-router, vLLM's toy proxy.

The other two are not in this environment: `make routers` puts vllm-router into `.venv/routers`, and the toy proxy, a
file of vLLM's tests, into `.venv/upstream`. Nothing of them is copied here.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import httpx

from kvlease.errors import KvLeaseError
from kvlease.up.ports import free_port
from kvlease.up.processes import end_group
from proof import ROOT
from proof.realengines.engine import pinned
from proof.realengines.spec import HOST

RouterKind = Literal["kvlease", "vllm-router", "toy"]
ROUTER_KINDS: tuple[RouterKind, ...] = ("kvlease", "vllm-router", "toy")
ROUTER_NAMES: Mapping[RouterKind, str] = {
    "kvlease": "kvlease router",
    "vllm-router": "vllm-router 0.1.17",
    "toy": "vLLM's toy proxy",
}

ROUTERS = Path(sys.prefix) / "routers"
"""The folder of requirements/routers.txt, apart from the environment that all else runs in."""
TOY_PROXY = Path(sys.prefix) / "upstream/0.32/tests/v1/kv_connector/nixl_integration/toy_proxy_server.py"
_MISSING = "{} is not here ({}): `make routers` fetches it"
_READY_WITHIN_S = 30.0
_POLL_S = 0.05


class RouterError(KvLeaseError, RuntimeError):
    """A router is not here, died, or did not get ready. The message says which one, and where its log is."""


@dataclass(frozen=True, kw_only=True)
class RouterSpec:
    """A router before engines that are given by their URLs, and the processor cores that it runs on (none: any).

    `options` are added to its command. `module` is run in the place of the router's own, with the same command line.
    """

    kind: RouterKind
    prefill: Sequence[str]
    decode: Sequence[str]
    options: Sequence[str] = ()
    module: str | None = None
    cores: Sequence[int] = ()
    name: str = ""

    @property
    def label(self) -> str:
        """Its name, by which its log is called."""
        return self.name or self.kind


@dataclass(frozen=True)
class _Program:
    """`command` makes the command line of a spec and a port; `ready` is the route that answers once it serves."""

    command: Callable[[RouterSpec, int], Sequence[str]]
    ready: str
    path: Path = ROOT


def missing_router(kind: RouterKind) -> str | None:
    """Returns what is missing for this router, and how to get it; None where it can be started."""
    if kind == "vllm-router" and not (ROUTERS / "vllm_router").is_dir():
        return _MISSING.format(ROUTER_NAMES[kind], ROUTERS)
    if kind == "toy" and not TOY_PROXY.is_file():
        return _MISSING.format(ROUTER_NAMES[kind], TOY_PROXY)
    return None


def require_routers(kinds: Iterable[RouterKind]) -> None:
    """Raises RouterError for the first of these routers that is not here: a play asks before it starts anything."""
    for kind in kinds:
        if missing := missing_router(kind):
            raise RouterError(missing)


class StartedRouter:
    """A router's process, for as long as its context lasts. `url` is where clients ask; `pid` its first process."""

    def __init__(self, spec: RouterSpec, logs: Path) -> None:
        """Raises RouterError where the router is not on this machine."""
        require_routers([spec.kind])
        self.spec = spec
        self.port = free_port(HOST)
        self.url = f"http://{HOST}:{self.port}"
        self.log_path = logs / f"{spec.label}.log"
        self._program = _PROGRAMS[spec.kind]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of its process, which leads a group of its own. Raises RouterError when it is not running."""
        if self._process is None:
            raise RouterError(f"{self.spec.label} is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it and waits until it serves. Raises RouterError where it does not, and where it runs already."""
        if self._process is not None:
            raise RouterError(f"{self.spec.label} is running already (process {self._process.pid})")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        command = self._program.command(self.spec, self.port)
        path = os.pathsep.join([str(self._program.path), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log_path.open("ab") as log, pinned(tuple(self.spec.cores)):
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Ends it as a crash does; a no-op for one that does not run."""
        if self._process is not None:
            end_group(self._process.pid)
            self._process.wait()
            self._process = None

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            # Both are looked at first, so that what it says afterwards is later than they are.
            over = self._process is None or self._process.poll() is not None
            late = time.monotonic() > deadline
            if self._answers():
                return
            if over or late:
                what = "died" if over else f"did not serve within {_READY_WITHIN_S:g} s"
                raise RouterError(f"{self.spec.label} {what}; its log is {self.log_path}")
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        try:
            response = httpx.get(f"{self.url}{self._program.ready}", timeout=_READY_WITHIN_S, trust_env=False)
        except httpx.TransportError:
            return False
        return response.status_code == httpx.codes.OK


def _kvlease(spec: RouterSpec, port: int) -> Sequence[str]:
    module = (spec.module,) if spec.module else ("kvlease.cli", "router")
    return ["-m", *module, "--host", HOST, "--port", str(port), *_engines(spec), *spec.options]


def _vllm_router(spec: RouterSpec, port: int) -> Sequence[str]:
    return [
        *("-m", spec.module or "vllm_router.launch_router", "--vllm-pd-disaggregation", "--host", HOST),
        *("--port", str(port), "--prometheus-port", str(free_port(HOST)), "--log-level", "warning"),
        *("--policy", "round_robin", "--worker-startup-check-interval", "1"),
        *_engines(spec),
        *spec.options,
    ]


def _toy(spec: RouterSpec, port: int) -> Sequence[str]:
    prefill, decode = ([url.rsplit(":", 1) for url in urls] for urls in (spec.prefill, spec.decode))
    return [
        *(str(TOY_PROXY), "--host", HOST, "--port", str(port)),
        *(
            "--prefiller-hosts",
            *(_host(url) for url, _ in prefill),
            "--prefiller-ports",
            *(each for _, each in prefill),
        ),
        *("--decoder-hosts", *(_host(url) for url, _ in decode), "--decoder-ports", *(each for _, each in decode)),
        *spec.options,
    ]


def _engines(spec: RouterSpec) -> list[str]:
    prefill = [word for url in spec.prefill for word in ("--prefill", url)]
    return prefill + [word for url in spec.decode for word in ("--decode", url)]


def _host(url: str) -> str:
    return url.removeprefix("http://")


_PROGRAMS: Mapping[RouterKind, _Program] = {
    "kvlease": _Program(_kvlease, "/ready"),
    "vllm-router": _Program(_vllm_router, "/health", ROUTERS),
    "toy": _Program(_toy, "/healthcheck"),
}
