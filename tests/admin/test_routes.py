"""The routes: what is allowed and what is not, one or several engines, and the wait for a drain."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.admin import answers, routes
from kvlease.admin.engines import Engines
from kvlease.admin.openapi import document
from kvlease.admin.questions import DrainOrder, LeasesQuestion
from kvlease.admin.routes import PREFIX, AdminRoutes
from tests.admin.doors import Door, PromptCore, short, whole
from tests.admin.engines import PLACE, PROMPT, Pair


@pytest.fixture
def door() -> Door:
    return Door()


def get(door: Door, path: str, **headers: str) -> tuple[int, Any]:
    return asyncio.run(door.call("GET", path, **headers))


def post(door: Door, path: str) -> tuple[int, Any]:
    return asyncio.run(door.call("POST", path))


def test_every_answer_is_of_the_type_that_is_documented(door: Door) -> None:
    (ref,) = door.prefill("r")
    door.claim("r", ref)
    for path, kind in (("/health", answers.Health), ("/leases", answers.LeasePage), ("/sessions", answers.Sessions)):
        status, body = get(door, path)
        assert status == 200
        found: Any = msgspec.convert(body, kind, strict=True)
        assert found
    assert get(door, "/leases")[1]["leases"][0]["token"] == short(ref)
    assert get(door, "/leases?full_tokens=true")[1]["leases"][0]["token"] == whole(ref)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/leases?limit=0", "limit is '0': it must be a whole number from 1 to 1000"),
        ("/leases?limit=1001", "limit is '1001'"),
        ("/leases?limit=ten", "limit is 'ten'"),
        ("/leases?limit=%D9%A3", "limit is"),
        ("/leases?state=ended", "state is 'ended': it must be granted, claimed or lapsed"),
        ("/leases?state=", "state is ''"),
        ("/leases?min_age=-1", "min_age is '-1': it must be a number of seconds"),
        ("/leases?min_age=nan", "min_age is 'nan'"),
        ("/leases?min_age=1e99", "min_age is '1e99'"),
        ("/leases?min_age=0x1", "min_age is '0x1'"),
        ("/leases?full_tokens=yes", "full_tokens is 'yes': it must be true or false"),
        ("/leases?cursor=5", "cursor is '5': it must be what `next` of the page before says"),
        (f"/leases?request={'x' * 257}", "at most 256 characters"),
        ("/leases?limit=1&limit=2", "limit is given twice"),
        ("/leases?limits=1", "'limits' is not a parameter here; there are: state, consumer"),
        ("/health?x=1", "'x' is not a parameter here; this route takes none"),
        ("/drain?wait=1", "'wait' is not a parameter here"),
    ],
)
def test_a_question_that_is_not_allowed_is_refused_with_what_is(door: Door, path: str, said: str) -> None:
    status, body = get(door, path)
    error = msgspec.convert(body, answers.ErrorAnswer).error
    assert (status, error.code, error.type) == (400, 400, "BadRequest")
    assert said in error.message


@pytest.mark.parametrize("wait", ["601", "-1", "inf", "1s", ""])
def test_a_wait_is_bounded(door: Door, wait: str) -> None:
    status, body = post(door, f"/drain?wait={wait}")
    assert (status, body["error"]["message"].startswith("wait is")) == (400, True)
    assert not door.p.producer.draining, "nothing is done by a request that is refused"


def test_a_release_takes_a_token_or_its_beginning(door: Door) -> None:
    refs = door.prefill(*"abc")
    assert post(door, f"/leases/{short(refs[0])}/release") == (200, {"released": True})
    assert post(door, f"/leases/{whole(refs[1])}/release") == (200, {"released": True})
    door.pair.run(0.1)
    assert [lease["request_id"] for lease in get(door, "/leases")[1]["leases"]] == ["c"]
    assert post(door, f"/leases/{short(refs[0])}/release")[0] == 404
    for bad in ("abc", "ABCDEF01", "0" * 17, "xyzxyzxy"):
        status, body = post(door, f"/leases/{bad}/release")
        assert (status, "8 to 16 lower-case hex digits" in body["error"]["message"]) == (400, True)


def test_a_beginning_that_names_two_leases_names_none(door: Door) -> None:
    drawn = iter((0xABCDEF0100000001, 0xABCDEF0100000002))
    door.p.producer.slots.draw = lambda: next(drawn)
    door.prefill("a", "b")
    status, body = post(door, "/leases/abcdef01/release")
    assert (status, "give more digits" in body["error"]["message"]) == (409, True)
    assert get(door, "/leases?state=granted")[1]["total"] == 2


def test_pages_go_on_where_the_last_one_ended(door: Door) -> None:
    door.prefill(*"abcde", blocks=1)
    seen, cursor = [], ""
    for _ in range(3):
        page = get(door, f"/leases?limit=2{cursor}")[1]
        seen.append([lease["request_id"] for lease in page["leases"]])
        cursor = f"&cursor={page['next']}"
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    assert cursor == "&cursor=None"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/drain", 405), ("POST", "/health", 405)]
)
def test_what_is_not_there_is_answered_in_json(door: Door, method: str, path: str, status: int) -> None:
    found, body = asyncio.run(door.call(method, path))
    assert (found, body["error"]["code"]) == (status, status)


# -- a drain -----------------------------------------------------------------------------------------------------


def test_a_drain_of_what_holds_nothing_is_over_at_once(door: Door) -> None:
    assert post(door, "/drain?wait=60") == (200, {"draining": True, "left": 0})
    assert get(door, "/drain") == (200, {"draining": True, "left": 0})
    assert asyncio.run(door.call("DELETE", "/drain")) == (200, {"draining": False, "left": 0})


def test_a_drain_that_is_not_waited_for_says_what_is_left(door: Door) -> None:
    door.prefill("r")
    assert post(door, "/drain") == (202, {"draining": True, "left": 1})
    assert post(door, "/drain?wait=0.01") == (202, {"draining": True, "left": 1})


async def draining(door: Door) -> None:
    """Waits until a drain has begun."""
    while not (await door.call("GET", "/drain"))[1]["draining"]:
        await asyncio.sleep(0)


def test_a_drain_is_waited_for_until_the_last_lease_is_over(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "POLL_S", 0.001)
    (ref,) = door.prefill("r")
    door.claim("r", ref)

    async def scene() -> tuple[int, Any]:
        waiting = asyncio.create_task(door.call("POST", "/drain?wait=60"))
        await draining(door)
        assert not waiting.done()
        door.read("r")
        return await waiting

    assert asyncio.run(scene()) == (200, {"draining": True, "left": 0})


def test_whoever_waits_for_a_drain_that_is_undone_is_told(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "POLL_S", 0.001)
    door.prefill("r")

    async def scene() -> tuple[int, Any]:
        waiting = asyncio.create_task(door.call("POST", "/drain?wait=60"))
        await draining(door)
        await door.call("DELETE", "/drain")
        return await waiting

    status, body = asyncio.run(scene())
    assert (status, "was undone" in body["error"]["message"]) == (409, True)


def test_a_drain_is_waited_for_by_a_bounded_number(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_WAITING", 2)
    door.prefill("r")

    async def scene() -> list[int]:
        calls = [door.call("POST", f"/drain?wait={wait}") for wait in ("0.05", "0.05", "0.05")]
        found = [status for status, _ in await asyncio.gather(*calls)]
        return [*found, (await door.call("POST", "/drain?wait=0.01"))[0]]

    assert asyncio.run(scene()) == [202, 202, 429, 202]


def test_nobody_asks_on_for_a_client_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "POLL_S", 0.001)
    door = Door()
    door.prefill("r")
    gone = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        return next(gone, {"type": "http.disconnect"})

    async def send(_message: Any) -> None: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{PREFIX}/drain",
        "query_string": b"wait=60",
        "headers": [(b"host", b"127.0.0.1")],
    }
    asyncio.run(asyncio.wait_for(door.app(scope, receive, send), 5))
    assert door.p.producer.draining


# -- several engines ---------------------------------------------------------------------------------------------


class Ranks:
    """Two data-parallel engines behind one door, as vLLM's API server asks them: in any order."""

    def __init__(self) -> None:
        self.pairs = [Pair(), Pair()]
        self.cores = [PromptCore(pair, pair.p, rank) for rank, pair in enumerate(self.pairs)]
        self.engines = Engines(self.ask)

    async def ask(self, question: bytes) -> Sequence[bytes]:
        return [core.answer(question).result(0) for core in reversed(self.cores)]


