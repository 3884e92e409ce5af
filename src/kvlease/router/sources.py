"""The places that name engines: the command line, a file, and the addresses of a name. Each can be asked again."""

import asyncio
import os
import socket
import threading
from argparse import ArgumentTypeError
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import msgspec

from kvlease.console.arguments import engine_url
from kvlease.errors import KvLeaseError, brief
from kvlease.router.settings import RouterSettings, name_and_port

FILE_INTERVAL_S = 1.0
"""The pause between two looks at the file."""
MAX_FILE_BYTES = 256_000
MAX_ENGINES = 1000
"""The most engines of one source."""
ROLE_NAMES = ("prefill", "decode")

T = TypeVar("T")
Resolve = Callable[[str, int], Awaitable[Iterable[tuple[int, str]]]]
"""Looks a name up, and returns its addresses, each with its family. It raises OSError."""


class BadEngines(KvLeaseError, ValueError):
    """A file or a name that gives no list of engines. The message names it, what is wrong, and what is expected."""


class ListedEngines(NamedTuple):
    """The engines of a source, or of all of them."""

    prefill: frozenset[str] = frozenset()
    """Their URLs."""
    decode: frozenset[str] = frozenset()

    def roles(self) -> dict[str, str]:
        """Returns each engine's role by its URL; of one with both it is "prefill"."""
        return dict.fromkeys(self.decode, "decode") | dict.fromkeys(self.prefill, "prefill")


# -- a file --------------------------------------------------------------------------------------------------------


def parse_file(content: bytes, path: Path) -> ListedEngines:
    """Returns the engines of a file in YAML or JSON: `{"prefill": [URL, …], "decode": [URL, …]}`. Raises
    `BadEngines`."""
    if len(content) > MAX_FILE_BYTES:
        raise BadEngines(f"{path} has more than {MAX_FILE_BYTES:,} bytes, so it is no list of engines")
    document = _document(content, path)
    if not isinstance(document, dict) or not all(role in document for role in ROLE_NAMES):
        raise BadEngines(
            f"{path} is no list of engines: it must have prefill and decode, each a list of URLs, such as "
            '{"prefill": ["http://prefill-0:8000"], "decode": ["http://decode-0:8000"]}'
        )
    if unknown := [key for key in document if key not in ROLE_NAMES]:
        raise BadEngines(f"{path} has {brief(unknown[0])}: it may have prefill and decode, and nothing else")
    found = ListedEngines(*(frozenset(_urls(document[role], role, path)) for role in ROLE_NAMES))
    if both := sorted(found.prefill & found.decode):
        raise BadEngines(f"{path} has {both[0]} in prefill and in decode: an engine has one part; name it once")
    return found


def _document(content: bytes, path: Path) -> Any:
    try:
        # Not all JSON is YAML: tabs are none.
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    import yaml

    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadEngines(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())[:200]}") from None


def _urls(value: object, role: str, path: Path) -> Iterator[str]:
    if not isinstance(value, list) or len(value) > MAX_ENGINES:
        raise BadEngines(f"{path}: {role} must be a list of up to {MAX_ENGINES} URLs, and is {brief(value)}")
    for text in value:
        if not isinstance(text, str):
            raise BadEngines(f"{path}: {role} has {brief(text)}, which is no URL, such as http://{role}-0:8000")
        try:
            yield engine_url(text)
        except ArgumentTypeError as error:
            raise BadEngines(f"{path}: {role} has no URL: {error}") from None


class EngineSource(Protocol):
    """A place that names engines."""

    @property
    def kind(self) -> str:
        """ "flags", "file" or "dns"."""

    @property
    def interval_s(self) -> float | None:
        """The pause between two looks; None where nothing changes."""

    async def look(self) -> ListedEngines | None:
        """Returns the engines that are named now; None where they may be in the middle of a change. Raises
        `BadEngines`."""


class EnginesByFlags:
    """The engines that the command line names."""

    kind = "flags"
    interval_s = None

    def __init__(self, listed: ListedEngines) -> None:
        self._listed = listed

    async def look(self) -> ListedEngines:
        """Returns what the command line says."""
        return self._listed


