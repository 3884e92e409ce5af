"""The checks on several configurations together: engines of one fleet."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from kvlease.doctor.findings import Check, Symptom, error, warning
from kvlease.doctor.setups import PORT_VARIABLE, EngineSetup
from kvlease.errors import ConfigError
from kvlease.protocol.config import COMPARE_MEDIA, PREFIX, STALL_LIMIT
from kvlease.vllm.settings import settings_of

Setups = Sequence[EngineSetup]
_ALIKE = ("block-size", "kv-cache-dtype", "dtype")
OF_CONSUMERS = (STALL_LIMIT, COMPARE_MEDIA)
"""The settings that are decode engines' own; all others are prefill engines'."""


@error(
    "ports-meet",
    "Two engines of one machine with side channels on the same port",
    "Each data-parallel rank takes a port, from the first on; the second engine does not start, or is taken for it.",
)
def ports_meet(setups: Setups) -> Iterator[Symptom]:
    for one, other in combinations(setups, 2):
        shared = set(one.side_channel_ports) & set(other.side_channel_ports)
        known = one.arguments is not None and other.arguments is not None
        if shared and known and one.network == other.network:
            free = max(one.side_channel_ports[-1], other.side_channel_ports[-1]) + 1
            yield Symptom(
                f"{PORT_VARIABLE} {min(shared)} of {one.name} and of {other.name}",
                f"set {PORT_VARIABLE}={free} for {other.name}",
            )


@warning(
    "one-side-stock",
    "Prefill and decode engines of which one kind runs kvlease and the other does not",
    "Between them stock's mechanism runs, with stock's guarantees: reads are fenced when both sides run kvlease.",
)
def one_side_stock(setups: Setups) -> Iterator[Symptom]:
    producers = {setup.leased for setup in setups if setup.produces}
    consumers = {setup.leased for setup in setups if setup.consumes}
    if producers and consumers and not (producers == consumers == {True}) and True in producers | consumers:
        stock = ", ".join(setup.name for setup in setups if not setup.leased)
        yield Symptom(
            f"not kvlease's connector: {stock}",
            'write "kv_connector": "LeasedNixlConnector", "kv_connector_module_path": "kvlease.vllm" there as well',
        )


@error(
    "engines-differ",
    "Prefill and decode engines with different block sizes or types of the KV cache",
    "vLLM's handshake, or kvlease, refuses the hand-off, so that every prompt is computed twice.",
)
def engines_differ(setups: Setups) -> Iterator[Symptom]:
    for name in _ALIKE:
        values = {s.name: s.arguments[name] for s in setups if s.arguments is not None and name in s.arguments}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{value} ({place})" for place, value in values.items())
            yield Symptom(f"--{name} {said}", f"give all the same --{name}")


@warning(
    "setting-without-effect",
    "Settings on an engine whose role does not use them",
    "Decode engines are told prefill engines' values; the stall limit and the comparison of images are their own.",
)
def setting_without_effect(setups: Setups) -> Iterator[Symptom]:
    for setup in setups:
        if not setup.leased or (setup.produces and setup.consumes):
            continue
        for key in setup.extra:
            if not key.startswith(PREFIX) or key.startswith(("kv_lease_events", "kv_lease_listen")):
                continue
            if setup.consumes and key not in OF_CONSUMERS:
                change = f"write {key} on prefill engines, and leave it out here"
                yield Symptom(f"{key} {setup.extra[key]!r} on a decode engine", change, setup.name)
            elif setup.produces and key in OF_CONSUMERS:
                change = f"write {key} on decode engines, and leave it out here"
                yield Symptom(f"{key} {setup.extra[key]!r} on a prefill engine", change, setup.name)


@warning(
    "stall-limit",
    "A decode engine's kv_lease_stall_limit that is shorter than a prefill engine's kv_lease_extension",
    "In a long step the decode engine stops renewing sooner than the lease would end by itself.",
)
def stall_limit(setups: Setups) -> Iterator[Symptom]:
    try:
        resolved = [(setup, settings_of(setup.extra, setup.variables)[0]) for setup in setups if setup.leased]
    except ConfigError:
        return
    reaches = [config.extension_s for setup, config in resolved if setup.produces]
    for setup, config in resolved:
        if setup.consumes and reaches and config.stall_limit_s < max(reaches):
            yield Symptom(
                f"kv_lease_stall_limit {config.stall_limit_s:g}; a prefill engine's extension is {max(reaches):g}",
                "leave kv_lease_stall_limit out; or make it longer than the longest step of the engine",
                setup.name,
            )


CHECKS: tuple[Check[Setups], ...] = (ports_meet, one_side_stock, engines_differ, setting_without_effect, stall_limit)
