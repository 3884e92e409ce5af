"""The program that a supervisor calls before it ends a prefill engine."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kvlease.up.drain import drain, main


class Admin(BaseHTTPRequestHandler):
    """The answers of an engine with so many leases out."""

    left = 0
    asked: tuple[str, str | None] = ("", None)

    def do_POST(self) -> None:
        type(self).asked = (self.path, self.headers["Authorization"])
        self.send_response(202 if self.left else 200)
        self.end_headers()
        self.wfile.write(b'{"draining":true,"left":%d}' % self.left)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Admin)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_waits_for_leases_and_says_how_many_are_left(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drain(url, 30.0, "secret").left == 0
    assert Admin.asked == ("/v1/kvlease/drain?wait=30", "Bearer secret")
    assert main([url, "5"]) == 0
    monkeypatch.setattr(Admin, "left", 2)
    assert main([url, "5"]) == 1
    assert drain(url, 5.0).said == f"{url} has 2 leases out"


def test_an_engine_that_is_gone_has_nothing_to_wait_for() -> None:
    gone = drain("http://127.0.0.1:1", 5.0)
    assert gone.left is None
    assert "was not drained" in gone.said
    assert main(["http://127.0.0.1:1", "5"]) == 0
