"""The whole examination: what was asked for is looked at, and every check that applies is made."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kvlease.admin.settings import TOKEN_VARIABLE
from kvlease.doctor import (
    fleet_checks,
    hand_off_checks,
    machine_checks,
    pair_checks,
    running_checks,
    setup_checks,
    variable_checks,
)
from kvlease.doctor.findings import Finding, Severity, examine
from kvlease.doctor.machine import Machine, look_at_machine
from kvlease.doctor.running import RunningEngine
from kvlease.doctor.running_checks import term_advice
from kvlease.doctor.setups import EngineSetup

HERE = "this machine"
TOGETHER = "all engines together"
KEYS = (TOKEN_VARIABLE, "VLLM_API_KEY")
"""The variables that may have the key for engines' routes; the first that is set is sent."""


@dataclass(frozen=True, slots=True)
class ToExamine:
    """The subjects of an examination."""

    setups: Sequence[EngineSetup] = ()
    urls: Sequence[str] = ()
    """Engines that run."""
    prefill: str | None = None
    """The prefill engine for a trial; `urls` has it, too, as it has the decode engine."""
    decode: str | None = None
    router: str | None = None
    machine: bool = True
    """True: this machine is looked at."""


@dataclass(slots=True)
class Examined:
    """The result."""

    looked_at: dict[str, str] = field(default_factory=dict)
    """Everything that was looked at, with some words about it."""
    findings: list[Finding] = field(default_factory=list)
    advice: dict[str, list[str]] = field(default_factory=dict)
    """Advice on the term, by the prefill engine's URL."""


def examine_all(asked: ToExamine, variables: Mapping[str, str] = os.environ) -> Examined:
    """Examines what was asked for; errors come first."""
    examined = Examined()
    if asked.machine:
        _machine(asked, variables, examined)
    _setups(asked.setups, examined)
    if asked.urls or asked.router:
        asyncio.run(_running(asked, variables, examined))
    examined.findings.sort(key=lambda finding: finding.severity is not Severity.ERROR)
    return examined


def _machine(asked: ToExamine, variables: Mapping[str, str], examined: Examined) -> None:
    machine = look_at_machine(variables, _wanted(asked.setups))
    examined.looked_at[HERE] = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    examined.findings += examine(machine_checks.CHECKS, machine, HERE)
    if not any(_starts_here(setup) for setup in asked.setups):
        examined.findings += _shell(machine)


def _shell(machine: Machine) -> list[Finding]:
    """The faults of the environment itself, whatever is started from it."""
    return examine(variable_checks.CHECKS, EngineSetup(HERE, {"kv_role": "kv_both"}, None, machine.variables), HERE)


def _starts_here(setup: EngineSetup) -> bool:
    """Tells whether it is a command line, which an operator runs on this machine."""
    return setup.pod is None and setup.arguments is not None and setup.framework == "vLLM"


def _wanted(setups: Sequence[EngineSetup]) -> dict[int, str]:
    found: dict[int, str] = {}
    for setup in setups:
        if _starts_here(setup):
            ports = [*setup.side_channel_ports, int(setup.number("port", 8000))]
            found |= {port: setup.name for port in ports if 0 < port < 65536}
    return found


def _setups(setups: Sequence[EngineSetup], examined: Examined) -> None:
    for setup in setups:
        connector = setup.connector.get("kv_connector", "no connector")
        examined.looked_at[setup.name] = f"{connector}, {setup.transfer.get('kv_role', 'no role')}"
        examined.findings += examine(setup_checks.CHECKS, setup, setup.name)
        examined.findings += examine(variable_checks.CHECKS, setup, setup.name)
    if len(setups) > 1:
        examined.findings += examine(pair_checks.CHECKS, setups, "all configurations together")


async def _running(asked: ToExamine, variables: Mapping[str, str], examined: Examined) -> None:
    # Imported late: without engines to ask, nothing but the wheel is needed.
    from kvlease.admin.client import open_http
    from kvlease.doctor.asking import ask_all
    from kvlease.doctor.trial import try_pair, try_router

    key = next((variables[name] for name in KEYS if variables.get(name)), None)
    async with open_http(key) as http:
        engines = await ask_all(http, asked.urls)
        for engine in engines:
            examined.looked_at[engine.url] = _described(engine)
            examined.findings += examine(running_checks.CHECKS, engine, engine.url)
            if (advice := term_advice(engine)) is not None:
                examined.advice[engine.url] = list(advice.sentences())
        examined.findings += examine(fleet_checks.CHECKS, engines, TOGETHER)
        if asked.prefill is not None:
            trial = await try_pair(http, asked.prefill, asked.decode, asked.urls)
            examined.findings += examine(hand_off_checks.CHECKS, trial, asked.prefill)
            behind = f", read by {asked.decode}" if asked.decode else ""
            examined.looked_at["a trial"] = f"prefilled by {asked.prefill}{behind}: {_risen(trial.rose)}"
        if asked.router is not None:
            trial = await try_router(http, asked.router, asked.urls)
            examined.findings += examine(hand_off_checks.CHECKS, trial, asked.router)
            examined.looked_at["a trial by the router"] = f"{asked.router}: {_risen(trial.rose)}"


def _risen(rose: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number:g}" for name, number in rose.items()) or "no count rose"


def _described(engine: RunningEngine) -> str:
    if engine.unreachable is not None:
        return "not reached"
    versions = sorted({f"kvlease {health.version}" for health in engine.health})
    roles = [name for name, is_it in (("prefills", engine.produces), ("decodes", engine.consumes)) if is_it]
    words = [f"vLLM {engine.vllm}" if engine.vllm else "", *versions, " and ".join(roles) or "no leases yet"]
    return ", ".join(word for word in words if word)
