"""Has an engine grant no more leases, and waits until those that are out are read: `python -m kvlease.up.drain URL S`.

It is what a supervisor calls before it ends a prefill engine. It needs no package, and ends with 0 as well for an
engine that is gone: there is nothing to wait for.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

from kvlease.admin.settings import TOKEN_VARIABLE

ROUTE = "/v1/kvlease/drain"
MARGIN_S = 10.0
"""The time for the answer itself."""


class Drained(NamedTuple):
    """The end of a drain."""

    left: int | None
    """The leases that are still out; None: nobody answered."""
    said: str


def drain(url: str, wait_s: float, token: str | None = None) -> Drained:
    """Has the engine behind this URL grant no more leases, and waits at most so long for those that are out."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = f"{url.rstrip('/')}{ROUTE}?{urllib.parse.urlencode({'wait': f'{wait_s:g}'})}"
    request = urllib.request.Request(asked, method="POST", headers=headers)
    # No proxy stands between an engine and its own supervisor.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=wait_s + MARGIN_S) as response:
            left = int(json.load(response)["left"])
    except (OSError, ValueError, KeyError) as error:
        return Drained(None, f"{url} was not drained: {error}")
    return Drained(left, f"{url} has {left} leases out" if left else f"{url} has no lease out")


def main(arguments: list[str]) -> int:
    """Drains the engine at the first argument's URL for the second one's seconds; returns 1 if leases are left."""
    import os

    url, wait_s = arguments
    found = drain(url, float(wait_s), os.environ.get(TOKEN_VARIABLE))
    print(found.said)
    return 1 if found.left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
