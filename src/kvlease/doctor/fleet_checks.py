"""The checks on running engines together."""

from collections.abc import Iterator, Sequence

from kvlease.doctor.findings import Check, Symptom, error, warning
from kvlease.doctor.running import RunningEngine

RunningEngines = Sequence[RunningEngine]


@error(
    "vllm-versions-differ",
    "Engines with different versions of vLLM",
    "vLLM's handshake compares them, and decode engines refuse to read from another one's.",
)
def vllm_versions_differ(engines: RunningEngines) -> Iterator[Symptom]:
    found = {engine.url: engine.vllm for engine in engines if engine.vllm is not None}
    if len(set(found.values())) > 1:
        yield Symptom(_said(found, "vLLM"), "run the same vLLM on all engines that talk to each other")


@warning(
    "versions-differ",
    "Engines with different versions of kvlease",
    "Where these speak different versions of the protocol, prompts are computed twice while it lasts.",
)
def versions_differ(engines: RunningEngines) -> Iterator[Symptom]:
    found = {engine.url: health.version for engine in engines for health in engine.health}
    if len(set(found.values())) > 1:
        yield Symptom(_said(found, "kvlease"), "bring all engines to the same kvlease (docs/operate/upgrade.md)")


@warning(
    "settings-differ",
    "Prefill engines with different settings",
    "Leases of one fleet live for different times, by the engine that happened to prefill; nobody expects that.",
)
def settings_differ(engines: RunningEngines) -> Iterator[Symptom]:
    producers = [(engine.url, health.settings) for engine in engines if engine.produces for health in engine.health]
    for name in ("duration_s", "extension_s", "renew_interval_s", "orphan_grace_s", "max_age_s"):
        found = {url: f"{getattr(settings, name):g}" for url, settings in producers}
        if len(set(found.values())) > 1:
            key = f"kv_lease_{name.removesuffix('_s')}"
            yield Symptom(_said(found, key), f"write the same {key} on all prefill engines")


def _said(found: dict[str, str], what: str) -> str:
    return ", ".join(f"{what} {value} ({url})" for url, value in found.items())


CHECKS: tuple[Check[RunningEngines], ...] = (vllm_versions_differ, versions_differ, settings_differ)
