"""All checks, by what they look at."""

from collections.abc import Mapping, Sequence
from typing import Any

from kvlease.doctor import (
    fleet_checks,
    hand_off_checks,
    machine_checks,
    pair_checks,
    running_checks,
    setup_checks,
    variable_checks,
)
from kvlease.doctor.findings import Check

TABLE: Mapping[str, Sequence[Check[Any]]] = {
    "this machine": machine_checks.CHECKS,
    "a configuration": (*setup_checks.CHECKS, *variable_checks.CHECKS),
    "configurations together": pair_checks.CHECKS,
    "a running engine": running_checks.CHECKS,
    "running engines together": fleet_checks.CHECKS,
    "a trial request": hand_off_checks.CHECKS,
}
