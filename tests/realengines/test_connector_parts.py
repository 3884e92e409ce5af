"""The connector's parts, with vLLM imported but no engine running."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from kvlease.agent.loop import LeaseAgent
from kvlease.engine.orders import WorkerReport
from kvlease.engine.own_fences import SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.errors import CardUnavailable, UnsupportedEngine
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.protocol import Fingerprint, LeaseRef, resolve
from kvlease.testing.cards import MemoryCards
from kvlease.testing.data_agent import FakeDataAgent
from kvlease.testing.network import MemoryNetwork, MemoryTransport

pytestmark = [pytest.mark.engine, pytest.mark.essential]

CONFIG = resolve({"kv_lease_duration": 6})
PROMPT = Fingerprint(tokens=64, digest=7)


class NoLooking(dict[Any, Any]):
    """A dict that refuses to be iterated over, so that its users cost the same at any size."""

    def __iter__(self) -> Iterator[Any]:
        return self._refuse()

    def keys(self) -> NoReturn:
        self._refuse()

    def values(self) -> NoReturn:
        self._refuse()

    def items(self) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise AssertionError("a step looked at every lease")


def forbid_looking(part: Any) -> int:
    """Makes every dict of `part`, each with an entry a lease, refuse to be iterated over. Returns their number."""
    names = [name for name in getattr(part, "__slots__", None) or vars(part) if type(getattr(part, name)) is dict]
    for name in names:
        setattr(part, name, NoLooking(getattr(part, name)))
    return len(names)


def block_pool(blocks: int) -> Any:
    from vllm.v1.core.block_pool import BlockPool

    return BlockPool(num_gpu_blocks=blocks, enable_caching=True, hash_block_size=16)


def grant(producer: ProducerSide, request_id: str, blocks: list[Any]) -> LeaseRef:
    producer.take_on(request_id, PROMPT)
    producer.prepare(request_id)
    ref = producer.finish(request_id, [block.block_id for block in blocks])
    assert ref is not None
    return ref


@pytest.fixture
def agent() -> LeaseAgent:
    network = MemoryNetwork()
    return LeaseAgent(CONFIG, "engine", lambda own: MemoryTransport(network, own), MemoryCards({}))


def test_a_step_costs_the_scheduler_the_same_with_ten_thousand_leases(agent: LeaseAgent) -> None:
    """The hooks of a step touch only the leases that changed in it."""
    from kvlease.vllm.in_scheduler import SchedulerLeases

    leases = SchedulerLeases(agent, CONFIG, workers=1, groups=1, drains=False)
    leases.bind(pool := block_pool(30_001))
    step, producer = leases.step, leases.step.producer
    table = FenceTable(RegisteredWords(FakeDataAgent(), 20_000))
    producer.open(20_000, SharedFences([table]))
    refs = [grant(producer, f"r{i}", pool.get_new_blocks(3)) for i in range(9_999)]
    step.begin_step(())
    agent.turn(time.monotonic())
    assert forbid_looking(producer) + forbid_looking(producer.slots) + forbid_looking(producer.blocks) >= 6
    assert step.begin_step(()) is None
    step.hear((), WorkerReport())
    step.end_step()
    leases.stats.take()
    # One lease is granted and one is aborted, beside the ten thousand.
    new = grant(producer, "new", pool.get_new_blocks(1))
    agent.abort(refs[7].token)
    agent.turn(time.monotonic())
    step.begin_step(())
    assert (table.word(new.slot), table.word(refs[7].slot)) == (new.token, 0)
    assert producer.blocks.held_leases == 9_999
    assert producer.blocks.held_blocks == 3 * 9_998 + 1


def test_an_engine_may_follow_another_one_in_its_process() -> None:
    """vLLM unregisters the metrics of the engine before by its own names, which are not those of kvlease's metrics."""
    from prometheus_client import REGISTRY, Counter, Gauge, Histogram
    from vllm.v1.metrics.prometheus import unregister_vllm_metrics

    from kvlease.vllm.metrics import LeasePromMetrics, LeaseStats

    kinds = {kind: kind for kind in (Counter, Gauge, Histogram)}
    config: Any = SimpleNamespace(kv_transfer_config=SimpleNamespace())
    for grants in (1, 2):
        unregister_vllm_metrics()
        metrics = LeasePromMetrics(config, kinds, ["model_name", "engine"], {0: ["m", "0"]})
        metrics.observe(LeaseStats().data | {"kvlease_counts": {"grants|": grants}})
        assert REGISTRY.get_sample_value("kvlease:grants_total", {"model_name": "m", "engine": "0"}) == grants


