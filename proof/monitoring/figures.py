"""Numbers with their units, as Grafana writes them."""

import math
from collections.abc import Sequence

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_TIMES = ((60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_MANY = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def spoken(value: float, unit: str) -> str:
    """Returns a value with its unit, in three digits."""
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "too few to say"
    match unit:
        case "bytes":
            return _binary(value)
        case "Bps":
            return f"{_binary(value)}/s"
        case "s":
            return _time(value)
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "ops":
            return f"{_short(value)}/s"
    return _short(value)


def _binary(value: float) -> str:
    power = min(int(math.log(abs(value), 1024)), len(_BYTES) - 1) if abs(value) >= 1 else 0
    return f"{value / 1024**power:.4g} {_BYTES[power]}"


def _time(value: float) -> str:
    for size, name in _scales(_TIMES, value):
        return f"{value / size:.3g} {name}"
    return "0 s"


def _short(value: float) -> str:
    for size, name in _scales(_MANY, value):
        return f"{value / size:.3g} {name}"
    return f"{value:.3g}"


def _scales(scales: Sequence[tuple[float, str]], value: float) -> list[tuple[float, str]]:
    return [(size, name) for size, name in scales if abs(value) >= size]
