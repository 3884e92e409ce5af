"""Control over vLLM's notices: reads that send none, and a filter for those that arrive."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Noticeless:
    """A NIXL agent that sends no notices, with reads or alone. All other calls are passed on."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def make_prepped_xfer(self, *args: Any, notif_msg: bytes = b"", **kwargs: Any) -> Any:
        del notif_msg
        return self._agent.make_prepped_xfer(*args, **kwargs)

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        """Drops the notice: a leased request's producer is told by the lease agent when all is read."""


@contextmanager
def without_notices(worker: Any) -> Iterator[None]:
    """A context in which the reads of `worker` (a NIXL worker of vLLM) are not announced to the producer.

    The stock worker attaches a notice of completion to the read. The producer would free the blocks before the fence is
    read, so a good read would fail; with siblings, it would free the blocks while the others read.
    """
    agent = worker.nixl_wrapper
    worker.nixl_wrapper = _Noticeless(agent)
    try:
        yield
    finally:
        worker.nixl_wrapper = agent


def take_notices(agent: Any) -> tuple[dict[Any, list[bytes]], int]:
    """Takes the notices that NIXL agent `agent` got; returns those that vLLM understands, and the number of others.

    Anybody on the network can send anything. When nothing was sent, this costs one call to NIXL.
    """
    try:
        heard: dict[Any, list[bytes]] = agent.get_new_notifs()
    except UnicodeDecodeError:
        # A sender's name is not UTF-8: NIXL's binding then loses all that has come.
        return {}, 1
    if not heard:
        return heard, 0
    readable = {name: [notice for notice in notices if is_notice(notice)] for name, notices in heard.items()}
    return readable, sum(map(len, heard.values())) - sum(map(len, readable.values()))


_NOTICE = re.compile(r"HB:.*|.*:[0-9]{1,9}", re.DOTALL)


def is_notice(notice: bytes) -> bool:
    """Tells whether a notice is vLLM's: `HB:` and request ids, or a request id and the number of its readers."""
    try:
        return _NOTICE.fullmatch(notice.decode("utf-8")) is not None
    except UnicodeDecodeError:
        return False


class _Heard:
    """A NIXL agent that returns the given notices. All other calls are passed on."""

    def __init__(self, agent: Any, notices: dict[Any, list[bytes]]) -> None:
        self._agent = agent
        self._notices = notices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def get_new_notifs(self) -> dict[Any, list[bytes]]:
        return self._notices


@contextmanager
def arrived(worker: Any, notices: dict[Any, list[bytes]]) -> Iterator[None]:
    """A context in which `worker` (a NIXL worker of vLLM) gets these notices."""
    agent = worker.nixl_wrapper
    worker.nixl_wrapper = _Heard(agent, notices)
    try:
        yield
    finally:
        worker.nixl_wrapper = agent
