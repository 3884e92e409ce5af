"""The fence, by which a consumer knows without clocks that the blocks it read were still the lease's (protocol.md)."""

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
