"""Reads without vLLM's completion notice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Noticeless:
    """A NIXL agent that sends nothing: reads carry no notice, standalone notices are dropped. All else is passed on."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def make_prepped_xfer(self, *args: Any, notif_msg: bytes = b"", **kwargs: Any) -> Any:
        del notif_msg
        return self._agent.make_prepped_xfer(*args, **kwargs)

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        """Dropped: a leased request's producer hears from the lease agent when all is read."""


@contextmanager
def without_notices(worker: Any) -> Iterator[None]:
    """While it lasts, what `worker` (a NIXL worker of vLLM) reads is not announced to the producer.

    Stock attaches "I have read it" to the data. The producer would free the blocks while the fence is still to be
    read, and a good read would fail; with siblings, it would free them under the others.
    """
    agent = worker.nixl_wrapper
    worker.nixl_wrapper = _Noticeless(agent)
    try:
        yield
    finally:
        worker.nixl_wrapper = agent
