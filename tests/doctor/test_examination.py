"""The whole command: what is looked at, what is sent, and what is printed."""

import json
import math
import socket
import sys
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from kvlease.admin import client
from kvlease.admin.answers import Health
from kvlease.cli import main
from kvlease.doctor import examination
from kvlease.doctor.examination import ToExamine, examine_all
from kvlease.doctor.machine import is_taken, look_at_machine
from kvlease.doctor.reading import read
from kvlease.doctor.told import as_json, as_text
from kvlease.doctor.trial import unreachable
from tests.cli.bare import refused_bare
from tests.doctor.subjects import D, P, health

R = "http://r:80"


class FakeFleet:
    """A prefill engine, a decode engine and a router that answer as they do; `drops` is what the router does."""

    def __init__(self, drops: bool = False) -> None:
        self.drops = drops
        self.granted = self.intact = self.unfenced = 0
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        base = f"{request.url.scheme}://{request.url.host}:{request.url.port or 80}"
        match request.url.path:
            case "/metrics":
                return httpx.Response(200, text=self.page(base))
            case "/version":
                return httpx.Response(200, json={"version": "0.32.0"})
            case "/v1/models":
                return httpx.Response(200, json={"data": [{"id": "tiny"}]})
            case "/v1/kvlease/health":
                return httpx.Response(200, content=msgspec.json.encode(Health([health()])))
        body = json.loads(request.content)
        self.requests.append((base, body))
        return httpx.Response(200, json={"choices": [], "kv_transfer_params": self.served(base, body)})

    def served(self, base: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if base == P:
            self.granted += 1
            # Port 9 is discard's, at which nobody listens.
            return {"kv_lease": "1", "remote_host": "10.0.0.1", "remote_port": 9, "do_remote_prefill": True}
        params = body.get("kv_transfer_params", {})
        if base == R:
            params = self.served(P, {}) or {}
            if self.drops:
                del params["kv_lease"]
        self.intact += "kv_lease" in params
        self.unfenced += "kv_lease" not in params
        return None

    def page(self, base: str) -> str:
        if base == P:
            counts = f"kvlease:grants_total {self.granted}\nkvlease:unfenced_reads_total {self.unfenced}\n"
        else:
            counts = f'kvlease:fence_checks_total{{verdict="intact"}} {self.intact}\n'
        return f"kvlease:agent_up 1\n{counts}"


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeFleet]:
    real = client.open_http

    def start(drops: bool = False) -> FakeFleet:
        fake = FakeFleet(drops)
        monkeypatch.setattr(client, "open_http", lambda key: real(key, transport=httpx.MockTransport(fake)))
        monkeypatch.setattr("kvlease.doctor.trial.unreachable", lambda _: None)
        return fake

    return start


def ids(asked: ToExamine) -> list[str]:
    return [finding.id for finding in examine_all(asked, {}).findings]


def test_urls_alone_are_looked_at_and_sent_nothing(fleet: Callable[..., FakeFleet]) -> None:
    fake = fleet()
    assert ids(ToExamine(urls=[P, D], machine=False)) == []
    assert fake.requests == []


def test_a_pair_is_tried_with_one_prefill_whose_offer_is_handed_over_whole(fleet: Callable[..., FakeFleet]) -> None:
    fake = fleet()
    examined = examine_all(ToExamine(urls=[P, D], prefill=P, decode=D, machine=False), {})
    assert examined.findings == []
    (first, second) = fake.requests
    assert (first[0], first[1]["max_tokens"], first[1]["kv_transfer_params"]["do_remote_decode"]) == (P, 1, True)
    assert (second[0], second[1]["kv_transfer_params"]["kv_lease"]) == (D, "1")
    assert "intact 1" in examined.looked_at["a trial"]


def test_a_router_that_drops_kv_lease_is_found(fleet: Callable[..., FakeFleet]) -> None:
    fleet(drops=True)
    assert "lease-dropped" in ids(ToExamine(urls=[P, D], router=R, machine=False))
    fleet(drops=False)
    assert ids(ToExamine(urls=[P, D], router=R, machine=False)) == []


