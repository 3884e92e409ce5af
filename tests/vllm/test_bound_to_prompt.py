"""R35: blocks that were computed for one prompt are never read for another (vllm 54707, 50559, 50558)."""

from types import SimpleNamespace
from typing import Any

import pytest

from kvlease.agent.core import AgentCore
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.own_fences import SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.protocol import Fingerprint, LeaseRef, resolve
from kvlease.protocol.engine_facts import EngineFact, HandOffEnd, HandOffEnded
from kvlease.testing.data_agent import FakeDataAgent
from kvlease.testing.pool import CountedPool
from kvlease.vllm.prompts import fingerprint_of, has_siblings, is_answered, parent_of
from kvlease.vllm.requests import LeasedRequests
from tests.agent.alone import lone_agent

CONFIG = resolve({})
COMPUTED = Fingerprint(tokens=96, digest=0xF00)
SIDE_CHANNEL = ("p", 5600)


def agent() -> AgentCore:
    return lone_agent(CONFIG, lambda: 1.0)


def reference(computed: Fingerprint = COMPUTED) -> LeaseRef:
    return LeaseRef(1, 2, 3, 4000, computed)


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
    side = ConsumerSide(core)
    assert not side.take_on("r", prompt, reference(), SIDE_CHANNEL)
    assert side.other_prompts == {differs: 1}
    assert not side.has("r")
    core.turn(1.0)
    # The lease is left to the request that it was granted for: it is not claimed here, and so not dropped either.
    assert core.report().producers == 0


IMAGE = Fingerprint(tokens=96, digest=0xF00, media=0xCA7)


