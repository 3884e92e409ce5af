"""A pytest plugin: takes those of vLLM's tests that meet a connector, and knows from `cannot.toml` which cannot pass.

A listed test that fails is as expected; one that passes is a failure: its entry is stale.
"""

import gc
import inspect
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import vllm

MINOR = ".".join(vllm.__version__.split(".")[:2])
UNIT = "tests/v1/kv_connector/unit/"
STOCK = "stock"
"""The kind of the tests that vLLM's own connector does not pass here either."""
LEASED = "in_place"
"""The name of the plugin that is loaded when kvlease is tested."""

_KIND = pytest.StashKey[str]()
_found: Counter[str] = Counter()


class Cannot(NamedTuple):
    """The reason why a test cannot pass. `never`: False where it passes by chance, now and then."""

    kind: str
    why: str
    never: bool


def listed(minor: str, *, leased: bool) -> dict[str, Cannot]:
    """The entries of `cannot.toml` by what they name: a test, a test with all its parameters, a class or a file."""
    kinds: dict[str, Any] = tomllib.loads(Path(__file__).with_name("cannot.toml").read_text())["kinds"]
    return {
        test if test.startswith("tests/") else UNIT + test: Cannot(kind, entry["why"], entry.get("never", True))
        for kind, entry in kinds.items()
        if leased or kind == STOCK
        for test in [*entry.get("tests", ()), *entry.get(minor, ())]
    }


def entry_of(test: str, entries: dict[str, Cannot]) -> str | None:
    """The entry that names this test, its class or its file."""
    names = [test, test.partition("[")[0]]
    names += [names[1].rsplit("::", depth)[0] for depth in range(1, names[1].count("::") + 1)]
    return next((name for name in names if name in entries), None)


def meets_a_connector(item: pytest.Item) -> bool:
    """Tells whether a test is about connectors: all tests in the files on connectors, in others those that say NIXL."""
    if item.nodeid.startswith(UNIT):
        return True
    function = getattr(item, "function", None)
    said = item.nodeid + repr(getattr(item, "callspec", "")) + (inspect.getsource(function) if function else "")
    return "nixl" in said.lower()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    others = [item for item in items if not meets_a_connector(item)]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)
    entries = listed(MINOR, leased=config.pluginmanager.has_plugin(LEASED))
    for item in items:
        name = entry_of(item.nodeid, entries)
        if name is not None:
            cannot = entries[name]
            item.stash[_KIND] = cannot.kind
            item.add_marker(pytest.mark.xfail(reason=f"{cannot.kind}: {cannot.why}", strict=cannot.never))


def pytest_collection_finish() -> None:
    """Keeps imported objects out of the collection of garbage after each of vLLM's tests, which would take 0.5 s."""
    gc.collect()
    gc.freeze()
    gc.unfreeze = lambda: None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.skipped and hasattr(report, "wasxfail"):
        _found[item.stash.get(_KIND, "marked by vLLM")] += 1
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    whose = "kvlease" if config.pluginmanager.has_plugin(LEASED) else "stock"
    count = {
        outcome: len(terminalreporter.getreports(outcome))
        for outcome in ("passed", "xpassed", "failed", "error", "skipped")
    }
    terminalreporter.write_line(f"vLLM {vllm.__version__}, {whose}: " + ", ".join(f"{n} {o}" for o, n in count.items()))
    for kind, number in _found.most_common():
        terminalreporter.write_line(f"  cannot pass, as listed: {number:3} {kind}")
