"""Serves a small fleet that is none over HTTP, so that `kvlease top` can be tried without engines:

    python -m tests.top.serve

It prints the command to look at them with, and goes on until Ctrl-C.
"""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.top.canned import CannedServer
from tests.top.stories import fleet, play

ROUND_S = 120.0
"""The time after which the story begins anew."""


class Handler(BaseHTTPRequestHandler):
    """Answers for one of the servers."""

    canned: CannedServer

    def do_GET(self) -> None:
        status, body = self.canned.answer(self.path, self.headers.get("Authorization"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""


class Door:
    """A port of this machine at which a server answers while it lives."""

    def __init__(self, canned: CannedServer) -> None:
        self.canned = canned
        self._http: ThreadingHTTPServer | None = None
        self._port = 0
        self.follow()
        self.url = f"http://127.0.0.1:{self._port}"

    def follow(self) -> None:
        """Opens or closes the port, as the server lives or not."""
        if self.canned.alive and self._http is None:
            handler = type("OneHandler", (Handler,), {"canned": self.canned})
            self._http = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
            self._port = self._http.server_address[1]
            threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        elif not self.canned.alive:
            self.close()

    def close(self) -> None:
        """Closes the port: whoever asks is refused."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None


def main() -> None:
    """Serves, and lets the fleet's time go by."""
    servers = fleet()
    doors = [Door(server) for server in servers]
    print("kvlease top " + " ".join(door.url for door in doors), flush=True)
    began = time.monotonic()
    while True:
        play(servers, (time.monotonic() - began) % ROUND_S)
        for door in doors:
            door.follow()
        time.sleep(0.25)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
