"""The changes of `src/kvlease/up/serve.py` to vLLM that no running engine shows."""

import os

import pytest

from kvlease.up import serve

pytestmark = pytest.mark.engine


def test_processes_that_wait_for_each_other_do_not_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's own flag stops the yielding (decision 0010): a vLLM without it would go on yielding, and say nothing."""
    from vllm.distributed import utils
    from vllm.distributed.device_communicators import shm_broadcast

    yields: list[None] = []
    monkeypatch.setattr(os, "sched_yield", lambda: yields.append(None))
    monkeypatch.setattr(utils, "USE_SCHED_YIELD", True)
    shm_broadcast.sched_yield()
    assert len(yields) == 1

    serve.sleep_instead_of_yielding()
    shm_broadcast.sched_yield()
    assert len(yields) == 1
