"""The command line: its commands, and what each of them calls."""

import argparse
from collections.abc import Sequence

from kvlease import __version__
from kvlease.cli.chaos import add_chaos
from kvlease.cli.demo import add_demo
from kvlease.cli.explore import add_explore
from kvlease.cli.fleet import add_fleet
from kvlease.cli.sim import add_sim
from kvlease.console.exits import Exit

_DESCRIPTION = """\
Leases that hold: the lifetime of KV cache blocks between vLLM's prefill and decode engines.

The connector itself needs no command: give vLLM
  --kv-transfer-config '{"kv_connector": "LeasedNixlConnector", "kv_connector_module_path": "kvlease.vllm",
                         "kv_role": "kv_producer"}'
and the same with kv_consumer to the decode engine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the process's exit status (argparse exits by itself, with 2, on bad arguments)."""
    parser = argparse.ArgumentParser(
        prog="kvlease", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"kvlease {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    add_demo(commands)
    add_sim(commands)
    add_explore(commands)
    add_fleet(commands)
    add_chaos(commands)
    chosen = parser.parse_args(arguments)
    if not hasattr(chosen, "run"):
        parser.print_help()
        return Exit.OK
    return int(chosen.run(chosen))
