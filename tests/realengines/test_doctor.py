"""`kvlease doctor` on a pair of real engines: a hand-off that is sound, and one whose lease a router drops."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from kvlease.doctor.examination import Examined, ToExamine, examine_all
from kvlease.doctor.hand_off_checks import CHECKS
from kvlease.doctor.trial import PREFILL_PARAMS
from tests.realengines.pairs import Pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(300), pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def pair(shared_pair: Pair) -> Pair:
    return shared_pair


@pytest.fixture
def router(pair: Pair, request: pytest.FixtureRequest) -> Iterator[str]:
    """A router of the plainest kind; its parameter tells whether it drops `kv_lease`."""

    class Routing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(httpx.get(f"{pair.d.url}{self.path}"))

        def do_POST(self) -> None:
            body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prefill = {**body, "max_tokens": 1, "kv_transfer_params": dict(PREFILL_PARAMS)}
            offer = httpx.post(f"{pair.p.url}{self.path}", json=prefill, timeout=60).json()["kv_transfer_params"]
            if request.param:
                del offer["kv_lease"]
            self.answer(httpx.post(f"{pair.d.url}{self.path}", json={**body, "kv_transfer_params": offer}, timeout=60))

        def answer(self, response: httpx.Response) -> None:
            self.send_response(response.status_code)
            self.end_headers()
            self.wfile.write(response.content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Routing) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def of_trials(examined: Examined) -> list[str]:
    known = {check.id for check in CHECKS}
    return [finding.id for finding in examined.findings if finding.id in known]


def test_a_sound_pair_reads_under_its_lease(pair: Pair) -> None:
    urls = [pair.p.url, pair.d.url]
    examined = examine_all(ToExamine(urls=urls, prefill=urls[0], decode=urls[1], machine=False), {})
    assert of_trials(examined) == []
    assert "intact 1" in examined.looked_at["a trial"]


@pytest.mark.parametrize(("router", "found"), [(False, []), (True, ["lease-dropped"])], indirect=["router"])
def test_a_router_that_drops_the_lease_is_found(pair: Pair, router: str, found: list[str]) -> None:
    asked = ToExamine(urls=[pair.p.url, pair.d.url], router=router, machine=False)
    assert of_trials(examine_all(asked, {})) == found
