"""A connector whose workers are on another host than their scheduler, as far as that can tell."""

import dataclasses
from typing import Any

from kvlease.vllm.connector import LeasedNixlConnector


class ElsewhereConnector(LeasedNixlConnector):
    """kvlease's connector; its workers tell of no memory that a scheduler could map."""

    def get_handshake_metadata(self) -> Any:
        metadata: Any = super().get_handshake_metadata()
        return dataclasses.replace(metadata, fence_place=None)
