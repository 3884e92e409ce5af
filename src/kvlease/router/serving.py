"""The router as a process: it listens, finds and watches engines, and ends without losing what runs.

The first SIGTERM or SIGINT begins a drain: `/ready` says 503, new requests are refused with 503, and those that run
have `drain_timeout_s`. A second one ends it at once. It needs the packages aiohttp, prometheus_client, starlette and
uvicorn; uvloop and httptools make it faster where they are installed.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from typing import Any

import uvicorn

from kvlease.errors import KvLeaseError
from kvlease.logs import OncePerPeriod
from kvlease.router.app import RouterApp, open_app
from kvlease.router.discovery import Discovery
from kvlease.router.figures import RouterFigures
from kvlease.router.operating import OperatorRoutes, RouterState, engine_figures
from kvlease.router.settings import RouterSettings
from kvlease.router.sources import sources_of
from kvlease.router.watching import FleetWatch
from kvlease.routing.engines import FleetSettings
from kvlease.routing.fleet import EngineFleet

log = logging.getLogger(__name__)

BACKLOG = 2048
"""The most connections that wait to be taken."""
CLIENTS_KEEP_S = 75
"""The time that a client's idle connection is kept: longer than proxies keep theirs, so that none of them sends a
request into a connection that is just being closed."""
LAST_S = 2
"""The time for what is still to be sent, once nothing runs or requests are broken off."""
AT_ONCE_S = 1.0
"""The time for all that after a second signal; then the process ends, whatever there is."""
IDLE_LOOK_S = 0.05
"""The pause between two looks at whether anything runs, while it drains."""
SPARE_FILES = 256
"""The files for all but requests: looks at engines, releases, and connections of which no request has come yet."""
ENOUGH_FILES = 1 << 20
"""The files that are asked for where there is no limit."""
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotListen(KvLeaseError, OSError):
    """The router's address cannot be listened on. The message names it, and the reason."""


class _Server(uvicorn.Server):
    """A server whose end is decided here: at the first signal uvicorn's own handlers refuse connections at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ServedRouter:
    """One router, from its start to its end. It belongs to the event loop's main thread, where signals come."""

    def __init__(self, settings: RouterSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.broken = 0
        """The requests that were broken off at the end."""
        self._settings = settings
        self._clock = clock
        self._state = RouterState()
        # A report is believed until the third look after it is late.
        stale_s = max(FleetSettings().stale_s, 3 * (settings.watch_interval_s + settings.watch_timeout_s))
        self._fleet = EngineFleet(FleetSettings(stale_s=stale_s))
        self._figures = RouterFigures(lambda: engine_figures(self._fleet, clock()))
        self._ending = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def run(self, listening: Callable[[str], None]) -> None:
        """Serves until it is told to end. `listening` gets its URL as soon as it takes requests.

        Raises `CannotListen`; `BadEngines` for a file that cannot be used; CancelledError after a second signal.
        """
        apps: list[RouterApp] = []
        watch = FleetWatch(
            self._fleet, self._settings, self._figures, lambda url: apps[0].engine_died(url), clock=self._clock
        )
        operator = OperatorRoutes(self._settings, self._fleet, watch, self._figures, self._state, self._clock)
        discovery = Discovery(sources_of(self._settings), watch.follow, self._refused)
        self._serving = asyncio.current_task()
        with _listener(self._settings) as listener, _handled(self.end):
            opened = open_app(
                self._fleet, self._settings, self._figures, self._state, operator.routes(), now=self._clock
            )
            async with opened as app, watch:
                apps.append(app)
                self._figures.ask("in_flight", lambda: self._state.in_flight())
                self._figures.ask("queued", lambda: self._state.queued())
                await discovery.first()
                async with _beside(discovery.run()):
                    await self._serve(app, listener, listening)

    def end(self) -> None:
        """Begins the drain; a second call ends everything at once."""
        if not self._ending.is_set():
            self._ending.set()
            return
        log.warning("ended at once, by a second signal: what runs is broken off")
        asyncio.get_running_loop().call_later(AT_ONCE_S, os._exit, 130)
        if self._serving is not None:
            self._serving.cancel()

    def _refused(self, kind: str) -> None:
        self._figures.count("engines_refused", kind)

    async def _serve(self, app: RouterApp, listener: socket.socket, listening: Callable[[str], None]) -> None:
        for of_uvicorn in (_CANCELLED, _OFTEN):
            logging.getLogger("uvicorn.error").addFilter(of_uvicorn)
        server = _Server(_uvicorn_config(app))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0)
            listening(_url(listener))
            ended = asyncio.create_task(self._ending.wait())
            await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not serving.done():
                await self._drain()
        finally:
            # What still runs is cancelled at once: it has had its time, or the second signal has come.
            server.config.timeout_graceful_shutdown = 0 if self._state.busy() else LAST_S
            server.should_exit = True
            await serving
            if server.server_state.tasks:
                # Each tells its engines, and releases its prefill.
                await asyncio.wait(server.server_state.tasks, timeout=LAST_S)

    async def _drain(self) -> None:
        """Takes nothing new, and waits until nothing runs or the time is up."""
        self._state.draining = True
        self._figures.set("draining", 1)
        limit_s = self._settings.drain_timeout_s
        log.info("draining: %d requests have %g s", self._state.busy(), limit_s)
        until = self._clock() + limit_s
        while (left := self._state.busy()) and self._clock() < until:
            await asyncio.sleep(min(IDLE_LOOK_S, limit_s))
        self.broken = left
        if left:
            log.warning("%d requests are broken off: they run after --drain-timeout, %g s", left, limit_s)


