"""All that is vLLM's is in `kvlease/vllm`, and NIXL's own where it is called: another engine inherits neither."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "kvlease"
ROOMS = ("protocol", "fence", "agent", "engine")
AN_EXAMPLE = re.compile(r"\(vllm \d+(, \d+)*\)|, as vLLM does\b")
"""Mentions of vLLM that are allowed: a thread that a rule comes from, and the example of what one engine does."""

WORDS = {
    "vllm": re.compile("vllm", re.IGNORECASE),
    "its params": re.compile(r"kv_transfer|kv_connector|\b(do_)?remote_|compatibility_hash|extra_config"),
    "nixl": re.compile("nixl", re.IGNORECASE),
}
AT_HOME = {"nixl": ("agent/nixl.py", "fence/"), "its params": ("agent/nixl.py",), "vllm": ()}
"""The files that may say each word. NIXL's own names begin with `remote_`, too."""
ALLOWED = {
    ("agent/transport.py", "Implementations: `kvlease.agent.nixl.NixlTransport` (NIXL notifications)"),
    ("agent/transport.py", "opaque (for NIXL: the agent's metadata, some 450 B)"),
    ("fence/words.py", "local_descs: Any, remote_descs: Any, remote_agent: str"),
}
"""The exceptions: a file and a part of the line that says such a word. They may only become fewer."""


def lines() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for line in path.read_text().splitlines():
                yield str(path.relative_to(ROOT)), AN_EXAMPLE.sub("", line)


@pytest.mark.parametrize("what", WORDS)
def test_what_is_one_engines_is_not_in_the_rooms_of_all(what: str) -> None:
    found = [
        (name, line.strip())
        for name, line in lines()
        if WORDS[what].search(line) and not name.startswith(AT_HOME[what])
    ]
    assert [(name, line) for name, line in found if not any(n == name and t in line for n, t in ALLOWED)] == []


def test_what_is_allowed_is_still_there() -> None:
    everything = list(lines())
    assert [entry for entry in ALLOWED if not any(n == entry[0] and entry[1] in line for n, line in everything)] == []


PURE = ("protocol", "routing")
IMPURE = {
    "asyncio",
    "concurrent",
    "os",
    "pathlib",
    "queue",
    "select",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
}


def test_what_is_pure_has_no_io_no_clock_and_no_thread() -> None:
    """S1 and all others are proved by running this code in worlds where time and chance are given."""
    needed = {
        (str(path.relative_to(ROOT)), module.partition(".")[0])
        for room in PURE
        for path in (ROOT / room).rglob("*.py")
        for module in re.findall(r"^\s*(?:import|from) ([\w.]+)", path.read_text(), re.MULTILINE)
    }
    assert {room for room in PURE if any(name.startswith(room) for name, _ in needed)} == set(PURE)
    assert [(name, module) for name, module in sorted(needed) if module in IMPURE] == []
