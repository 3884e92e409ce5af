"""R35: what was computed for one prompt is never read for another (vllm 54707, 50559, 50558)."""

from types import SimpleNamespace
from typing import Any

import pytest

from kvlease.agent.cards import MemoryCards
from kvlease.agent.core import AgentCore
from kvlease.agent.memory import MemoryNetwork, MemoryTransport
from kvlease.protocol import Fingerprint, LeaseRef, resolve
from kvlease.roles.consumer import ConsumerSide
from kvlease.roles.producer import ProducerSide
from kvlease.vllm.prompts import fingerprint_of, is_answered

CONFIG, _ = resolve({})
COMPUTED = Fingerprint(tokens=96, digest=0xF00)
REFERENCE = LeaseRef(1, 2, 3, 4000, COMPUTED).to_params()


def agent() -> AgentCore:
    network = MemoryNetwork()
    return AgentCore(CONFIG, "engine", lambda own: MemoryTransport(network, own), MemoryCards({}), clock=lambda: 1.0)


def waiting(prompt: Fingerprint, request_id: str = "r") -> Any:
    params = {"do_remote_prefill": True, "remote_host": "p", "remote_port": 5600, "kv_lease": REFERENCE}
    return SimpleNamespace(request_id=request_id, prompt=prompt, kv_transfer_params=params)


def prompt_of(request: Any) -> Fingerprint:
    prompt: Fingerprint = request.prompt
    return prompt


@pytest.mark.parametrize(
    ("prompt", "differs"),
    [
        (Fingerprint(tokens=97, digest=0xF00), "length"),
        (Fingerprint(tokens=95, digest=0xF01), "length"),
        (Fingerprint(tokens=96, digest=0xF01), "content"),
    ],
)
def test_the_reference_to_another_prompt_is_computed_here_and_counted(prompt: Fingerprint, differs: str) -> None:
    core = agent()
    side, request = ConsumerSide(core, prompt_of), waiting(prompt)
    assert not side.take_on(request)
    assert request.kv_transfer_params["do_remote_prefill"] is False
    assert side.other_prompts == {differs: 1}
    assert not side.has("r")
    core.step(1.0)
    # It is left to whom it was made for: not claimed here, and so not dropped either.
    assert core.report().producers == 0


IMAGE = Fingerprint(tokens=96, digest=0xF00, media=0xCA7)


@pytest.mark.parametrize(
    ("computed", "own", "differs"),
    [
        (IMAGE, Fingerprint(96, 0xF00, media=0xD06), "media"),
        # Its router took the image away: this engine's prompt has the places of an image, and nothing in them.
        (IMAGE, COMPUTED, "media"),
        (COMPUTED, IMAGE, "media"),
        (COMPUTED, Fingerprint(97, 0xF00, media=0xCA7), "length"),
        (IMAGE, Fingerprint(96, 0xF01, media=0xCA7), "content"),
        (IMAGE, Fingerprint(32, 0xF01), "length"),
    ],
)
def test_what_may_be_a_stand_in_for_an_image_is_not_computed_from(
    computed: Fingerprint, own: Fingerprint, differs: str
) -> None:
    """Dynamo gives its decode workers noise in the place of images: they are in the KV cache already."""
    side, request = ConsumerSide(agent(), prompt_of), waiting(own)
    request.kv_transfer_params["kv_lease"] = LeaseRef(1, 2, 3, 4000, computed).to_params()
    assert side.take_on(request)
    assert side.begin(["r"]) == ({}, frozenset({"r"})), "it goes the way of a load that has failed"
    assert side.other_prompts == {differs: 1}
    side.release("r")
    assert not side.has("r")


def test_where_media_are_known_to_be_stand_ins_the_prefill_is_read() -> None:
    side, request = ConsumerSide(agent(), prompt_of, compares_media=False), waiting(Fingerprint(96, 0xF00, media=0xD06))
    assert side.take_on(request)
    assert set(side.begin(["r"])[0]) == {"r"}
    assert side.other_prompts == {}


def test_a_request_that_reads_nothing_lets_go_of_its_lease_whatever_its_prompt() -> None:
    """vLLM lets go of a refused request's prefill with one of its own, whose prompt is a single token (R12, L1)."""
    core = agent()
    side, request = ConsumerSide(core, prompt_of), waiting(Fingerprint(tokens=1, digest=0))
    assert side.take_on(request, reads=False)
    assert side.has("r")
    side.release("r")
    assert side.other_prompts == {}
    core.step(1.0)
    assert core.report().producers == 1, "it is on its way to say so"