def _http() -> Any:
    if find_spec("httptools") is None:
        # It has bounds of its own.
        return "h11"
    from kvlease.router.wire import ClientWire

    return ClientWire


def _uvicorn_config(app: RouterApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_http(),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=CLIENTS_KEEP_S,
        timeout_graceful_shutdown=LAST_S,
        backlog=BACKLOG,
    )


class _Cancelled(logging.Filter):
    """Leaves out what uvicorn says of requests that are broken off: the router has said it, without a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, asyncio.CancelledError) and not str(record.msg).startswith("Cancel %s")


_CANCELLED = _Cancelled()
_OFTEN = OncePerPeriod()
"""Bounds what uvicorn says of clients' mistakes: they make one with each line that is no HTTP."""


@contextlib.contextmanager
def _listener(settings: RouterSettings) -> Iterator[socket.socket]:
    """The socket that is listened on. Raises `CannotListen`."""
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(
            f"--host {host} --port {port} cannot be listened on: {error.strerror or error}; choose another --port, or "
            "an address of this machine"
        ) from None
    with listener:
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _handled(end: Callable[[], None]) -> Iterator[None]:
    """A context in which signals call `end`."""
    loop = asyncio.get_running_loop()
    for number in _ENDS:
        # What ignores hang-ups, such as nohup, is left so.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in _ENDS:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> Any:
    """A context beside which something runs; it ends with it, and its errors end the context."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()


def serve(settings: RouterSettings, listening: Callable[[str], None]) -> int:
    """Serves until a signal comes. Returns the number of requests that were broken off.

    Raises as `ServedRouter.run` does, but KeyboardInterrupt after a second signal.
    """

    async def run() -> int:
        process = ServedRouter(settings)
        await process.run(listening)
        return process.broken

    raise_open_files(settings)
    # What is there by now stays: the collector need not look at it again and again, while streams wait.
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def raise_open_files(settings: RouterSettings) -> None:
    """Lets the process have as many files open as it may: each request has two connections, and a usual limit is 1024.

    Without a file left, engines seem to be away, and clients are turned down.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else max(soft, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        except (OSError, ValueError):
            # Not everywhere is what the hard limit says allowed.
            pass
    needed = 2 * settings.max_in_flight + settings.max_queued + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        log.warning(
            "%d files may be open, and %d may be needed: a higher limit (ulimit -n), or lower limits", soft, needed
        )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
