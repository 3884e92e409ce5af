"""The command `kvlease`: what an operator runs."""

from collections.abc import Sequence

from kvlease.cli.doctor import add_doctor
from kvlease.cli.explain import add_explain
from kvlease.cli.fleet import add_fleet
from kvlease.cli.router import add_router
from kvlease.cli.top import add_top
from kvlease.console.commands import run_program

_DESCRIPTION = """\
Leases that hold: the lifetime of KV cache blocks between vLLM's prefill and decode engines.

The connector itself needs no command: give vLLM
  --kv-transfer-config '{"kv_connector": "LeasedNixlConnector", "kv_connector_module_path": "kvlease.vllm",
                         "kv_role": "kv_producer"}'
and the same with kv_consumer to the decode engine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the process's exit status."""
    return run_program("kvlease", _DESCRIPTION, [add_doctor, add_top, add_explain, add_router, add_fleet], arguments)