class EnginesInFile:
    """A file with lists of engines, which may be replaced, written in place, or be behind links that are moved."""

    kind = "file"
    interval_s = FILE_INTERVAL_S

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: bytes | None = None
        self._judged: bytes | None = None

    async def look(self) -> ListedEngines | None:
        """Reads the file, in a thread: it may lie on a file system that hangs."""
        return await in_thread(self.look_here)

    def look_here(self) -> ListedEngines | None:
        """Reads the file. A new content has to be there twice in a row, but for the first: a file that is being written
        in place is half of itself for a moment. Each content is judged once."""
        content = self._content()
        settled = self._judged is None or self._seen == content
        self._seen = content
        if content == self._judged or not settled:
            return None
        self._judged = content
        return parse_file(content, self.path)

    def _content(self) -> bytes:
        try:
            # By its name each time: behind it, Kubernetes moves a link from one directory to the next.
            with open(self.path, "rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise BadEngines(f"{self.path} cannot be read: {os.strerror(error.errno or 0).lower()}") from None


class EnginesByName:
    """The addresses of a name: the pods of a headless Service."""

    kind = "dns"

    def __init__(self, role: str, host: str, port: int, interval_s: float, resolve: Resolve) -> None:
        self.interval_s = interval_s
        self._role = role
        self._host = host
        self._port = port
        self._resolve = resolve

    async def look(self) -> ListedEngines:
        """Looks the name up. No address at all is a failure: with all pods away, there is nothing better to ask."""
        try:
            found = list(await self._resolve(self._host, self._port))
        except (OSError, UnicodeError) as error:
            # A name that has an empty or a long part is no text that can be asked for.
            said = getattr(error, "strerror", None) or error
            raise BadEngines(f"{self._host} cannot be looked up: {said}") from None
        urls = frozenset(self._url(family, address) for family, address in _of_one_family(found))
        if not urls or len(urls) > MAX_ENGINES:
            raise BadEngines(f"{self._host} has {len(urls)} addresses: it must have from 1 to {MAX_ENGINES}")
        return ListedEngines(**{self._role: urls})

    def _url(self, family: int, address: str) -> str:
        host = f"[{address}]" if family == socket.AF_INET6 else address
        return f"http://{host}:{self._port}"


def _of_one_family(found: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    # A pod with addresses of both families is one engine: counted as two, it would be its own second choice.
    families = {family for family, _ in found}
    chosen = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return ((family, address) for family, address in found if family == chosen)


async def resolve(host: str, port: int) -> Iterable[tuple[int, str]]:
    """Returns the addresses that the system knows for a name (`Resolve`)."""
    found = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return [(family, str(address[0])) for family, _, _, _, address in found]


async def in_thread(do: Callable[[], T]) -> T:
    """Returns what `do` returns, in a thread that the end of the process does not wait for: a look-up takes as long as
    the system likes, and the threads of an event loop are waited for."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: Exception | None) -> None:
        # Whoever has asked may have been cancelled.
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(cast(T, value))

    def run() -> None:
        value: T | None = None
        caught: Exception | None = None
        try:
            value = do()
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            caught = error
        with suppress(RuntimeError):
            # The loop may be closed by now.
            loop.call_soon_threadsafe(settle, value, caught)

    threading.Thread(target=run, daemon=True, name="kvlease-router-look").start()
    return await result


def sources_of(settings: RouterSettings, resolving: Resolve = resolve) -> list[EngineSource]:
    """Returns the sources that an operator has named."""
    found: list[EngineSource] = []
    if settings.prefill or settings.decode:
        found.append(EnginesByFlags(ListedEngines(frozenset(settings.prefill), frozenset(settings.decode))))
    if settings.engines_file is not None:
        found.append(EnginesInFile(settings.engines_file))
    for role, names in (("prefill", settings.prefill_dns), ("decode", settings.decode_dns)):
        for text in names:
            host, port = name_and_port(text, f"--{role}-dns")
            found.append(EnginesByName(role, host, port, settings.dns_interval_s, resolving))
    return found
