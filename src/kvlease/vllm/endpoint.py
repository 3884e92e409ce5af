"""The routes under /v1/kvlease in vLLM's own API server: the entry point `vllm.endpoint_plugins` named `kvlease`.

vLLM loads it only where `VLLM_PLUGINS` names it. Its `--api-key` guards all paths under /v1, so these as well.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvlease.admin.core import Refused
from kvlease.admin.engines import Engines
from kvlease.admin.routes import AdminRoutes
from kvlease.vllm.plugin import RPC

if TYPE_CHECKING:
    from argparse import Namespace

    from fastapi import FastAPI
    from starlette.datastructures import State
    from vllm.engine.protocol import EngineClient

ANSWER_S = 60.0
"""The longest time for which an engine's answer is waited: it takes questions between two steps, which may be long."""
_ENDS = "Server shutting down"
"""The answer of an engine core of vLLM to utility calls once it has been told to end."""


class KvleaseEndpoint:
    """vLLM's `EndpointPlugin`, which adds the routes."""

    name = "kvlease"
    required_tasks = None

    def __init__(self) -> None:
        self._client: Any = None

    def attach_router(self, app: "FastAPI") -> None:
        """Adds the routes to the API server's."""
        app.router.routes.extend(AdminRoutes(Engines(self._ask)).routes())

    async def init_state(self, engine_client: "EngineClient | None", state: "State", args: "Namespace") -> None:
        """Takes the client of the engines behind this server; None for a server without any."""
        del state, args
        self._client = engine_client

    async def _ask(self, question: bytes) -> Sequence[bytes]:
        core = getattr(self._client, "engine_core", None)
        if core is None:
            raise Refused(503, "there is no engine behind this server")
        try:
            return await asyncio.wait_for(call_all(core, RPC, question), ANSWER_S)
        except TimeoutError:
            raise Refused(
                503, f"the engine has not answered within {ANSWER_S:g} s: it is in a long step, or hangs"
            ) from None
        except Exception as e:
            raise _unavailable(e) from e


async def call_all(core: Any, method: str, *args: Any) -> list[Any]:
    """Returns the answer of every engine core behind a client of vLLM's to a utility call.

    `call_utility_async` answers for the first one alone. vLLM has a public way to ask all of them since 0.32.
    """
    if (ask_all := getattr(core, "call_utility_all_async", None)) is not None:
        answers: list[Any] = await ask_all(method, *args)
        return answers
    asked = [core._call_utility_async(method, *args, engine=engine) for engine in core.core_engines]
    return list(await asyncio.gather(*asked))


def _unavailable(error: Exception) -> Refused:
    text = str(error)
    if _ENDS in text:
        return Refused(
            503,
            "the engine shuts down, and vLLM answers nothing about it any more. The agent's own listener does "
            "(kv_lease_listen), until the last lease is read",
        )
    if f"'{RPC}'" in text:
        return Refused(503, "this engine does not run kvlease's connector: see --kv-transfer-config")
    return Refused(503, f"the engine has not answered: {type(error).__name__}: {text[:200]}")
