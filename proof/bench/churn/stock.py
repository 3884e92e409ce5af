"""The same churn in vLLM's own books: its scheduler's and its worker's code, called as its engine calls it.

There is no network: notices are handed over, and heartbeats, one every 5 s for all requests, are left out in stock's
favour.
"""

import time
from collections import deque
from types import SimpleNamespace
from typing import Any

from proof.bench.churn.books import BATCH
from proof.bench.core.stock import LEASE_S, SilentNixl, bare_scheduler, bare_worker, hearer, held, request_ids

HELD_STEPS = 10
"""The steps of the engine for which a request waits and is read: 0.1 s, as in kvlease's books."""


class StockBooks:
    """The books of both engines."""

    def __init__(self) -> None:
        self._nixl = SilentNixl()
        self.producer = bare_worker(self._nixl)
        self._consumer = bare_scheduler()

    def spend(self, leases: int) -> float:
        """Returns the processor seconds that so many requests take."""
        from vllm.distributed.kv_transfer.kv_connector.v1.nixl.metadata import NixlConnectorMetadata

        hear = hearer(self.producer)
        spent_s = 0.0
        waiting: deque[list[str]] = deque()
        for number in range(leases // BATCH + HELD_STEPS):
            finished = request_ids(BATCH if number < leases // BATCH else 0)
            waiting.append(finished)
            read = waiting.popleft() if number >= HELD_STEPS else []
            begun = time.perf_counter()
            metadata = NixlConnectorMetadata()
            metadata.reqs_in_batch = set(finished)
            metadata.reqs_to_send = dict.fromkeys(finished, begun + LEASE_S)
            requests = [_request(request_id) for request_id in finished]
            output = SimpleNamespace(finished_recving=set(read))
            self._nixl.arrived = {"consumer": [f"{request_id}:1".encode() for request_id in read]}
            start = time.thread_time()
            self.producer.start_load_kv(metadata)
            for request in requests:
                self._consumer.on_new_request(request)
            sent = hear()
            self._consumer.update_connector_output(output)
            spent_s += time.thread_time() - start
            assert sent == set(read), f"of {len(read)} requests that were read, stock let {len(sent)} go"
        assert not held(self.producer), "stock holds requests that were read"
        return spent_s


def _request(request_id: str) -> Any:
    return SimpleNamespace(
        request_id=request_id,
        kv_transfer_params={
            "do_remote_prefill": True,
            "remote_engine_id": "producer",
            "remote_request_id": request_id,
            "remote_host": "producer.example",
            "remote_port": 5600,
            "tp_size": 1,
        },
    )
