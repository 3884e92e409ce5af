"""Other people's routers as processes, before fake engines, and what becomes of leases and of failures there.

`make frameworks` puts the routers into a folder of their own. Of their Python only the start is run, without the
packages that it names and does not need for this.
"""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import httpx
import msgspec
import pytest

from kvlease.testing.http_engines import FakeEngine, answer_to
from kvlease.testing.http_engines.behaviour import Behaviour, Fault
from kvlease.testing.http_engines.engine import fake_engines
from kvlease.testing.http_engines.toy_model import MODEL
from kvlease.up.engines import HOST
from kvlease.up.ports import free_port
from proof.realengines.routers import ROUTERS, TOY_PROXY

START_S = 60.0
"""The time in which a router has to be up, on a machine that does other things as well."""
TOKENS = 4
PROMPT = "a prompt that is long enough for a block"
APIS: Mapping[str, Mapping[str, Any]] = {
    "/v1/completions": {"prompt": PROMPT, "max_tokens": TOKENS},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": TOKENS},
    "/v1/responses": {"input": PROMPT, "max_output_tokens": TOKENS},
}
"""A request to each of OpenAI's three APIs."""
ALL_APIS = tuple(APIS)
WRITTEN_BY_CLIENT = {"remote_engine_id": "somebody else's"}
"""Params that name nothing, so that a fake engine does not look for it."""

REQUESTS = 4
AS_TOLD = "as it was told"
"""The message of a fake engine's errors."""
STARTS = 3
"""The times that a router is started at most."""

_START = """
import sys, types
sys.path.insert(0, {folder!r})
for name, content in {absent!r}.items():
    sys.modules[name] = module = types.ModuleType(name)
    vars(module).update(dict.fromkeys(content, lambda *_: None))
from {package} import launch_router
launch_router.launch_router(launch_router.parse_router_args(sys.argv[1:]))
"""


class Router(Protocol):
    """A router that can be started."""

    @property
    def name(self) -> str:
        """The name that the page has for it, with its version."""

    @property
    def health(self) -> str:
        """The path at which it says that it is up."""

    @property
    def apis(self) -> tuple[str, ...]:
        """The paths at which it takes requests."""

    def command(self, port: int, prefill: Sequence[str], decode: Sequence[str]) -> list[str]:
        """Returns the command that starts it."""

    async def tell(self, client: httpx.AsyncClient, prefill: Sequence[str], decode: Sequence[str]) -> None:
        """Tells it of its engines, where its arguments do not."""


@dataclass(frozen=True, slots=True)
class OtherRouter:
    """A router: how it is started, and told of its engines."""

    name: str
    """The name that the page has for it, with its version."""
    package: str
    arguments: tuple[str, ...]
    absent: dict[str, tuple[str, ...]]
    """The modules that its start imports and that are left out, with the names that it takes from them."""
    labels: dict[str, str] | None = None
    """The labels with which engines are told to it over HTTP; None: by its arguments."""
    health: str = "/health"
    apis: tuple[str, ...] = ALL_APIS

    def command(self, port: int, prefill: Sequence[str], decode: Sequence[str]) -> list[str]:
        """Returns the command that starts it."""
        if not (ROUTERS / self.package).is_dir():
            pytest.skip(f"{self.package} is not here: make frameworks fetches it")
        start = _START.format(folder=str(ROUTERS), absent=self.absent, package=self.package)
        own = ["--host", "127.0.0.1", "--port", str(port)]
        own += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port(HOST))]
        urls = [word for url in prefill for word in ("--prefill", url)]
        urls += [word for url in decode for word in ("--decode", url)]
        told = urls if self.labels is None else []
        return [sys.executable, "-c", start, *own, "--policy", "round_robin", *self.arguments, *told]

    async def tell(self, client: httpx.AsyncClient, prefill: Sequence[str], decode: Sequence[str]) -> None:
        """Tells it of its engines, where its arguments do not."""
        if self.labels is None:
            return
        for role, urls in (("prefill", prefill), ("decode", decode)):
            for url in urls:
                worker = {"url": url, "worker_type": role, "runtime_type": "vllm", "labels": self.labels}
                (await client.post("/workers", json=worker)).raise_for_status()