@pytest.mark.parametrize(
    "page",
    [
        'kvlease:late_claims_total{outcome="too_late"} NaN\n',
        'kvlease:claim_wait_seconds_bucket{le="+Inf"} +Inf\n',
        'kvlease:claim_wait_seconds_bucket{le="1.0"} 3\n',
        'vllm:inter_token_latency_seconds_bucket{le="1.0"} 3\n',
    ],
)
def test_a_page_that_was_cut_off_or_whose_numbers_are_none_is_a_finding(
    fleet: Callable[..., FakeFleet], monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    waits = 'kvlease:claim_wait_seconds_bucket{le="+Inf"} 5\n' if "claim_wait" not in page else ""
    monkeypatch.setattr(FakeFleet, "page", lambda *_: page + waits)
    fleet()
    examined = examine_all(ToExamine(urls=[P], machine=False), {})
    assert ("no-metrics", "no /metrics page") in [(finding.id, finding.found) for finding in examined.findings]


@pytest.mark.parametrize("answer", [[], "x", {"kv_transfer_params": []}])
def test_an_answer_that_is_no_completion_is_a_finding(
    fleet: Callable[..., FakeFleet], monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    answered = FakeFleet.__call__

    def answers(fake: FakeFleet, request: httpx.Request) -> httpx.Response:
        return answered(fake, request) if request.method == "GET" else httpx.Response(200, json=answer)

    monkeypatch.setattr(FakeFleet, "__call__", answers)
    fleet()
    examined = examine_all(ToExamine(urls=[P], prefill=P, machine=False), {})
    assert "no-offer" in [finding.id for finding in examined.findings]


@pytest.mark.parametrize("port", [None, [], "none", math.inf])
def test_a_side_channel_whose_port_is_none_cannot_be_reached(port: Any) -> None:
    assert unreachable({"remote_host": "127.0.0.1", "remote_port": port})


def test_an_engine_that_is_not_there_is_an_error_in_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--no-machine", "127.0.0.1:9"]) == 2
    assert "ERROR unreachable (http://127.0.0.1:9)\n  connection refused\n" in capsys.readouterr().out
    assert main(["doctor", "--no-machine", "--json", "127.0.0.1:9/metrics"]) == 2
    assert json.loads(capsys.readouterr().out)["findings"][0]["place"] == "http://127.0.0.1:9"


def test_errors_come_first_and_the_sum_last(fleet: Callable[..., FakeFleet]) -> None:
    line = 'vllm serve m --kv-transfer-config \'{"kv_connector": "LeasedNixlConnector"}\''
    fleet()
    lines = list(as_text(examine_all(ToExamine(setups=read(line, {}), machine=False), {})))
    heads = [line.split()[0] for line in lines if line.startswith(("ERROR", "WARNING"))]
    assert heads == sorted(heads)
    assert lines[-1] == "1 error, 0 warnings"
    assert list(as_text(examination.Examined()))[-1] == "nothing found"
    assert json.loads(as_json(examination.Examined())) == {"looked_at": {}, "findings": [], "advice": {}}


def test_what_is_found_at_several_places_is_told_once() -> None:
    lines = list(as_text(examine_all(ToExamine(urls=["http://127.0.0.1:9", "http://127.0.0.1:10"], machine=False), {})))
    assert "ERROR unreachable (http://127.0.0.1:9, http://127.0.0.1:10)" in lines
    assert lines[-1] == "2 errors, 0 warnings"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--decode", "x"], "--decode needs --prefill"),
        (["--router", "x"], "--router needs"),
        (["--config", "x"], "no file"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_this_machine_is_looked_at_without_an_import_of_engines() -> None:
    before = {name for name in ("torch", "vllm", "nixl") if name in sys.modules}
    found = look_at_machine({"A": "1"}, {})
    assert found.versions["kvlease"] == "0.1.0"
    assert {name for name in ("torch", "vllm", "nixl") if name in sys.modules} == before
    assert found.variables == {"A": "1"}


def test_a_port_is_taken_while_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_taken(port)
    assert not is_taken(port)


def test_alone_it_looks_at_this_machine_and_says_what_it_lacks_to_ask_engines() -> None:
    script = """
from kvlease.cli import main
config = '{"kv_connector": "LeasedNixlConnector", "kv_role": "kv_producer"}'
assert main(["doctor", "--no-machine", "--config", config]) == 0
sys.exit(main(["doctor", "http://p"]))
"""
    assert "`pip install 'kvlease[observe]'` installs it" in refused_bare(script)