def test_r35_an_image_is_known_by_its_content_where_vllm_only_counts_it() -> None:
    """R35: without processor and prefix caches vLLM only counts images, and equal numbers can be different images."""
    import torch
    from vllm.multimodal.inputs import MultiModalBatchedField, MultiModalFieldElem, MultiModalKwargsItem

    from kvlease.vllm.prompts import fingerprint_of

    def image(name: str, colour: float) -> Any:
        element = MultiModalFieldElem(data=torch.full((3, 4), colour), field=MultiModalBatchedField())
        place = SimpleNamespace(offset=0, length=4)
        return SimpleNamespace(identifier=name, mm_position=place, data=MultiModalKwargsItem({"pixels": element}))

    def media(*images: Any) -> int:
        request = SimpleNamespace(
            lora_request=None, cache_salt=None, prompt_token_ids=[1] * 4, num_prompt_tokens=4, mm_features=list(images),
            prompt_embeds=None, prompt_is_token_ids=None,
        )  # fmt: skip
        return fingerprint_of(cast(Any, request)).media

    first, eighth = "renderer0-mm-1-image-0", "renderer2-mm-8-image-0"
    assert media(image(first, 0.5)) != media(image(first, 0.6))
    assert media(image(first, 0.5)) == media(image(eighth, 0.5))
    assert media(image(f"sql:{first}", 0.5)) != media(image(first, 0.5)), "vLLM writes an adapter before it"
    assert media(image("a hash", 0.5)) == media(image("a hash", 0.6)), "it is believed"


def test_statistics_add_up_across_workers_and_the_scheduler() -> None:
    """R17: counters add, gauges replace, and vLLM's own statistics stay what they are."""
    from kvlease.vllm.metrics import LeaseStats

    one, two = LeaseStats(), LeaseStats()
    one.count("fence_checks", "intact", 2)
    two.count("fence_checks", "intact")
    two.count("fence_checks", "revoked")
    two.set_gauge("active_leases", "", 5)
    two.record_failed_transfer()
    one.aggregate(two)
    assert one.data["kvlease_counts"] == {"fence_checks|intact": 3, "fence_checks|revoked": 1}
    assert one.data["kvlease_gauges"] == {"active_leases|": 5}
    assert one.data["num_failed_transfers"] == [1]
    assert one.reduce()["kvlease fence checks revoked"] == 1
    assert not one.is_empty()
    assert one.clone_and_reset().data["kvlease_counts"]
    assert one.is_empty()
    # The statistics that this vLLM has: each minor has some more.
    recorded = [getattr(one, name) for name in dir(one) if name.startswith("record_") and name != "record_transfer"]
    assert one.record_kv_expired_req in recorded
    for tell in (lambda: one.set_gauge("active_leases", "", 0), *recorded):
        tell()
        assert not one.is_empty()
        one.reset()


