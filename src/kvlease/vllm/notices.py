"""vLLM's notices: reads without one, and only such as its worker can read."""

import re
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


def take_notices(agent: Any) -> tuple[dict[Any, list[bytes]], int]:
    """What NIXL agent `agent` has heard and vLLM's worker can read, by sender, and how many notices were refused.

    Anybody on the network can send it anything. One call to NIXL and nothing else when nobody sent anything.
    """
    try:
        heard: dict[Any, list[bytes]] = agent.get_new_notifs()
    except UnicodeDecodeError:
        # An agent's name that is no text: NIXL's binding gives nothing of what has come.
        return {}, 1
    if not heard:
        return heard, 0
    readable = {name: [notice for notice in notices if is_notice(notice)] for name, notices in heard.items()}
    return readable, sum(map(len, heard.values())) - sum(map(len, readable.values()))


_NOTICE = re.compile(r"HB:.*|.*:[0-9]{1,9}", re.DOTALL)


def is_notice(notice: bytes) -> bool:
    """Whether it is one of vLLM's: `HB:` and request ids, or a request id and the number of its readers."""
    try:
        return _NOTICE.fullmatch(notice.decode("utf-8")) is not None
    except UnicodeDecodeError:
        return False


class _Heard:
    """A NIXL agent that has heard these notices. All else is passed on."""

    def __init__(self, agent: Any, notices: dict[Any, list[bytes]]) -> None:
        self._agent = agent
        self._notices = notices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def get_new_notifs(self) -> dict[Any, list[bytes]]:
        return self._notices


@contextmanager
def arrived(worker: Any, notices: dict[Any, list[bytes]]) -> Iterator[None]:
    """While it lasts, these are what `worker` (a NIXL worker of vLLM) hears."""
    agent = worker.nixl_wrapper
    worker.nixl_wrapper = _Heard(agent, notices)
    try:
        yield
    finally:
        worker.nixl_wrapper = agent
