"""Free TCP ports for engines that are about to start."""

import itertools
import os
import socket
import threading

# Below the range from which Linux draws ports for outgoing connections, so that none of those takes ours meanwhile.
_FIRST, _LAST = 20_000, 32_000

_lock = threading.Lock()
_candidates = itertools.cycle(range(_FIRST, _LAST))
# Two test runs on one machine begin their search in different places.
for _ in range(os.getpid() * 37 % (_LAST - _FIRST)):
    next(_candidates)


def free_port(host: str) -> int:
    """A port that nobody listens on now, and that this process has not handed out lately.

    Raises OSError when every port of the range is taken.
    """
    with _lock:
        for port in itertools.islice(_candidates, _LAST - _FIRST):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError:
                    continue
                return port
    raise OSError(f"no free TCP port between {_FIRST} and {_LAST} on {host}")
