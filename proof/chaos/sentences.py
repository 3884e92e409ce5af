"""Outcomes in words, for the lines that a run writes while it goes on."""

from collections import Counter

from proof.chaos.outcome import VERDICTS, RoundOutcome


def of_round(outcome: RoundOutcome) -> str:
    """Describes what came of one fault: the answers, and when the blocks were free."""
    found = Counter(request.verdict for request in outcome.requests)
    answers = ", ".join(_marked(verdict, found[verdict]) for verdict in VERDICTS if found[verdict])
    free = "blocks never free" if outcome.free_s is None else f"blocks free after {outcome.free_s:.1f} s"
    if outcome.stranded:
        free = f"[bold red]{free}, {outcome.stranded} stranded[/bold red]"
    died = f"; [bold red]died: {', '.join(outcome.died)}[/bold red]" if outcome.died else ""
    refused = [r for r in outcome.requests if r.request.client == "after" and r.verdict != "right"]
    after = f"; [red]{len(refused)} not right after the fault[/red]" if refused else ""
    return f"    term {outcome.round.final_term_s} s: {answers}; {free}{died}{after}"


def _marked(verdict: str, count: int) -> str:
    text = f"{count} {verdict}"
    return f"[bold red]{text}[/bold red]" if verdict == "wrong" else text
