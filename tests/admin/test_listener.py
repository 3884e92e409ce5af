"""The agent's own listener: who is let in, where it listens, and when it stops."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx
import pytest

from kvlease.admin.connections import MOST_CONNECTIONS
from kvlease.admin.listener import AdminListener
from kvlease.admin.settings import TOKEN_VARIABLE, ListenSettings, listen_settings
from kvlease.errors import ConfigError
from kvlease.up.engines import HOST
from kvlease.up.ports import free_port
from tests.admin.doors import Door
from tests.waiting import wait_until

TOKEN = "0123456789abcdef"
OPEN = {"kv_lease_listen": "127.0.0.1:9410"}
WIDE = {"kv_lease_listen": "0.0.0.0:9410"}


# -- settings ----------------------------------------------------------------------------------------------------


def test_nothing_listens_unless_asked() -> None:
    assert listen_settings({}, {TOKEN_VARIABLE: TOKEN}, 0) is None


@pytest.mark.parametrize(
    ("text", "rank", "host", "port"),
    [
        ("127.0.0.1:9410", 0, "127.0.0.1", 9410),
        ("127.0.0.1:9410", 3, "127.0.0.1", 9413),
        ("[::1]:80", 0, "::1", 80),
        ("localhost:65535", 0, "localhost", 65535),
    ],
)
def test_a_rank_listens_on_a_port_of_its_own(text: str, rank: int, host: str, port: int) -> None:
    assert listen_settings({"kv_lease_listen": text}, {}, rank) == ListenSettings(host, port)


@pytest.mark.parametrize(
    "value", [9410, "9410", ":9410", "127.0.0.1", "127.0.0.1:0", "h:65536", "h:99999", "http://h:1", "h:1 ", True]
)
def test_an_address_that_is_none_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ConfigError, match=r'kv_lease_listen is .*\{"kv_lease_listen": "127.0.0.1:9410"\}'):
        listen_settings({"kv_lease_listen": value}, {TOKEN_VARIABLE: TOKEN}, 0)


def test_the_last_rank_needs_a_port_as_well() -> None:
    with pytest.raises(ConfigError, match="data-parallel rank"):
        listen_settings({"kv_lease_listen": "127.0.0.1:65535"}, {}, 1)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.1.2.3", "prefill-0", "127.0.0.1.example.org"])
def test_beyond_loopback_a_token_is_needed(host: str) -> None:
    settings = {"kv_lease_listen": f"{host}:9410"}
    with pytest.raises(ConfigError, match=TOKEN_VARIABLE):
        listen_settings(settings, {}, 0)
    found = listen_settings(settings, {TOKEN_VARIABLE: TOKEN}, 0)
    assert found is not None
    assert found.token == TOKEN
    assert TOKEN not in repr(found)


@pytest.mark.parametrize("token", ["", "short", "with a space in it", "ünprintable-token-", "0123456789abcde\n"])
def test_a_token_that_is_none_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigError, match=TOKEN_VARIABLE) as error:
        listen_settings(OPEN, {TOKEN_VARIABLE: token}, 0)
    assert not token or token not in str(error.value)


# -- who is let in -----------------------------------------------------------------------------------------------


def status(door: Door, path: str = "/v1/kvlease/health", **headers: str) -> int:
    async def ask() -> int:
        async with door.client(**headers) as client:
            return (await client.get(path)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize("path", ["/v1/kvlease/health", "/v1/kvlease/openapi.json", "/metrics", "/nothing"])
def test_with_a_token_nothing_is_answered_without(path: str) -> None:
    door = Door(TOKEN)
    assert status(door, path) == 401
    assert status(door, path, authorization=f"Bearer {TOKEN}") in (200, 404)
    for wrong in (TOKEN, f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ", f"Bearer  {TOKEN}"):
        assert status(door, path, authorization=wrong) == 401


def test_without_a_token_no_web_page_is_let_in() -> None:
    """A script of a stranger's page, in a browser on this machine, reaches loopback addresses too."""
    door = Door()
    assert status(door) == 200
    assert status(door, origin="https://example.org") == 403
    assert status(door, **{"sec-fetch-site": "cross-site"}) == 403
    assert status(door, host="rebound.example.org:9410") == 403
    assert status(door, host="localhost:9410") == status(door, host="[::1]:9410") == 200


def test_with_a_token_any_name_will_do() -> None:
    assert status(Door(TOKEN), host="prefill-0", authorization=f"Bearer {TOKEN}") == 200


# -- a real one --------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[AdminListener]:
    door = Door()
    door.prefill("r")
    listener = AdminListener(door.core, ListenSettings("127.0.0.1", free_port(HOST)), lambda: b"page\n")
    listener.start()
    yield listener
    listener.stop()


def test_it_answers_over_a_socket_until_it_is_stopped(listener: AdminListener) -> None:
    url = f"http://127.0.0.1:{listener.port}"
    with httpx.Client(base_url=url) as client:
        assert client.get("/v1/kvlease/leases").json()["total"] == 1
        assert client.get("/metrics").text == "page\n"
        listener.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/v1/kvlease/health")
    again = AdminListener(Door().core, ListenSettings("127.0.0.1", listener.port))
    again.stop()


def test_a_port_that_is_taken_is_told_at_once(listener: AdminListener) -> None:
    with pytest.raises(ConfigError, match=f"port {listener.port}: .* data-parallel ranks take the ports behind"):
        AdminListener(Door().core, ListenSettings("127.0.0.1", listener.port))


def test_a_host_that_is_not_ours_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        AdminListener(Door().core, ListenSettings("192.0.2.1", free_port(HOST)))


def test_silent_connections_keep_nobody_out_and_are_not_without_end(listener: AdminListener) -> None:
    """Some have sent the beginning of a request. A drain that is waited for came before them."""
    address, url = ("127.0.0.1", listener.port), f"http://127.0.0.1:{listener.port}/v1/kvlease"
    with ExitStack() as open_ones, ThreadPoolExecutor(1) as preparing:
        waited = preparing.submit(httpx.post, f"{url}/drain?wait=1", timeout=10)
        wait_until(lambda: httpx.get(f"{url}/drain").json()["draining"])
        silent = [open_ones.enter_context(socket.create_connection(address)) for _ in range(MOST_CONNECTIONS + 20)]
        for connection in silent[::2]:
            with suppress(OSError):
                connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert httpx.get(f"{url}/health").status_code == 200
        assert waited.result().status_code == 202, "a request under way does not give way"
        given_way = 0
        for connection in silent:
            connection.settimeout(0.001)
            with suppress(TimeoutError):
                try:
                    given_way += connection.recv(1) == b""
                except ConnectionResetError:
                    given_way += 1
        assert given_way >= 20
