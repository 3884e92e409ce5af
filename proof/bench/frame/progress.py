"""The lines by which a benchmark's process tells how far it is to the process that shows it."""

MARK = "\x1e"
"""The character that begins a line of progress on standard output; vLLM and NIXL write the other lines."""


def say(text: str) -> None:
    """Writes a line about what is going on: "renewal: 10,000 leases". Not to be called within a measurement."""
    print(f"{MARK}{text}", flush=True)


def said(line: str) -> str | None:
    """Returns the text of a line of a benchmark's standard output; None for a line that is not from `say`."""
    return line.removeprefix(MARK).rstrip("\n") if line.startswith(MARK) else None