def test_of_a_list_only_the_prompt_that_was_computed_is_read() -> None:
    side = ConsumerSide(agent(), prompt_of)
    assert side.take_on(waiting(COMPUTED, "cmpl-1-0"))
    assert not side.take_on(waiting(Fingerprint(96, 0xB), "cmpl-1-1"))
    reads, hopeless = side.begin(["cmpl-1-0", "cmpl-1-1"])
    assert (set(reads), hopeless) == ({"cmpl-1-0"}, frozenset())


def test_the_reference_says_what_came_and_not_what_was_left_of_it() -> None:
    """vLLM takes the last token off a Mamba model's prompt before it is computed."""
    side = ProducerSide(CONFIG, agent(), 1, prompt_of)
    side.open(slots=2)
    request = SimpleNamespace(request_id="r", prompt=COMPUTED, sampling_params=None)
    side.take_on(request)
    request.prompt = Fingerprint(tokens=95, digest=0xF01)
    side.prepare("r")
    prompt = side.take_prompt("r")
    assert prompt is not None
    assert side.grant(request, prompt, ([1],)).prompt == COMPUTED


def test_r12_nothing_is_kept_of_a_request_that_has_ended() -> None:
    side = ProducerSide(CONFIG, agent(), 1, prompt_of)
    side.take_on(SimpleNamespace(request_id="r", prompt=COMPUTED))
    assert side.take_prompt("r") == COMPUTED
    assert side.take_prompt("r") is None
    assert side._prompts == {}


def named(request_id: str, output: str) -> Any:
    params = SimpleNamespace(output_kind=SimpleNamespace(name=output))
    return SimpleNamespace(request_id=request_id, sampling_params=params)


@pytest.mark.parametrize(
    ("request_id", "answered"),
    [
        ("cmpl-3f2a-0-0a1b2c3d", True),
        ("cmpl-3f2a-1-0a1b2c3d", False),
        ("cmpl-3f2a-12-0a1b2c3d", False),
        # A sibling (n > 1) of either.
        ("2_cmpl-3f2a-0-0a1b2c3d", True),
        ("2_cmpl-3f2a-1-0a1b2c3d", False),
        # Without vLLM's random end; with one that is digits alone; with a name that the client chose.
        ("cmpl-3f2a-0", True),
        ("cmpl-3f2a-1", False),
        ("cmpl-3f2a-1-12345678", False),
        ("cmpl-3f2a-0-12345678", True),
        ("cmpl-my-request-3-0-0a1b2c3d", True),
        ("cmpl-my-request-3-0", True),
        ("cmpl-a\nb-1-0a1b2c3d", False),
        # A UUID in which the last group has no letter, of a frontend that puts no place after it.
        ("cmpl-0198c0de-aaaa-7bbb-8ccc-123456789012-deadbeef", True),
        # Requests that are no completions.
        ("chatcmpl-3f2a-1", True),
        ("chatcmpl-3f2a-0a1b2c3d", True),
        ("3f2a-1", True),
        ("", True),
    ],
)
def test_only_the_first_prompt_of_a_list_is_answered_with_a_reference(request_id: str, answered: bool) -> None:
    assert is_answered(named(request_id, "FINAL_ONLY")) is answered
    assert is_answered(named(request_id, "DELTA")), "a stream has a reference for each"


def asked(**fields: Any) -> Any:
    plain = {
        "prompt_token_ids": [5, 6, 7],
        "num_prompt_tokens": 3,
        "lora_request": None,
        "cache_salt": None,
        "mm_features": [],
        "prompt_embeds": None,
        "prompt_is_token_ids": None,
    }
    return SimpleNamespace(**plain | fields)


def picture(identifier: str, offset: int = 1) -> Any:
    place = SimpleNamespace(offset=offset, length=1)
    return SimpleNamespace(identifier=identifier, mm_position=place, data=None)


def adapter(name: str, path: str = "/a") -> Any:
    return SimpleNamespace(lora_name=name, lora_path=path)


@pytest.mark.parametrize(
    "other",
    [
        asked(prompt_token_ids=[5, 6, 8]),
        asked(prompt_token_ids=[5, 6, 7, 8], num_prompt_tokens=4),
        asked(lora_request=adapter("sql")),
        asked(cache_salt="tenant"),
        asked(mm_features=[picture("a")]),
        asked(prompt_is_token_ids=[True, False, True]),
    ],
)
def test_all_that_a_cache_depends_on_tells_two_requests_apart(other: Any) -> None:
    assert fingerprint_of(other) != fingerprint_of(asked())


def test_the_same_picture_elsewhere_is_another_prompt_and_the_same_adapter_elsewhere_is_not() -> None:
    assert fingerprint_of(asked(mm_features=[picture("a")])) != fingerprint_of(asked(mm_features=[picture("a", 2)]))
    here, there = adapter("sql", "/mnt/a"), adapter("sql", "/mnt/b")
    assert fingerprint_of(asked(lora_request=here)) == fingerprint_of(asked(lora_request=there))