VLLM_ROUTER = OtherRouter(
    "vllm-router 0.1.17",
    "vllm_router",
    ("--vllm-pd-disaggregation", "--worker-startup-check-interval", "1"),
    {"vllm_router.mini_lb": ("MiniLoadBalancer",), "setproctitle": ("setproctitle",)},
)
SMG = OtherRouter(
    "smg 1.13.0, engines labelled `kv_connector=NixlConnector`",
    "smg",
    ("--enable-igw",),
    {"setproctitle": ("setproctitle",)},
    labels={"kv_connector": "NixlConnector", "model_id": MODEL},
)
SMG_UNLABELLED = OtherRouter(
    "smg 1.13.0, without that label",
    "smg",
    ("--enable-igw",),
    {"setproctitle": ("setproctitle",)},
    labels={"model_id": MODEL},
)


@dataclass(frozen=True, slots=True)
class ToyProxy:
    """The proxy of vLLM's own tests."""

    name: str = "vLLM's toy proxy (0.32)"
    health: str = "/healthcheck"
    apis: tuple[str, ...] = ("/v1/completions", "/v1/chat/completions")

    def command(self, port: int, prefill: Sequence[str], decode: Sequence[str]) -> list[str]:
        """Returns the command that starts it."""
        if not TOY_PROXY.is_file() or find_spec("fastapi") is None:
            pytest.skip("vLLM's toy proxy is not here: make routers and make engine fetch it and what it needs")
        hosts = (("--prefiller-ports", prefill), ("--decoder-ports", decode))
        ports = [word for name, urls in hosts for word in (name, *(url.rpartition(":")[2] for url in urls))]
        hosts_of = ["--prefiller-hosts", *["127.0.0.1"] * len(prefill), "--decoder-hosts", *["127.0.0.1"] * len(decode)]
        return [sys.executable, str(TOY_PROXY), "--host", "127.0.0.1", "--port", str(port), *hosts_of, *ports]

    async def tell(self, client: httpx.AsyncClient, prefill: Sequence[str], decode: Sequence[str]) -> None:
        """Does nothing: its arguments say it."""


@dataclass(frozen=True, slots=True)
class OwnRouter:
    """`kvlease router`, which is held to the same."""

    name: str = "`kvlease router`"
    health: str = "/health"
    apis: tuple[str, ...] = ALL_APIS

    def command(self, port: int, prefill: Sequence[str], decode: Sequence[str]) -> list[str]:
        """Returns the command that starts it."""
        return [
            sys.executable,
            "-m",
            "kvlease.cli",
            "router",
            "--port",
            str(port),
            "--prefill",
            *prefill,
            "--decode",
            *decode,
        ]

    async def tell(self, client: httpx.AsyncClient, prefill: Sequence[str], decode: Sequence[str]) -> None:
        """Does nothing: its arguments say it."""


KVLEASE = OwnRouter()
TOY = ToyProxy()