@pytest.mark.parametrize("version", ["0.29.0", "0.34.1", "1.0.0", "0.3.2"])
def test_an_untested_vllm_is_refused_with_a_way_out(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvlease.vllm.compat import check_version
    from kvlease.vllm.surface import TRY_ANYWAY

    with pytest.raises(UnsupportedEngine, match=rf"this is vLLM {version}.*0\.32\.x.*{TRY_ANYWAY}=1"):
        check_version(version)
    monkeypatch.setenv(TRY_ANYWAY, "1")
    check_version(version)


@pytest.mark.parametrize(
    ("extra", "parallel", "said"),
    [
        ({"bidirectional_kv_xfer": True}, {}, "bidirectional_kv_xfer is true.*NixlConnector"),
        ({}, {"pipeline_parallel_size": 2}, "pipeline_parallel_size is 2.*Set it to 1"),
        ({}, {"decode_context_parallel_size": 4}, "decode_context_parallel_size is 4"),
        ({}, {"enable_fault_tolerance": True}, "fault tolerance is enabled.*Leave --enable-fault-tolerance out"),
    ],
)
def test_what_cannot_be_guaranteed_is_refused(extra: dict[str, Any], parallel: dict[str, int], said: str) -> None:
    """An engine does not start with settings that stock vLLM runs with and kvlease cannot keep its promises under."""
    from kvlease.vllm.settings import refuse_unguaranteed

    transfer = SimpleNamespace(get_from_extra_config=lambda key, default: extra.get(key, default))
    config: Any = SimpleNamespace(
        kv_transfer_config=transfer, parallel_config=SimpleNamespace(**parallel), model_config=SimpleNamespace()
    )
    with pytest.raises(UnsupportedEngine, match=said):
        refuse_unguaranteed(config)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model_config": SimpleNamespace(enable_sleep_mode=True)}, "sleep mode is enabled.*--enable-sleep-mode out"),
        ({"model_config": SimpleNamespace(enable_return_routed_experts=True)}, "routed-experts is set.*Leave it out"),
        ({"aux_output_config": SimpleNamespace(enable_return_routed_experts=True)}, "routed-experts is set"),
    ],
)
def test_what_vllm_cannot_hand_over_is_refused(more: dict[str, Any], said: str) -> None:
    """R37: kvlease refuses what vLLM refuses for its own connector only, by name, or in some versions only."""
    from kvlease.vllm.settings import refuse_unguaranteed

    usual: dict[str, Any] = {
        "kv_transfer_config": SimpleNamespace(get_from_extra_config=lambda _, default: default),
        "parallel_config": SimpleNamespace(),
        "model_config": SimpleNamespace(),
    }
    with pytest.raises(UnsupportedEngine, match=said):
        refuse_unguaranteed(SimpleNamespace(**usual | more))


def test_the_tested_vllm_is_accepted() -> None:
    from kvlease.vllm.compat import check_version

    check_version("0.32.0")
    check_version("0.32.4+cpu")


def test_the_plugin_makes_the_connector_known_by_name() -> None:
    """`kv_connector_module_path` can be left out, and registering twice is no error."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    from kvlease.vllm import LeasedNixlConnector
    from kvlease.vllm.plugin import register

    register()
    register()
    assert KVConnectorFactory.get_connector_class_by_name("LeasedNixlConnector") is LeasedNixlConnector


@pytest.mark.parametrize("host", ["a b", "\0", "[::", "", "tcp://x", "host:1", "\ud800", "%s", "é"])
def test_a_host_that_is_none_is_an_unavailable_card(host: str) -> None:
    """R14: an endpoint, which comes from a router or a client, may be anything."""
    from kvlease.vllm.side_channel import fetch_card

    with pytest.raises(CardUnavailable, match="no lease card from"):
        fetch_card((host, 9))


def test_every_question_for_a_card_gets_an_answer() -> None:
    from kvlease.vllm.side_channel import SideChannelCards

    cards = SideChannelCards()
    cards.ask(("a b", 9))
    deadline = time.monotonic() + 10
    while not (answers := cards.answers()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert answers == [(("a b", 9), None)]
    cards.close()


def test_reads_without_notices_send_none() -> None:
    """A notice is held back whether it would go with the data or by itself; everything else reaches NIXL."""
    from kvlease.vllm.notices import without_notices

    sent: list[object] = []

    class Agent:
        def make_prepped_xfer(self, *args: object, notif_msg: bytes = b"") -> str:
            sent.append((args, notif_msg))
            return "handle"

        def send_notif(self, name: str, notif_msg: bytes) -> None:
            sent.append((name, notif_msg))

        def transfer(self, handle: str) -> str:
            return f"{handle} posted"

    worker = SimpleNamespace(nixl_wrapper=Agent())

    def read_and_fail() -> None:
        with without_notices(worker):
            assert worker.nixl_wrapper.make_prepped_xfer("READ", 1, 2, notif_msg=b"r:1") == "handle"
            worker.nixl_wrapper.send_notif("P", notif_msg=b"r:1")
            assert worker.nixl_wrapper.transfer("handle") == "handle posted"
            raise KeyError

    with pytest.raises(KeyError):
        read_and_fail()
    worker.nixl_wrapper.send_notif("P", notif_msg=b"stock")
    assert sent == [(("READ", 1, 2), b""), ("P", b"stock")]
