"""The routes in vLLM's API server: every engine core is asked, and what vLLM refuses is told in words."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from kvlease.vllm.endpoint import KvleaseEndpoint
from kvlease.vllm.plugin import RPC
from tests.admin.doors import PromptCore
from tests.admin.engines import Pair


class Cores:
    """A client of vLLM's with two engine cores: as since 0.32, or as before it."""

    def __init__(self) -> None:
        pairs = Pair(), Pair()
        self.core_engines = [PromptCore(pair, pair.p, rank) for rank, pair in enumerate(pairs)]
        self.error: Exception | None = None

    async def _call_utility_async(self, method: str, *args: Any, engine: PromptCore) -> bytes:
        assert method == RPC
        if self.error is not None:
            raise self.error
        return engine.answer(*args).result(0)


class NewerCores(Cores):
    async def call_utility_all_async(self, method: str, *args: Any) -> list[bytes]:
        return [await self._call_utility_async(method, *args, engine=engine) for engine in self.core_engines]


def ask(client: Any, path: str = "/health", method: str = "GET") -> tuple[int, Any]:
    async def scene() -> tuple[int, Any]:
        plugin, app = KvleaseEndpoint(), Starlette()
        plugin.attach_router(app)
        await plugin.init_state(client, None, None)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://p") as http:
            response = await http.request(method, f"/v1/kvlease{path}")
        return response.status_code, response.json()

    return asyncio.run(scene())


@pytest.mark.parametrize("cores", [Cores, NewerCores])
def test_every_engine_core_is_asked(cores: type[Cores]) -> None:
    status, body = ask(SimpleNamespace(engine_core=cores()))
    assert (status, [engine["rank"] for engine in body["engines"]]) == (200, [0, 1])
    assert ask(SimpleNamespace(engine_core=cores()), "/drain", "POST") == (200, {"draining": True, "left": 0})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Exception("Server shutting down"), "the agent's own listener does (kv_lease_listen)"),
        (
            Exception(f"Call to {RPC} method failed: 'EngineCoreProc' object has no attribute '{RPC}'"),
            "does not run kvlease's connector",
        ),
        (RuntimeError("EngineCore encountered an issue"), "has not answered: RuntimeError"),
        (TimeoutError(), "has not answered within 60 s"),
    ],
)
def test_what_vllm_refuses_is_told_in_words(error: Exception, said: str) -> None:
    cores = Cores()
    cores.error = error
    status, body = ask(SimpleNamespace(engine_core=cores))
    assert (status, body["error"]["type"]) == (503, "Unavailable")
    assert said in body["error"]["message"].replace("The agent's", "the agent's")


def test_a_server_without_an_engine_says_so() -> None:
    status, body = ask(None)
    assert (status, "no engine" in body["error"]["message"]) == (503, True)