class Scene(NamedTuple):
    """A router and its engines: one prefills, two decode."""

    client: httpx.AsyncClient
    producer: FakeEngine
    decoders: list[FakeEngine]

    async def ask(self, headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        """Sends one request."""
        return await self.post("/v1/completions", {**APIS["/v1/completions"], **more}, headers)

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Sends one request to any of the APIs."""
        return await self.client.post(path, json={"model": MODEL, "temperature": 0.0, **body}, headers=headers)

    def transfer_params(self, engine: FakeEngine) -> list[dict[str, Any]]:
        """Returns the `kv_transfer_params` of the requests that an engine got."""
        bodies = [msgspec.json.decode(body, type=dict[str, Any]) for _, _, body in engine.seen]
        return [dict(body.get("kv_transfer_params") or {}) for body in bodies]


@asynccontextmanager
async def scene(router: Router) -> AsyncIterator[Scene]:
    """Starts engines and a router before them, and ends all of it."""
    async with fake_engines(1, 2) as (producers, decoders):
        prefill, decode = [each.url for each in producers], [each.url for each in decoders]
        process, url = await _started(router, prefill, decode)
        try:
            async with httpx.AsyncClient(base_url=url, timeout=20) as client:
                await router.tell(client, prefill, decode)
                ready = Scene(client, producers[0], decoders)
                await _until(lambda: _answers(ready))
                yield ready
        finally:
            await _end(process)


@asynccontextmanager
async def gateway(router: OtherRouter, behind: Scene) -> AsyncIterator[Scene]:
    """Starts another router before the one of a scene, which it takes for an engine that does all by itself."""
    arguments = ("--worker-urls", str(behind.client.base_url).rstrip("/"), "--worker-startup-check-interval", "1")
    process, url = await _started(replace(router, arguments=arguments, labels=None), (), ())
    try:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            ready = behind._replace(client=client)
            await _until(lambda: _is_answered(ready))
            yield ready
    finally:
        await _end(process)


async def _is_answered(ready: Scene) -> bool:
    return (await ready.ask()).is_success


async def _started(router: Router, prefill: Sequence[str], decode: Sequence[str]) -> tuple[Process, str]:
    """Starts a router; again where somebody else took one of its ports meanwhile."""
    for _ in range(STARTS):
        port = free_port(HOST)
        nowhere = asyncio.subprocess.DEVNULL
        command = router.command(port, prefill, decode)
        process = await asyncio.create_subprocess_exec(*command, stdout=nowhere, stderr=nowhere)
        if await _comes_up(process, f"http://127.0.0.1:{port}", router.health):
            return process, f"http://127.0.0.1:{port}"
    raise AssertionError(f"{router.name} does not start: {command}")


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _comes_up(process: Process, url: str, path: str) -> bool:
    """Waits until it answers; False: it has ended instead."""
    async with httpx.AsyncClient(base_url=url) as client:

        async def over_or_up() -> bool:
            return process.returncode is not None or await _is_up(client, path)

        await _until(over_or_up)
    return process.returncode is None


async def _is_up(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path)).is_success
    except httpx.HTTPError:
        return False


async def _answers(ready: Scene) -> bool:
    """Tells whether it knows all its engines: each decode engine has answered."""
    await ready.ask()
    return all(engine.seen for engine in ready.decoders)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(START_S):
        while not await holds():
            await asyncio.sleep(0.02)


# -- what becomes of requests -----------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """The end of some requests, of which at least one came to a decode engine with a fault."""

    instead: str | None
    """The answer that such a one got instead of its own; None: all were answered, whole and right."""
    prefilled_again: bool
    """True: the prefill engine computed a prompt twice for it."""
    held: bool
    """True: it holds blocks in the end, for nobody."""

    def __str__(self) -> str:
        again = ", after a second prefill" if self.prefilled_again else ""
        said = self.instead or f"answered by another D{again}"
        return said + ("; P holds the blocks for a term" if self.held else "")


async def outcome_of(ready: Scene, failing: FakeEngine, fail: Callable[[FakeEngine], Awaitable[None]]) -> Outcome:
    """Has one of two decode engines fail, and sends requests until one has come to it, some at least.

    To one that is dead nothing comes: a router that chooses by chance may have chosen the other one.
    """
    failing.seen.clear()
    await fail(failing)
    books = ready.producer.books
    before, held = books.prefills.total, len(books.leases)
    texts: list[str] = []
    while len(texts) < REQUESTS or not (failing.seen or fail is dies):
        texts.append(await _answer(ready))
    others = set(texts) - {answer_to(PROMPT, TOKENS)}
    assert len(others) <= 1, others
    return Outcome(next(iter(others), None), books.prefills.total - before > len(texts), len(books.leases) > held)


async def _answer(ready: Scene) -> str:
    """An answer's text, or the form of what there is instead."""
    try:
        answer = await ready.ask()
    except httpx.RemoteProtocolError:
        return "200, and nothing"
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return f"{answer.status_code} in plain text"
    if not answer.is_success:
        return "D's answer" if answer.json()["error"]["message"] == AS_TOLD else f"{answer.status_code}"
    return str(answer.json()["choices"][0]["text"]) or "200, without a token"


async def dies(engine: FakeEngine) -> None:
    """It dies: nobody listens there any more."""
    await engine.close()


async def refuses(engine: FakeEngine) -> None:
    """It answers 503 once, as an overloaded one. A router may then leave it alone for a while."""
    engine.behaviour = Behaviour(Fault.STATUS, 503, times=1)


async def shuts_down(engine: FakeEngine) -> None:
    """It answers 500 once, as vLLM 0.32 does while it shuts down."""
    engine.behaviour = Behaviour(Fault.STATUS, 500, times=1)


async def aborts(engine: FakeEngine) -> None:
    """It aborts a request, with a 200, as an engine core does that shuts down."""
    engine.behaviour = Behaviour(Fault.ABORT, times=1)
