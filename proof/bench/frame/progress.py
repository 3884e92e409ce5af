"""How a benchmark tells how far it is, from its own process to whoever shows it."""

MARK = "\x1e"
"""Begins a line of standard output that is a line of progress; vLLM and NIXL write the others."""


def say(text: str) -> None:
    """One line about what is going on: "renewal: 10,000 leases". Cheap, but nothing for the inside of a measurement."""
    print(f"{MARK}{text}", flush=True)


def said(line: str) -> str | None:
    """What a line of a benchmark's standard output says; None for a line that is not from `say`."""
    return line.removeprefix(MARK).rstrip("\n") if line.startswith(MARK) else None
