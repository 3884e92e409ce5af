"""The reason why a benchmark gives no figures."""

from importlib.util import find_spec


class CannotRun(Exception):
    """This machine, or this installation, lacks what a benchmark needs. The message says what, and what to do."""


def require(*packages: str) -> None:
    """Raises `CannotRun` where one of these is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise CannotRun(f"this benchmark needs {', '.join(missing)}, not installed here: `make bench` installs it")
