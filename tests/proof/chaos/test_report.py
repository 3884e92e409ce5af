"""The reports of chaos: the table at the end, and chaos.json."""

import json
import re
from dataclasses import replace

from proof.chaos.outcome import SAVED
from proof.chaos.play import describe
from proof.chaos.report import document, table
from proof.chaos.sentences import of_round
from tests.console.shown import shown
from tests.proof.chaos.runs import kept_run, with_answer, with_round


def row(text: str, figure: str) -> str:
    return next(line for line in text.splitlines() if figure in line)


def test_the_table_shows_what_was_promised_of_kvlease_and_kept() -> None:
    text = shown(table([kept_run(), with_answer(kept_run("stock"), "plain", "wrong")]))
    assert "20 requests, 2 faults, seed 1, memory full" in text
    cells = re.split(r" {2,}", row(text, "wrong answers").strip())
    assert cells == ["wrong answers", "0", "1", "0", "kept"]
    assert "0.5 s" in row(text, "blocks free at the latest")


def test_late_reads_that_were_saved_are_counted() -> None:
    run = replace(kept_run(), memory="half", counts={SAVED: 7})
    text = shown(table([run]))
    assert "memory half" in text
    assert "7" in row(text, "late reads saved")
    written = document([run])["runs"][0]
    assert (written["memory"], written["saved"]) == ("half", 7)


def test_a_broken_promise_is_marked() -> None:
    assert "BROKEN" in row(shown(table([with_answer(kept_run(), "plain", "wrong")])), "wrong answers")


def test_stock_alone_is_not_held_to_kvleases_promises() -> None:
    text = shown(table([with_answer(kept_run("stock"), "plain", "wrong")]))
    assert "BROKEN" not in text
    assert "kept" not in text


def test_blocks_that_never_came_free_are_not_hidden_by_a_time() -> None:
    run = kept_run()
    late = replace(run.rounds[0], free_s=None, stranded=3)
    assert "never" in row(shown(table([with_round(run, late)])), "blocks free at the latest")
    assert "never free" in of_round(late)
    assert "3 stranded" in of_round(late)


def test_the_document_has_the_schedule_every_answer_and_every_fault() -> None:
    written = json.loads(json.dumps(document([kept_run()])))
    assert len(written["schedule"]["rounds"]) == 2
    assert sum(len(fault["requests"]) for fault in written["runs"][0]["faults"]) == 20
    assert written["runs"][0]["broken"] == {}
    assert written["versions"]["kvlease"]


def test_a_fault_is_described_with_what_was_drawn_for_it() -> None:
    fault = kept_run().schedule.rounds[0].fault
    assert describe(replace(fault, kind="loss", decoder=1, loss=0.05, lasts_s=8.0)) == "loss d2, 8 s, 5.0%"
    assert describe(replace(fault, kind="kill-p", next_term_s=14, lasts_s=2.0)) == "kill-p, 2 s, term 14 s then"