def test_several_engines_answer_as_one() -> None:
    ranks = Ranks()
    refs = [pair.p.prefill(f"r{rank}", 1) for rank, pair in enumerate(ranks.pairs)]
    ranks.pairs[1].p.prefill("s1", 1)
    for pair in ranks.pairs:
        pair.run(0.1)

    async def scene() -> None:
        health = await ranks.engines.health()
        assert [engine.rank for engine in health.engines] == [0, 1]
        seen, place = [], (0, 0)
        while True:
            page = await ranks.engines.leases(LeasesQuestion(limit=1, after_rank=place[0], after=place[1]))
            seen += [msgspec.json.decode(lease)["request_id"] for lease in page.leases]
            assert page.total == 3
            if page.next is None:
                break
            rank, number = page.next.split(".")
            place = (int(rank), int(number))
        assert seen == ["r0", "r1", "s1"]
        assert (await ranks.engines.drain(True)) == answers.Drain(True, 3)
        assert (await ranks.engines.release(whole(refs[1]))).released
        for pair in ranks.pairs:
            pair.run(0.1)
        assert (await ranks.engines.drain()) == answers.Drain(True, 2)
        ranks.cores[0].ask(DrainOrder(False))
        assert not (await ranks.engines.drain()).draining, "one that grants leases is enough"

    asyncio.run(scene())


