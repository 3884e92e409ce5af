"""Numbers written for people, in tables and sentences."""


def count(number: float) -> str:
    """Returns a number of things: "12,345"."""
    return f"{number:,.0f}"


def figure(value: float) -> str:
    """Returns a measured value with three significant digits: "0.0123", "3.14", "31.4", "314", "3,140,000"."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return count(value)
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.2e}"


def rate(per_second: float) -> str:
    """Returns a number of things a second: "3.14/s", "1,234/s"."""
    return f"{count(per_second)}/s" if per_second >= 100 else f"{per_second:.3g}/s"


def percent(share: float) -> str:
    """Returns a share, a part of 1, as percent: "0.12 %", "12.3 %", "99.98 %", "100 %"."""
    value = 100.0 * share
    if value < 10.0:
        return f"{value:.2g} %"
    return "100 %" if value >= 99.995 else f"{value:.4g} %" if value > 99.0 else f"{value:.3g} %"


def fraction(ratio: float) -> str:
    """Returns a ratio far below 1: "1/540"."""
    return f"1/{figure(1 / ratio)}" if ratio > 0 else "0"


def seconds(value: float) -> str:
    """Returns a duration in seconds: "31 ms", "1.42 s", "95 s", "1,234 s"."""
    if value < 0.1:
        return f"{1000 * value:.2g} ms" if value else "0 s"
    return f"{value:.3g} s" if value < 1000 else f"{count(value)} s"


def size(value: float) -> str:
    """Returns a number of bytes: "83 B", "2.05 kB", "3.1 GB"."""
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"
