"""The fence: how a consumer knows, without clocks, that what it read was still the lease's own (protocol.md)."""

from kvlease.fence.table import FenceAddress, FenceTable
from kvlease.fence.verifier import CAPACITY, AgentErrors, FenceVerifier, FenceWord, Verdict
from kvlease.fence.words import DataAgent, RegisteredWords, Words

__all__ = [
    "AgentErrors",
    "CAPACITY",
    "DataAgent",
    "FenceAddress",
    "FenceTable",
    "FenceVerifier",
    "FenceWord",
    "RegisteredWords",
    "Verdict",
    "Words",
]
