"""Exploration finds the bugs that are planted in the product's code, on the shortest way there is."""

import pytest

from proof.explore.scale import Bounds
from proof.explore.search import Limits, Search
from proof.planted import PLANTED

TWO = Bounds(ticks=2, faults=0, sizes=(2, 2))
"""A world in which a second prefill needs a block of the first one's lease."""
READ_BY_ONE = Bounds(ticks=2, faults=0, sizes=(2, 2), consumers=1)
UNREAD = Bounds(ticks=2, faults=0, sizes=(2, 2, 1), blocks=4, slots=3, consumers=0, alike=2, any_order=True)
"""A world in which a block that two leases share is given away before those that they do not."""
REUSED_SLOT = Bounds(ticks=2, faults=1, sizes=(1, 1), slots=1, kinds=("abort_prefill",), by_order=True)
"""A world in which a slot is used again too early."""


def one_lease(*faults: str, ticks: int = 2) -> Bounds:
    return Bounds(ticks=ticks, faults=1 if faults else 0, sizes=(1,), kinds=faults)


FOUND = {
    # The bug's name: a world in which it shows, the promise that breaks, the number of actions before it breaks.
    "no_fence": (TWO, "S1", 8),
    "fence_cleared_after_free": (Bounds(ticks=2, faults=0, sizes=(2, 2), by_order=True), "S3", 1),
    "armed_after_prefill": (one_lease(), "S2", 2),
    "slot_reused_early": (REUSED_SLOT, "S3", 2),
    "aborted_prefill_keeps_its_slot": (one_lease("abort_prefill"), "L3", 2),
    "cleared_after_the_block_was_given": (READ_BY_ONE, "S2", 1),
    "second_way_to_get_blocks": (Bounds(ticks=2, faults=0, sizes=(1, 1), blocks=1), "S2", 1),
    "given_back_without_a_watch": (READ_BY_ONE, "S2", 1),
    "only_the_last_lease_of_a_block_is_told": (UNREAD, "S2", 8),
    "kv_cache_group_forgotten": (READ_BY_ONE, "S2", 3),
    "revived_without_its_blocks": (READ_BY_ONE, "L2", 5),
    "revived_without_a_look": (READ_BY_ONE, "L1", 10),
    "reset_forgets_what_has_lapsed": (one_lease("reset"), "S2", 6),
    "lapsed_slot_reused_early": (Bounds(ticks=2, faults=0, sizes=(1, 1), slots=1, consumers=1), "error", 6),
    "lapsed_lease_ends_at_once": (one_lease(), "L2", 1),
    "revoked_lease_revived": (
        Bounds(ticks=1, faults=1, sizes=(1,), kinds=("revoke",), by_order=True),
        "R25",
        4,
    ),
    "revoked_lease_readable": (one_lease("revoke"), "S2", 3),
    "ended_lease_claimed_again": (READ_BY_ONE, "S3", 5),
    "aged_out_lease_revived": (
        Bounds(ticks=4, faults=1, sizes=(1,), consumers=1, kinds=("consumer_suspects", "producer_suspects", "freeze")),
        "R25",
        13,
    ),
    "released_for_all_consumers": (one_lease("hand_again"), "L2", 4),
    "claims_not_restated": (one_lease("consumer_suspects", "producer_suspects"), "L2", 7),
    "unknown_tokens_ignored": (one_lease(), "R20", 5),
    "no_retransmission": (one_lease("lose"), "L2", 7),
    "failed_sends_ignored": (one_lease("consumer_suspects", "producer_suspects"), "R20", 6),
    "aborted_before_schedule_kept": (one_lease("abort"), "L3", 4),
    "ends_kept_from_the_lessor": (one_lease(), "L3", 1),
    "grant_without_a_term": (one_lease(), "L1", 1),
    "stale_seq_applied": (one_lease("hold"), "L2", 7),
    "used_before_the_verdict": (TWO, "S1", 8),
    "fence_read_before_data": (one_lease(), "L2", 9),
    "restart_of_the_producer_unnoticed": (one_lease("restart", ticks=1), "R20", 4),
    "no_max_age": (one_lease(ticks=1), "R25", 3),
    "second_consumer_refused": (one_lease("hand_again", ticks=1), "R20", 4),
    "no_prompt_check": (Bounds(ticks=1, faults=1, sizes=(1, 1), kinds=("mix_up",)), "S5", 5),
    "ack_of_any_seq_settles": (one_lease("lose", "hold"), "S4", 11),
    "head_only_reaper": (Bounds(ticks=1, faults=0, sizes=(1, 1)), "L1", 10),
    "held_from_the_answer_on": (one_lease("freeze", ticks=3), "L2", 11),
}


def test_what_the_simulator_need_not_find_is_found_here() -> None:
    assert {name for name, bug in PLANTED.items() if bug.within_runs is None} <= FOUND.keys()


QUICK = ("no_fence", "cleared_after_the_block_was_given", "grant_without_a_term")
"""The bugs that `make check` looks for; `make test` looks for all of them."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.sim) for name in FOUND]
)
def test_a_planted_bug_is_found(name: str) -> None:
    bounds, rule, actions = FOUND[name]
    with PLANTED[name].apply():
        found = Search(bounds, limits=Limits(states=20_000)).run()
    assert found.violation is not None
    assert (found.violation.rule, len(found.way)) == (rule, actions)


@pytest.mark.sim
@pytest.mark.parametrize("bounds", dict.fromkeys(bounds for bounds, _, _ in FOUND.values()), ids=str)
def test_without_it_nothing_is_found(bounds: Bounds) -> None:
    assert Search(bounds, limits=Limits(states=1_000)).run().violation is None