@pytest.mark.parametrize(
    ("computed", "own", "differs"),
    [
        (IMAGE, Fingerprint(96, 0xF00, media=0xD06), "media"),
        # The router took the image away: this engine's prompt has the places of an image, with nothing in them.
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
    """R35: a stand-in for an image is never computed from: Dynamo's decode workers get noise in the place of images."""
    side = ConsumerSide(agent())
    assert side.take_on("r", own, reference(computed), SIDE_CHANNEL)
    assert side.begin(["r"]) == ({}, frozenset({"r"})), "it goes the way of a load that has failed"
    assert side.other_prompts == {differs: 1}
    side.release("r")
    assert not side.has("r")


def test_where_media_are_known_to_be_stand_ins_the_prefill_is_read() -> None:
    side = ConsumerSide(agent(), compares_media=False)
    assert side.take_on("r", Fingerprint(96, 0xF00, media=0xD06), reference(), SIDE_CHANNEL)
    assert set(side.begin(["r"])[0]) == {"r"}
    assert side.other_prompts == {}


def test_of_a_list_only_the_prompt_that_was_computed_is_read() -> None:
    side = ConsumerSide(agent())
    assert side.take_on("cmpl-1-0", COMPUTED, reference(), SIDE_CHANNEL)
    assert not side.take_on("cmpl-1-1", Fingerprint(96, 0xB), reference(), SIDE_CHANNEL)
    reads, unreadable = side.begin(["cmpl-1-0", "cmpl-1-1"])
    assert (set(reads), unreadable) == ({"cmpl-1-0"}, frozenset())


# -- vLLM's requests -------------------------------------------------------------------------------------------------


def asked(**fields: Any) -> Any:
    plain = {
        "request_id": "r",
        "abort_immediately": False,
        "sampling_params": None,
        "prompt_token_ids": [5, 6, 7],
        "num_prompt_tokens": 3,
        "num_computed_tokens": 2,
        "lora_request": None,
        "cache_salt": None,
        "mm_features": [],
        "prompt_embeds": None,
        "prompt_is_token_ids": None,
        "trace_headers": None,
    }
    return SimpleNamespace(**plain | fields)


def waiting(computed: Fingerprint, **fields: Any) -> Any:
    """A request of vLLM's whose reference is to blocks computed for this prompt, its own or another."""
    host, port = SIDE_CHANNEL
    offer = {
        "do_remote_prefill": True,
        "remote_engine_id": "P",
        "remote_request_id": "r",
        "remote_block_ids": [[1]],
        "remote_host": host,
        "remote_port": port,
        "kv_lease": reference(computed).to_params(),
    }
    return asked(kv_transfer_params=offer, **fields)


def producing(core: AgentCore) -> ProducerSide:
    """A producer with two fence slots, and room for eight blocks that requests use."""
    pool = CountedPool(8)
    pool.take(8)
    side = ProducerSide(CONFIG, core, pool, 1)
    side.open(2, SharedFences([FenceTable(RegisteredWords(FakeDataAgent(), 2))]))
    return side


def engine(core: AgentCore) -> tuple[LeasedRequests, ProducerSide, ConsumerSide]:
    producer, consumer = producing(core), ConsumerSide(core)
    return LeasedRequests(producer, consumer, groups=1), producer, consumer


def test_what_was_computed_for_another_prompt_goes_to_vllm_as_if_nothing_had_been() -> None:
    """R35: vLLM computes a prompt of which others' blocks were offered; its own mechanism does not look for blocks."""
    requests, _, consumer = engine(agent())
    request = waiting(COMPUTED)
    assert requests.arrive(request)
    assert request.kv_transfer_params["do_remote_prefill"] is False
    assert consumer.other_prompts == {"length": 1}


def test_a_request_with_what_was_computed_for_it_is_none_of_vllms_mechanism() -> None:
    requests, _, consumer = engine(agent())
    request = waiting(fingerprint_of(asked()))
    assert not requests.arrive(request)
    assert request.kv_transfer_params["do_remote_prefill"] is True
    assert consumer.has("r")


def test_a_request_that_reads_nothing_lets_go_of_its_lease_whatever_its_prompt() -> None:
    """R12, L1: vLLM drops a refused request's prefill by a request of its own, whose prompt is a single token."""
    core = agent()
    requests, _, consumer = engine(core)
    request = waiting(COMPUTED, abort_immediately=True, prompt_token_ids=[0], num_prompt_tokens=1)
    assert not requests.arrive(request)
    assert consumer.has("r")
    requests.end_unread(request)
    assert not consumer.has("r")
    assert request.kv_transfer_params["do_remote_prefill"] is False, "no worker has to say so"
    assert consumer.other_prompts == {}
    core.turn(1.0)
    assert core.report().producers == 1, "it is on its way to say so"


def refused(**params: Any) -> Any:
    """The request by which vLLM says that it has refused one that came with these params beside its reference."""
    request = waiting(COMPUTED, abort_immediately=True, prompt_token_ids=[0], num_prompt_tokens=1)
    request.kv_transfer_params |= params
    return request


def test_a_refused_requests_lease_is_left_to_another_engine_where_the_router_asks_for_it() -> None:
    """R12: neither the agent nor vLLM's own mechanism tells the producer anything."""
    core = agent()
    told: list[EngineFact] = []
    consumer = ConsumerSide(core, tell=told.append)
    requests = LeasedRequests(producing(core), consumer, groups=1, tell=told.append)
    request = refused(kv_lease_on_reject="return")
    assert not requests.arrive(request)
    assert request.kv_transfer_params["do_remote_prefill"] is False, "vLLM's mechanism has nothing to tell either"
    assert not consumer.has("r")
    requests.end_unread(request)
    core.turn(1.0)
    assert core.report().producers == 0, "it is neither claimed nor dropped"
    assert told == [HandOffEnded("r", reference().token, HandOffEnd.RETURNED)]
    assert (consumer.returned, consumer.released) == (1, 0)


@pytest.mark.parametrize(("asked_for", "bad"), [("Return", 1), ("", 1), (True, 1), (["return"], 1), (None, 0)])
def test_a_refused_requests_lease_is_dropped_where_nothing_that_is_known_is_asked_for(asked_for: Any, bad: int) -> None:
    core = agent()
    requests, _, consumer = engine(core)
    request = refused(kv_lease_on_reject=asked_for)
    assert not requests.arrive(request)
    assert consumer.has("r")
    requests.end_unread(request)
    core.turn(1.0)
    assert core.report().producers == 1, "it is on its way to say so"
    assert requests.counts["refused.bad_on_reject"] == bad
    assert consumer.returned == 0


def test_what_becomes_of_a_refused_request_is_no_matter_of_one_that_is_read() -> None:
    requests, _, consumer = engine(agent())
    request = waiting(fingerprint_of(asked()))
    request.kv_transfer_params["kv_lease_on_reject"] = "return"
    assert not requests.arrive(request)
    assert consumer.has("r")
    assert consumer.returned == 0


def test_a_refused_requests_stock_prefill_is_vllms_mechanisms_whatever_is_asked_for() -> None:
    requests, _, consumer = engine(agent())
    request = refused(kv_lease_on_reject="return")
    del request.kv_transfer_params["kv_lease"]
    assert requests.arrive(request)
    assert request.kv_transfer_params["do_remote_prefill"] is True
    assert consumer.returned == 0


def test_the_reference_says_what_came_and_not_what_was_left_of_it() -> None:
    """R35: a reference has the prompt as it came, though vLLM takes the last token off a Mamba model's prompt."""
    requests, _, _ = engine(agent())
    request = asked(kv_transfer_params={"do_remote_decode": True})
    came = fingerprint_of(request)
    assert requests.arrive(request)
    request.prompt_token_ids, request.num_prompt_tokens = [5, 6], 2
    assert not requests.schedule(request, 0)
    ref = requests.grant(request, ([1],))
    assert ref is not None
    assert ref.prompt == came


def test_blocks_that_a_sliding_window_let_go_of_are_not_held() -> None:
    """A producer does not hold block 0, which vLLM puts in the place of blocks that a sliding window let go of."""
    requests, producer, _ = engine(agent())
    request = asked(kv_transfer_params={"do_remote_decode": True})
    requests.arrive(request)
    requests.schedule(request, 0)
    requests.grant(request, ([0, 0, 3], [4, 5]))
    assert producer.blocks.held_blocks == 3


def test_a_prompt_of_a_list_that_nobody_is_told_of_is_not_granted_and_its_slot_comes_back() -> None:
    requests, producer, _ = engine(agent())
    request = asked(
        request_id="cmpl-1-1",
        sampling_params=SimpleNamespace(output_kind=SimpleNamespace(name="FINAL_ONLY")),
        kv_transfer_params={"do_remote_decode": True},
    )
    requests.arrive(request)
    requests.schedule(request, 0)
    assert len(producer.slots) == 1
    assert requests.grant(request, ([1],)) is None
    assert producer.counts == {"ends.aborted": 1}
    assert len(producer.slots) == producer.blocks.held_leases == 0


def test_r12_nothing_is_kept_of_a_request_that_has_ended() -> None:
    """R12: a name that comes again after its request has ended has no prompt."""
    side = producing(agent())
    for aborted in (False, True):
        side.take_on("r", COMPUTED)
        if aborted:
            side.abort("r")
        else:
            side.finish("r", [1])
        side.prepare("r")
        assert side.finish("r", [1]) is None, "its prompt is not known"
    assert len(side.slots) == 0


def named(request_id: str, output: str) -> Any:
    params = SimpleNamespace(output_kind=SimpleNamespace(name=output))
    return SimpleNamespace(request_id=request_id, sampling_params=params)


@pytest.mark.parametrize(
    ("request_id", "answered"),
    [
        ("cmpl-3f2a-0-0a1b2c3d", True),
        ("cmpl-3f2a-1-0a1b2c3d", False),
        ("cmpl-3f2a-12-0a1b2c3d", False),
        # These are siblings (n > 1) of a first and a second prompt.
        ("2_cmpl-3f2a-0-0a1b2c3d", True),
        ("2_cmpl-3f2a-1-0a1b2c3d", False),
        # These have no random end of vLLM's, one that is digits alone, or a name that the client chose.
        ("cmpl-3f2a-0", True),
        ("cmpl-3f2a-1", False),
        ("cmpl-3f2a-1-12345678", False),
        ("cmpl-3f2a-0-12345678", True),
        ("cmpl-my-request-3-0-0a1b2c3d", True),
        ("cmpl-my-request-3-0", True),
        ("cmpl-a\nb-1-0a1b2c3d", False),
        # This is a UUID whose last group has no letter, from a frontend that puts no number of the prompt after it.
        ("cmpl-0198c0de-aaaa-7bbb-8ccc-123456789012-deadbeef", True),
        # These requests are no completions.
        ("chatcmpl-3f2a-1", True),
        ("chatcmpl-3f2a-0a1b2c3d", True),
        ("3f2a-1", True),
        ("", True),
    ],
)
def test_only_the_first_prompt_of_a_list_is_answered_with_a_reference(request_id: str, answered: bool) -> None:
    assert is_answered(named(request_id, "FINAL_ONLY")) is answered
    assert is_answered(named(request_id, "DELTA")), "a stream has a reference for each"


@pytest.mark.parametrize(
    ("request_id", "siblings"),
    [
        ("0_cmpl-3f2a-0-0a1b2c3d", True),
        ("12_my request", True),
        ("2_a\nb", True),
        # These names are of requests with n = 1, or a client chose them.
        ("cmpl-3f2a-0-0a1b2c3d", False),
        ("a_1_cmpl-3f2a", False),
        ("-1_cmpl-3f2a", False),
        ("1_", False),
        ("", False),
    ],
)
def test_a_child_of_several_is_known_by_its_name(request_id: str, siblings: bool) -> None:
    """R24: siblings share a lease at the consumer; at the producer one answer may be for all of them."""
    assert has_siblings(request_id) is siblings
    parent = request_id.partition("_")[2] if siblings else None
    assert parent_of(named(request_id, "FINAL_ONLY")) == parent
    assert parent_of(named(request_id, "DELTA")) is None, "a stream has a reference for each"


def test_siblings_of_two_requests_have_their_own_parents() -> None:
    """R24: a sibling's lease ends only that of the sibling before it, of the same parent."""
    one, two = named("0_a", "FINAL_ONLY"), named("0_1_a", "FINAL_ONLY")
    assert (parent_of(one), parent_of(two)) == ("a", "1_a")


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


@pytest.mark.parametrize(("computed", "offered"), [(3, True), (4, False)])
def test_a_prefill_that_went_on_beyond_its_prompt_is_not_offered(computed: int, offered: bool) -> None:
    """S1: vLLM's decode engines pair blocks from the end, so one more than the prompt has would shift them all."""
    requests, producer, _ = engine(agent())
    request = asked(kv_transfer_params={"do_remote_decode": True}, num_computed_tokens=computed)
    requests.arrive(request)
    requests.schedule(request, 0)
    assert (requests.grant(request, ([1],)) is not None) is offered
    assert requests.counts["refused.long_prefill"] == (not offered)
    assert len(producer.slots) == offered


def test_a_block_that_is_offered_twice_is_held_once() -> None:
    requests, producer, _ = engine(agent())
    request = asked(kv_transfer_params={"do_remote_decode": True})
    requests.arrive(request)
    requests.schedule(request, 0)
    requests.grant(request, ([1, 2], [2]))
    assert producer.blocks.held_blocks == 2
