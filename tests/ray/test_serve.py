"""`examples/ray` as a user starts it: D reads under a lease and its fence, D is killed, and P's blocks are free.

Stock's half is the same cluster under the same name, without kvlease's module.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from proof import ROOT
from tests.ray.cluster import DECODE, PREFILL, SEATS, Cluster, end_now

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

WAITING = 4
PROMPTS = [f"Letter {number}. " + "A lease is granted for a term. " * 16 for number in range(WAITING)]
LONG_ANSWER = 3500
"""The tokens of an answer that keeps a seat until its engine dies."""
TERM_S = 30.0
"""The term of leases, kvlease's and stock's, unless it is set."""
BACK_WITHIN_S = 240.0
"""The time in which Ray has replaced a replica: it first notices, and then starts an engine."""


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """The example's cluster with the connector that the test names; nothing of it is left behind by its end."""
    with Cluster(request.param, tmp_path) as cluster:
        yield cluster
        assert cluster.end() == []


def ask(cluster: Cluster, prompt: str, tokens: int = 8) -> httpx.Response:
    body = {"model": "model", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return cluster.http.post(f"{cluster.url}/completions", json={**body, "return_token_ids": True})


def token_ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["choices"][0]["token_ids"]
    return found


@contextmanager
def waiting_on_d(cluster: Cluster) -> Iterator[list["Future[httpx.Response]"]]:
    """Keeps D's seats taken, and requests behind them that P has prefilled; they have ended when it is left."""
    with ThreadPoolExecutor(SEATS + WAITING) as clients:
        blockers = [clients.submit(ask, cluster, f"Blocker {seat}. " * 10, LONG_ANSWER) for seat in range(SEATS)]
        cluster.wait_until(lambda: cluster.exported("ray_vllm_num_requests_running", DECODE) == SEATS, "busy")
        waiting = [clients.submit(ask, cluster, prompt) for prompt in PROMPTS]
        cluster.wait_until(lambda: cluster.exported("ray_vllm_num_requests_waiting", DECODE) == WAITING, "waited on")
        yield [*blockers, *waiting]


def crash_decoder(cluster: Cluster) -> float:
    """Kills D's replica with all of its engine; returns when, by time.monotonic."""
    group = cluster.replica(DECODE)
    assert group is not None
    return end_now(group)


@pytest.mark.parametrize("cluster", ["kvlease"], indirect=True)
def test_blocks_held_for_a_killed_decoder_are_free_at_once(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    right = [token_ids(ask(cluster, prompt)) for prompt in PROMPTS]
    assert cluster.count(cluster.d_port, "kvlease:fence_checks_total", verdict="intact") == WAITING
    assert cluster.count(cluster.p_port, "kvlease:lease_ends_total", cause="released") == WAITING
    cluster.wait_until(lambda: cluster.exported("ray_kvlease_fence_checks_total", DECODE) == WAITING, "exported by Ray")

    with waiting_on_d(cluster) as answers:
        assert cluster.held() == WAITING
        killed = crash_decoder(cluster)
        cluster.wait_until(lambda: cluster.held() == 0, "free")
        free_s = time.monotonic() - killed
        assert [answer.result().status_code for answer in answers] == [500] * (SEATS + WAITING)
    with capsys.disabled():
        print(f" P's blocks are free {free_s:.1f} s after D's death", end="")
    assert cluster.count(cluster.p_port, "kvlease:lease_ends_total", cause="orphaned") == WAITING
    assert free_s < TERM_S / 3

    # D comes back as another incarnation, and reads under leases as the first one did.
    cluster.wait_until(lambda: ask(cluster, "Are you back? " * 20).status_code == 200, "replaced", BACK_WITHIN_S)
    assert [token_ids(ask(cluster, prompt)) for prompt in PROMPTS] == right
    assert cluster.count(cluster.d_port, "kvlease:fence_checks_total", verdict="intact") == 1 + WAITING
    assert cluster.held() == 0


@pytest.mark.parametrize("cluster", ["stock"], indirect=True)
def test_stock_holds_them_until_the_term_is_over(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    with waiting_on_d(cluster):
        killed = crash_decoder(cluster)
        expired = "ray_vllm_nixl_num_kv_expired_reqs_total"
        cluster.wait_until(lambda: cluster.exported(expired, PREFILL) == WAITING, "free")
        free_s = time.monotonic() - killed
    with capsys.disabled():
        print(f" P's blocks are free {free_s:.1f} s after D's death", end="")
    assert free_s > TERM_S / 3


def test_the_example_for_gpus_is_what_ray_takes() -> None:
    """R37: Ray's own schema, the fields that its builder needs, and vLLM's for the connector's settings."""
    from ray.llm._internal.serve.serving_patterns.prefill_decode.builder import PDServingArgs
    from ray.serve.schema import ServeDeploySchema
    from vllm.config import KVTransferConfig

    settings = yaml.safe_load((ROOT / "examples/ray/gpu.yaml").read_text())
    [application] = ServeDeploySchema.model_validate(settings).applications
    assert application.import_path == "ray.serve.llm:build_pd_openai_app"
    args = PDServingArgs.model_validate(application.args)
    for config, role in ((args.prefill_config, "kv_producer"), (args.decode_config, "kv_consumer")):
        transfer = KVTransferConfig(**config.engine_kwargs["kv_transfer_config"])
        assert (transfer.kv_connector, transfer.kv_role) == ("NixlConnector", role)
        assert transfer.kv_connector_module_path == "kvlease.vllm"
