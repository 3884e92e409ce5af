"""Settings of a router for tests."""

from typing import Any

from kvlease.router.settings import RouterSettings


def settings_of(**chosen: Any) -> RouterSettings:
    """Settings that are good, but for what is chosen."""
    return RouterSettings(**({"prefill": ("http://p0:8000",), "decode": ("http://d0:8000",)} | chosen))