def test_sessions_of_all_engines_are_listed() -> None:
    ranks = Ranks()
    pair = ranks.pairs[1]
    pair.d.consumer.take_on("r", PROMPT, pair.p.prefill("r", 1), PLACE)
    pair.run(0.5)
    found = asyncio.run(ranks.engines.sessions())
    assert [(entry.rank, entry.engine_id) for entry in found.consumers] == [(1, "d")]


# -- OpenAPI -----------------------------------------------------------------------------------------------------


def test_the_description_has_every_route_and_no_other() -> None:
    described = {(path, method.upper()) for path, methods in document(PREFIX)["paths"].items() for method in methods}
    found = AdminRoutes(Engines(Ranks().ask)).routes()
    there = {(route.path, method) for route in found for method in (route.methods or set()) - {"HEAD"}}
    assert described == there


def test_every_reference_of_the_description_is_there(door: Door) -> None:
    status, body = get(door, "/openapi.json")
    text = msgspec.json.encode(body).decode()
    assert status == 200
    names = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= body["components"]["schemas"].keys()
    assert "LeaseEntry" in names


OPERATIONS = [
    (path, method, operation)
    for path, methods in document(PREFIX)["paths"].items()
    for method, operation in methods.items()
]
TEXT = st.text(max_size=20)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, dict[str, str], str]:
    """A request: an operation, what it is called with, and whether by its own rules."""
    path, method, operation = draw(st.sampled_from(OPERATIONS))
    names = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
    good = {"state": "granted", "limit": "3", "min_age": "0.5", "wait": "0", "cursor": "0.1", "full_tokens": "true"}
    query = draw(st.dictionaries(st.sampled_from([*names, "x"]), TEXT, max_size=3)) if draw(st.booleans()) else {}
    query |= {name: good[name] for name in names if name in good and draw(st.booleans())}
    token = draw(st.one_of(st.from_regex(r"[0-9a-f]{8,16}", fullmatch=True), st.text("abc/%?.#", min_size=1)))
    return path, method, query, token


@settings(max_examples=60, deadline=None, derandomize=True)
@given(asked=requests())
def test_whatever_is_asked_is_answered_as_described(asked: tuple[str, str, dict[str, str], str]) -> None:
    """A short form of `make fuzz-admin`, without its tools."""
    path, method, query, token = asked
    operation = document(PREFIX)["paths"][path][method]

    async def scene() -> tuple[int, bytes]:
        async with SHARED.client() as client:
            response = await client.request(method, path.replace("{token}", _quoted(token)), params=query)
            return response.status_code, response.content

    status, content = asyncio.run(scene())
    if status in (404, 405) and str(status) not in operation["responses"]:
        return
    assert str(status) in operation["responses"], content
    name = operation["responses"][str(status)]["content"]["application/json"]["schema"].get("$ref", "/")
    kind = getattr(answers, name.rpartition("/")[2], dict[str, Any])
    msgspec.json.decode(content, type=kind)


def _quoted(token: str) -> str:
    return token.replace("%", "%25").replace("?", "%3F").replace("#", "%23")


SHARED = Door()
SHARED.prefill("r")
