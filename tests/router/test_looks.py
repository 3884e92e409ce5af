"""A look at an engine: what a page of metrics and an engine's routes say."""

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from kvlease.router.engines import EngineReport
from kvlease.router.looks import ENDS, SILENCE, LeaseWord, read_health, read_page, values_of
from kvlease.vllm.endpoint import _unavailable


def page(**figures: float | tuple[float, ...]) -> bytes:
    """A page as vLLM writes it; several values are of several data-parallel ranks."""
    registry = CollectorRegistry()
    for name, values in ({"vllm__uptime": 1.0} | figures).items():
        gauge = Gauge(name.replace("__", ":"), "Help.", ["model_name", "engine"], registry=registry)
        for rank, value in enumerate(values if isinstance(values, tuple) else (values,)):
            gauge.labels('a "model" } 7', rank).set(value)
    return bytes(generate_latest(registry))


def test_a_page_of_kvlease_is_read() -> None:
    content = page(
        vllm__num_requests_running=3,
        vllm__num_requests_waiting=2,
        vllm__kv_cache_usage_perc=0.25,
        kvlease__agent_up=1,
        kvlease__draining=0,
    )
    assert read_page(content, LeaseWord(grace_s=1.0)) == EngineReport(
        running=3, waiting=2, kv_usage=0.25, draining=None, leased=True, grace_s=1.0
    )


def test_data_parallel_ranks_are_one_engine() -> None:
    content = page(vllm__num_requests_running=(3, 4), vllm__kv_cache_usage_perc=(0.5, 1.0), kvlease__draining=(1, 0))
    report = read_page(content)
    assert (report.running, report.kv_usage, report.draining) == (7, 0.75, None)
    assert read_page(page(kvlease__draining=(1, 1))).draining is True


def test_stock_and_an_engine_of_which_nothing_is_known_are_told_apart() -> None:
    assert read_page(page(vllm__num_requests_running=0)).leased is False
    assert read_page(b"").leased is None
    assert read_page(b"python_info 1\n").leased is None
    assert read_page(page(kvlease__agent_up=0)).leased is True


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"a 1\n", [1.0]),
        (b'a{x="}"} 2.5e1\na{x="y z"} 3 1700000000\n', [25.0, 3.0]),
        (b"ab 1\nb_a 2\n# TYPE a gauge\n", []),
        (b'a{x="', []),
        (b"a{} x\na 7", [7.0]),
        (b"a ", []),
    ],
)
def test_only_whole_samples_of_that_name_are_found(text: bytes, found: list[float]) -> None:
    assert values_of(b"\n" + text, b"a") == found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_figure_that_makes_no_sense_is_no_load(value: float) -> None:
    report = read_page(page(vllm__num_requests_running=value, vllm__kv_cache_usage_perc=value))
    assert report.running == 0
    assert 0.0 <= report.kv_usage <= 1.0


def health(*engines: tuple[bool, str, float]) -> bytes:
    def holding() -> dict[str, Any]:
        return {"leases": 0, "tokens": 0, "blocks": 0, "bytes": 0}

    return json.dumps(
        {
            "engines": [
                {
                    "rank": rank,
                    "engine_id": "e",
                    "incarnation": "0",
                    "version": "0.1.0",
                    "agent": agent,
                    "draining": draining,
                    "uptime_s": 1.0,
                    "settings": {
                        "duration_s": 30,
                        "extension_s": 20,
                        "renew_interval_s": 5,
                        "orphan_grace_s": grace_s,
                        "max_age_s": 600,
                        "stall_limit_s": 120,
                        "probe_interval_s": 0.25,
                        "fence_slots": 1,
                    },
                    "held": holding() | {"claimed": 0},
                    "lapsed": holding(),
                    "unheard": {"dead": holding(), "silent": holding()},
                    "pool_blocks": 1,
                    "sessions": {"consumers": 0, "producers": 0},
                }
                for rank, (draining, agent, grace_s) in enumerate(engines)
            ]
        }
    ).encode()


def test_an_engines_routes_tell_its_drain_and_its_grace() -> None:
    assert read_health(200, health((False, "up", 1.0))) == LeaseWord(False, 1.0, served=True)
    assert read_health(200, health((True, "up", 1.0), (False, "up", 0.5))) == LeaseWord(False, 0.5, served=True)
    assert read_health(200, health((True, "up", 1.0), (False, "dead", 1.0))).draining is True


def test_an_engine_that_shuts_down_says_so() -> None:
    """The sentence is the endpoint's own: what it is told by vLLM."""
    refused = _unavailable(RuntimeError("Server shutting down")).detail
    body = json.dumps({"error": {"message": refused.message, "type": "x", "code": 503}}).encode()
    assert refused.message.startswith(ENDS)
    assert read_health(503, body) == LeaseWord(draining=True, served=True)
    other = json.dumps({"error": {"message": "the engine has not answered within 60 s", "type": "x", "code": 503}})
    assert read_health(503, other.encode()) == LeaseWord(draining=False, served=True)


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (401, b"x"), (200, b"<html>"), (503, b""), (302, b"")])
def test_an_engine_without_the_routes_says_nothing(status: int, body: bytes) -> None:
    assert read_health(status, body) == SILENCE
