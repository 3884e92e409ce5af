"""The fence, by which a consumer knows without clocks that what it read was the lease's (docs/protocol/fence.md)."""

from kvlease.fence.shared import MappedWords, NotShared, SharedMemory, SharedPlace
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
    "MappedWords",
    "NotShared",
    "RegisteredWords",
    "SharedMemory",
    "SharedPlace",
    "Verdict",
    "Words",
]
