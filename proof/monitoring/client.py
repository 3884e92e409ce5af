"""Questions to a Prometheus, by its HTTP API."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from proof.monitoring.programs import NoPrometheus

_TIMEOUT_S = 30.0
_POLL_S = 0.1


@dataclass(frozen=True)
class TimeSeries:
    """A series of an answer: its labels, and its values over time, in seconds of the Unix clock."""

    labels: Mapping[str, str] = field(hash=False)
    points: tuple[tuple[float, float], ...]


class PrometheusClient:
    """A Prometheus somewhere, by its URL. Every question raises NoPrometheus where it does not answer, or refuses."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def is_ready(self) -> bool:
        """Tells whether it answers questions already."""
        try:
            return self._http.get("/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def ask(self, expression: str) -> list[TimeSeries]:
        """Returns the values of now."""
        found = self._get("query", query=expression)
        if found["resultType"] == "scalar":
            return [TimeSeries({}, (_point(found["result"]),))]
        return [TimeSeries(series["metric"], (_point(series["value"]),)) for series in found["result"]]

    def ask_over(self, expression: str, start: float, end: float, step_s: float) -> list[TimeSeries]:
        """Returns the values from `start` to `end`, in seconds of the Unix clock, one each step."""
        found = self._get("query_range", query=expression, start=start, end=end, step=step_s)
        return [TimeSeries(series["metric"], tuple(map(_point, series["values"]))) for series in found["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """Returns its rules with their health, as the API has them."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Returns what it scrapes, as the API has it."""
        targets: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return targets

    def wait_up(self, count: int, timeout_s: float = 30.0) -> None:
        """Waits until it has scraped so many targets. Raises NoPrometheus where it does not within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while sum(target["health"] == "up" for target in self.targets()) < count:
            if time.monotonic() > deadline:
                raise NoPrometheus(f"not all targets are up: {[target['lastError'] for target in self.targets()]}")
            time.sleep(_POLL_S)

    def _get(self, what: str, **asked: Any) -> Any:
        try:
            response = self._http.get(f"/api/v1/{what}", params=asked)
            answer = response.json()
        except (httpx.TransportError, ValueError) as error:
            raise NoPrometheus(f"no Prometheus answers at {self.url} ({error!r}): give the URL of one") from error
        if answer.get("status") != "success":
            raise NoPrometheus(f"Prometheus refuses {asked.get('query', what)}: {answer.get('error')}")
        return answer["data"]


def _point(pair: Any) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
