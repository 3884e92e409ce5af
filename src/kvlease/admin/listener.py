"""The agent's own door: an HTTP server in a daemon thread of the scheduler's process, where the settings ask for one.

It answers where no API server of the engine's does: under Dynamo, behind vLLM's Rust frontend, and while the engine
shuts down and waits for its last leases to be read.
"""

import asyncio
import hmac
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvlease.admin.core import AdminCore, Refused
from kvlease.admin.engines import Engines
from kvlease.admin.exposition import CONTENT_TYPE
from kvlease.admin.settings import LISTEN, TOKEN_VARIABLE, ListenSettings
from kvlease.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ANSWER_S = 10.0
"""The longest time for which an answer is waited: the agent gives it within a turn."""
STOP_S = 2.0
"""The longest time that an engine's end waits for the listener's."""
_GRACE_S = 1
"""The time that requests under way are given when the listener stops."""
_BACKLOG = 128


class AdminListener:
    """Listens from its creation on, and answers once it is started. Raises `ConfigError` where it cannot listen.

    Attributes: `port`, on which it does.
    """

    def __init__(self, core: AdminCore, settings: ListenSettings, page: Callable[[], bytes] | None = None) -> None:
        """`page`: returns the answer to `GET /metrics`."""
        import uvicorn

        from kvlease.admin.connections import BoundedHttp

        self._socket = _listening(settings)
        self.port = settings.port
        app = listener_app(core, settings.token, page)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=BoundedHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="kvlease-listener", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread, and gives the port back. A no-op where it has stopped."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def _listening(settings: ListenSettings) -> socket.socket:
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.socket(family, kind)
        # A port of an engine that has just ended can be taken at once; one that somebody listens on cannot.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
            bound.listen(_BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as e:
        raise ConfigError(
            f"{LISTEN}: the agent cannot listen on {settings.host}, port {settings.port}: {e.strerror or e}. Each "
            "engine on a machine needs a port of its own, and data-parallel ranks take the ports behind the first; "
            "give this engine another one"
        ) from e
    return bound


def listener_app(core: AdminCore, token: str | None, page: Callable[[], bytes] | None = None) -> "ASGIApp":
    """Returns the application that the listener serves."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from kvlease.admin.routes import AdminRoutes, as_error

    async def ask(question: bytes) -> Sequence[bytes]:
        try:
            return [await asyncio.wait_for(asyncio.wrap_future(core.answer(question)), ANSWER_S)]
        except TimeoutError:
            raise Refused(503, f"the lease agent has not answered within {ANSWER_S:g} s") from None

    async def metrics(_request: Request) -> Response:
        assert page is not None
        return Response(await asyncio.to_thread(page), media_type=CONTENT_TYPE)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = {404: f"there is no {request.url.path[:100]!r} here", 405: f"{request.method} is not allowed here"}
        response = as_error(Refused(error.status_code, text.get(error.status_code, error.detail)))
        response.headers.update(error.headers or {})
        return response

    routes = [*AdminRoutes(Engines(ask)).routes(), *([Route("/metrics", metrics)] if page is not None else [])]
    app = Starlette(routes=routes, exception_handlers={404: refused, 405: refused})
    app.router.redirect_slashes = False
    return _Guard(app, token)


class _Guard:
    """Lets through who has the token and, without one, who is no web page's script.

    A browser on this machine runs scripts of strangers, and would send their requests to a loopback address, or to a
    name that a stranger's DNS has turned into one.
    """

    def __init__(self, app: "ASGIApp", token: str | None) -> None:
        self._app = app
        self._token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "http" and (why := self._why_refused(dict(scope["headers"]))) is not None:
            from kvlease.admin.routes import as_error

            await as_error(why)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _why_refused(self, headers: dict[bytes, bytes]) -> Refused | None:
        if self._token is not None:
            # The comparison takes as long for a wrong token as for one that is nearly right.
            if hmac.compare_digest(headers.get(b"authorization", b""), self._token):
                return None
            return Refused(401, f"this needs the header `Authorization: Bearer …` with the value of {TOKEN_VARIABLE}")
        if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") != b"none":
            return Refused(403, f"this comes from a web page, which needs a token: set {TOKEN_VARIABLE}")
        if not _is_address(headers.get(b"host", b"").decode("latin-1")):
            return Refused(403, f"without a token, ask by address: http://127.0.0.1:PORT, or set {TOKEN_VARIABLE}")
        return None


def _is_address(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
