"""The table of all processes: what each state looks like, and what is read from pages of metrics."""

from pathlib import Path

import pytest
from rich.console import Console

from kvlease.metrics.scraped import Metrics
from kvlease.router.catalogue import PREFIX
from kvlease.up.looks import ENGINE_METRICS, Look, engine_look, router_look
from kvlease.up.supervision import ProcessPhase, Supervised
from kvlease.up.view import PROCESSES, ProcessNow, UpView, since, state, table

PAGE = """
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 1.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.5
"""
LEASED = """
kvlease:active_leases{engine="0"} 4.0
kvlease:active_leases{engine="1"} 5.0
kvlease:sessions{engine="0",role="consumers"} 2.0
"""
WIDE = 200
ROUTED = """
kvlease_router:requests_total{endpoint="chat",outcome="ok"} 7.0
kvlease_router:requests_total{endpoint="completions",outcome="failed"} 1.0
kvlease_router:handed_on_total{failure="cut"} 2.0
kvlease_router:in_flight 3.0
kvlease_router:draining 0.0
"""


def process(phase: ProcessPhase, look: Look | None = None, last_end: str | None = None) -> ProcessNow:
    supervised = Supervised("decode-0", "decode", phase, since=10.0, start_at=15.0, last_end=last_end)
    return ProcessNow(supervised, look, Path("out/up/decode-0.log"), now=12.0)


def test_a_process_that_was_never_started_is_in_no_state_since_any_time() -> None:
    assert since(process(ProcessPhase.WAITING)).text == "-"
    assert since(process(ProcessPhase.WAITING, last_end="exit 1")).text == "2.0 s"


def test_a_leased_engines_figures_are_those_of_all_its_ranks() -> None:
    look = engine_look("http://e", Metrics.parse(PAGE + LEASED, ENGINE_METRICS), None)
    assert (look.running, look.waiting, look.kv_usage, look.leases, look.sessions) == (4, 2, 0.5, 9, 2)


def test_a_stock_engine_has_what_vllm_tells() -> None:
    look = engine_look("http://e", Metrics.parse(PAGE, ENGINE_METRICS), None)
    assert (look.running, look.waiting, look.leases, look.sessions) == (4, 2, None, None)
    assert look.kv_usage == 0.5


def test_the_routers_figures_are_added_up() -> None:
    look = router_look(Metrics.parse(ROUTED, (PREFIX,)))
    assert (look.requests, look.handed_on, look.running, look.second_prefills) == (8, 2, 3, None)
    shown = table([process(ProcessPhase.READY, look)], WIDE)
    assert shown.caption == ""
    router = Supervised("router", "router", ProcessPhase.READY)
    caption = table([ProcessNow(router, look, Path("router.log"), now=12.0)], WIDE).caption
    assert caption == "router: 8 requests, 2 handed on"


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (process(ProcessPhase.WAITING), "waiting"),
        (process(ProcessPhase.WAITING, last_end="exit 1"), "down"),
        (process(ProcessPhase.STARTING), "starting"),
        (process(ProcessPhase.READY), "up"),
        (process(ProcessPhase.READY, Look(answers=False, error="no answer in time")), "silent"),
        (process(ProcessPhase.READY, Look(answers=True, draining=True)), "draining"),
    ],
)
def test_a_state_is_one_word(shown: ProcessNow, word: str) -> None:
    assert state(shown).text == word


def test_below_the_table_stands_why_something_is_not_up() -> None:
    down = table([process(ProcessPhase.WAITING, last_end="killed by SIGKILL")], WIDE)
    assert down.caption == "decode-0: killed by SIGKILL; starts in 3.0 s"
    silent = table([process(ProcessPhase.READY, Look(answers=False, error="no answer in time"))], WIDE)
    assert silent.caption == "decode-0: no answer in time"
    assert len(next(iter(silent.cells))) == len(PROCESSES)


def test_where_there_is_no_terminal_lines_are_all(capsys: pytest.CaptureFixture[str]) -> None:
    view = UpView(Console(width=100), quiet=False)
    view.show([process(ProcessPhase.READY)], "title")
    view.say("decode-0 starts")
    view.close()
    assert capsys.readouterr().out.strip().endswith("s  decode-0 starts")


def test_on_a_terminal_the_table_is_drawn() -> None:
    console = Console(width=150, force_terminal=True, record=True)
    view = UpView(console, quiet=False)
    view.show([process(ProcessPhase.READY, Look(answers=True, running=3))], "title")
    view.say("decode-0 starts")
    view.close()
    text = console.export_text()
    assert "decode-0 starts" in text
    assert "out/up/decode-0.log" in text


def test_quiet_leaves_what_goes_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    view = UpView(Console(width=100), quiet=True)
    view.say("decode-0 starts")
    view.warn("decode-0 has ended")
    view.lead("at http://127.0.0.1:8000/v1")
    said = capsys.readouterr().out
    assert "decode-0 starts" not in said
    assert "decode-0 has ended" in said
    assert "at http://127.0.0.1:8000/v1" in said


def test_a_narrow_terminal_leaves_out_what_matters_less() -> None:
    columns = {width: table([process(ProcessPhase.READY)], width).headings for width in (60, 80, 200)}
    assert columns[60] == ["process", "state", "running", "waiting", "KV", "leases"]
    assert "log" not in columns[80]
    assert len(columns[200]) == len(PROCESSES)
