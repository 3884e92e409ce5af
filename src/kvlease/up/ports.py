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


def free_port(host: str, count: int = 1) -> int:
    """A port that nobody listens on now, and that this process has not handed out lately.

    `count` of them in a row where there is to be more than one; the first is returned. Raises OSError when there are no
    such ports in the range.
    """
    with _lock:
        run = 0
        for port in itertools.islice(_candidates, _LAST - _FIRST):
            # A new row where the range begins again.
            run = run + 1 if is_free(host, port) and port > _FIRST else 0
            if run == count:
                return port - count + 1
    raise OSError(f"no {count} free TCP ports in a row between {_FIRST} and {_LAST} on {host}")


def is_free(host: str, port: int) -> bool:
    """Tells whether nobody listens at a port of this address, and somebody could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
