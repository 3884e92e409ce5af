"""The `kvlease` command."""

from kvlease.cli.main import main

__all__ = ["main"]
