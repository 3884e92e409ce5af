"""An engine's figures: from its page alone, with its health, and where a version does not have them."""

import pytest

from kvlease.admin.answers import Health
from kvlease.metrics.catalogue import METRICS
from kvlease.metrics.metric import Kind
from kvlease.metrics.scraped import Metrics
from kvlease.top.document import EngineNow
from kvlease.top.figures import COUNTERS, GAUGES, LABELLED_COUNTERS, LABELLED_GAUGES, READ, engines_now
from tests.top.canned import CannedEngine, consumer, lease

URL = "http://p:8000"


def producer(rank: int = 0) -> CannedEngine:
    leases = [lease(1, 0.5, 160), lease(2, 2.0, 320, "d"), lease(3, 50.0, 32, state="lapsed", cause="released")]
    engine = CannedEngine("p", rank, leases, [consumer("d", "active", 11.0, leases)], usage=0.25)
    engine.counters = {
        "grants_total": 3,
        'lease_ends_total{cause="released"}': 1,
        'fence_checks_total{verdict="revoked"}': 2,
    }
    return engine


def of(text: str, health: Health | None = None) -> list[EngineNow]:
    return engines_now(URL, Metrics.parse(text, READ), health, None)


def test_a_page_alone_tells_what_is_held_and_for_whom_nobody_is_heard() -> None:
    (engine,) = of(producer().page())
    assert (engine.active_leases, engine.claimed_leases, engine.lapsed_leases) == (2, 1, 1)
    assert (engine.held_tokens, engine.held_blocks, engine.held_bytes) == (480, 30, 30 << 21)
    assert engine.unheard_leases == {"dead": 0, "silent": 1}
    assert engine.unheard_tokens == {"dead": 0, "silent": 320}
    assert engine.lease_ends == {"released": 1}
    assert engine.fence_checks == {"revoked": 2}
    assert (engine.kv_cache_usage, engine.agent, engine.draining, engine.role) == (0.25, "up", False, "both")
    assert (engine.engine_id, engine.admin) == (None, False)


def test_page_and_health_tell_the_same_in_their_two_ways() -> None:
    """The names are the same: what one of them spells otherwise would be found here."""
    (by_page,) = of(producer().page())
    (by_health,) = of("", Health([producer().health()]))
    for name in (*GAUGES, *LABELLED_GAUGES, "agent", "draining"):
        assert getattr(by_page, name) == getattr(by_health, name), name
        assert getattr(by_page, name) is not None, name
    assert by_health.admin
    assert by_health.engine_id == "p"


def test_what_is_read_is_in_the_catalogue() -> None:
    """A metric that gets another name there would be missing here, and nobody would see it."""
    read = dict.fromkeys((*GAUGES, "agent_up", "draining"), (Kind.GAUGE, ""))
    read |= {name: (Kind.GAUGE, label) for name, label in LABELLED_GAUGES.items()}
    read |= dict.fromkeys(COUNTERS, (Kind.COUNTER, ""))
    read |= {name: (Kind.COUNTER, label) for name, label in LABELLED_COUNTERS.items()}
    read["renewals"] = (Kind.COUNTER, "direction")
    assert {name: (METRICS[name].kind, METRICS[name].label) for name in read} == read


def test_the_health_is_newer_than_the_page() -> None:
    engine = producer()
    page = engine.page()
    engine.leases = []
    (now,) = of(page, Health([engine.health()]))
    assert (now.active_leases, now.held_bytes, now.grants) == (0, 0, 3)


def test_each_rank_is_an_engine() -> None:
    both = of(producer(0).page() + producer(1).page(), Health([producer(1).health()]))
    assert [(engine.rank, engine.admin) for engine in both] == [(0, False), (1, True)]
    assert [engine.active_leases for engine in both] == [2, 2]


def test_a_figure_that_nobody_tells_is_none_and_not_0() -> None:
    (engine,) = of('kvlease:active_leases{engine="0"} 3\n')
    assert (engine.active_leases, engine.held_bytes, engine.unheard_leases, engine.draining) == (3, None, None, None)
    assert (engine.agent, engine.grants, engine.kv_cache_usage) == (None, None, None)


@pytest.mark.parametrize(("grants", "agent"), [(0, None), (1, "dead")])
def test_an_engine_that_has_reported_nothing_yet_is_not_dead(grants: int, agent: str | None) -> None:
    """vLLM shows each metric as 0 until an engine step brings the first report."""
    created = "kvlease:grants_created 1.7e9\n"
    (engine,) = of(f"kvlease:agent_up 0\nkvlease:grants_total {grants}\n{created}vllm:kv_cache_usage_perc 0.5\n")
    assert engine.agent == agent


def test_a_page_of_a_stock_engine_has_no_engine_of_ours() -> None:
    assert of("vllm:kv_cache_usage_perc 0.5\n") == []


@pytest.mark.parametrize(
    ("lines", "role"),
    [
        ("kvlease:grants_total 0\n", None),
        ("kvlease:grants_total 4\n", "producer"),
        ('kvlease:sessions{role="consumers"} 1\n', "producer"),
        ('kvlease:fence_checks_total{verdict="intact"} 1\n', "consumer"),
        ('kvlease:renewals_total{direction="sent"} 1\n', "consumer"),
        ('kvlease:grants_total 4\nkvlease:sessions{role="producers"} 1\n', "both"),
    ],
)
def test_the_role_is_told_by_what_it_has_done(lines: str, role: str | None) -> None:
    (engine,) = of("kvlease:agent_up 1\n" + lines)
    assert engine.role == role
