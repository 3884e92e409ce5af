"""Each policy in cases that can be computed by hand: one producer, one or two consumers, round numbers.

A prefill takes 0.1 s, a read next to nothing; what cannot be read is computed in 0.1 s.
"""

from dataclasses import replace

import pytest

from kvlease.fleet.outcome import FleetOutcome
from kvlease.fleet.play import play
from kvlease.fleet.policies import Flat, Kvlease, Policy, Stock
from kvlease.fleet.settings import NO_FAULTS, Crash, Fleet, FleetFaults, Stall
from kvlease.fleet.traffic.arrival import Arrival

FLEET = Fleet(
    producers=1,
    consumers=1,
    producer_blocks=1000,
    consumer_blocks=1000,
    consumer_seats=1,
    prefill_fixed_s=0.1,
    prefill_tokens_per_s=1e9,
    recompute_tokens_per_s=1600.0,
    step_fixed_s=0.01,
    step_per_request_s=0.0,
    patience_s=None,
    retries=0,
)
BLOCKS = 10
PROMPT = BLOCKS * FLEET.block_tokens
OCCUPANT = Arrival(0.0, PROMPT, 6000)
"""A request that runs for 60 s in the only seat, while the others wait."""
WAITING = [Arrival(1.0 + 0.2 * number, PROMPT, 10) for number in range(5)]
ALL: list[Policy] = [Flat(480.0), Flat(30.0), Stock(30), Kvlease()]
CRASH = FleetFaults(crashes=(Crash(20.0, "consumer", 0),), restart_s=5.0)
FILL = [Arrival(45.0, 900 * FLEET.block_tokens, 1), Arrival(46.0, 100 * FLEET.block_tokens, 1)]
"""Two requests that together take every block, so that they write all blocks that were freed by then."""


def run(policy: Policy, arrivals: list[Arrival], faults: FleetFaults = NO_FAULTS, fleet: Fleet = FLEET) -> FleetOutcome:
    return play(fleet, policy, arrivals, faults, seed=1)


@pytest.mark.parametrize("policy", ALL, ids=lambda policy: policy.name)
def test_without_faults_every_answer_is_right_and_nothing_is_wasted(policy: Policy) -> None:
    outcome = run(policy, [Arrival(0.5 * number, PROMPT, 10) for number in range(20)])
    assert outcome.requests.right == outcome.requests.arrived == 20
    assert outcome.prefills.done == 20
    assert outcome.prefills.wasted == outcome.prefills.repeated == outcome.prefills.recomputed == 0
    assert outcome.leases.ends == {"released": 20}
    assert outcome.blocks.stranded_block_s == pytest.approx(outcome.blocks.stranded_read_block_s)
    # The terms are: the way, the prefill, the way, the read and two steps, the first token's step.
    assert outcome.ttft.p50 == pytest.approx(0.002 + 0.1 + 0.002 + 0.001 + 0.02 + 0.01, abs=0.002)
    assert outcome.per_token.p50 == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("policy", "least_s", "most_s"),
    [
        # The prefills are around 1.5 s, the crash is at 20 s.
        (Flat(480.0), 461.0, 462.0),
        (Flat(30.0), 11.0, 12.0),
        # The last heartbeat before the crash, at most 5 s old, extends the leases by 20 s.
        (Stock(30), 15.0, 20.1),
        # The next probe (0.25 s) notices the crash; then come the grace, polls, ticks and steps.
        (Kvlease(), 0.0, 0.5),
        (Kvlease({"kv_lease_orphan_grace": 1.0}), 1.0, 1.5),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_after_a_crash_blocks_are_stranded_as_long_as_the_policy_says(
    policy: Policy, least_s: float, most_s: float
) -> None:
    """R3, R18: blocks are stranded after a crash for as long as the policy says."""
    outcome = run(policy, [OCCUPANT, *WAITING], CRASH)
    stranded = outcome.blocks.stranded_block_s - outcome.blocks.stranded_read_block_s
    assert least_s < stranded / (len(WAITING) * BLOCKS) < most_s
    assert outcome.requests.failed == 6
    assert outcome.prefills.wasted == len(WAITING)


def test_nothing_is_prefilled_for_nobody() -> None:
    """Nothing is prefilled again while the only consumer is dead: the same blocks would be stranded once more."""
    outcome = run(Flat(30.0), [OCCUPANT, *WAITING], CRASH, replace(FLEET, retries=3))
    assert outcome.requests.failed == 6
    assert outcome.prefills.repeated == 0


def test_a_second_consumer_takes_over_what_waited_on_a_dead_one() -> None:
    """R23: a second consumer takes over the requests that waited on a dead one."""
    fleet = replace(FLEET, consumers=2, takeover=True, retries=1, retry_pause_s=0.2)
    arrivals = [Arrival(0.1 * number, PROMPT, 6000 if number < 2 else 10) for number in range(8)]
    faults = FleetFaults(crashes=(Crash(20.0, "consumer", 0),), restart_s=1000.0)
    outcome = run(Kvlease(), arrivals, faults, fleet)
    assert outcome.requests.right == 8
    # What D was running is read once more as well, since P needed the memory for nothing else.
    assert outcome.leases.takeovers >= 2
    assert outcome.leases.revived >= 1
    assert outcome.prefills.done == 8
    assert outcome.prefills.recomputed == outcome.prefills.wasted == 0
    assert outcome.leases.lost_while_wanted == 0


def test_what_was_read_is_read_again_only_where_reads_are_checked() -> None:
    """Stock's notice has freed the blocks: who used that reference again would be answered wrongly, sooner or later."""
    fleet = replace(FLEET, consumers=2, takeover=True, retries=1, retry_pause_s=0.2)
    arrivals, faults = [Arrival(0.0, PROMPT, 6000)], FleetFaults(crashes=(Crash(20.0, "consumer", 0),), restart_s=1e3)
    for seed in range(8):
        stock, ours = (play(fleet, policy, arrivals, faults, seed) for policy in (Stock(30), Kvlease()))
        assert stock.requests.right == ours.requests.right == 1
        assert stock.leases.takeovers == ours.prefills.repeated == 0
        assert stock.prefills.repeated == ours.leases.takeovers


def test_a_lease_that_was_over_is_read_as_long_as_nobody_needed_its_memory() -> None:
    """D stands still from 3 s to 63 s with five requests waiting, and P computes little meanwhile."""
    stall = Stall(3.0, "consumer", 0, 60.0, "process")
    outcome = run(Kvlease(), [replace(OCCUPANT, output=400), *WAITING], FleetFaults(stalls=(stall,)))
    assert outcome.requests.right == 6
    assert outcome.leases.ends["expired"] == outcome.leases.late_reads + outcome.leases.revived == len(WAITING)
    assert outcome.prefills.recomputed == outcome.prefills.wasted == outcome.leases.lost_while_wanted == 0
    # They are held for the term of their grant, and once more for a moment.
    assert outcome.blocks.held_block_s < 32 * len(WAITING) * BLOCKS
    assert outcome.blocks.lapsed_block_s > 30 * len(WAITING) * BLOCKS


def test_a_lease_that_was_over_is_held_again_when_it_is_claimed() -> None:
    """D hears of the request at 63 s, long after the term, and has a seat for it 60 s later. P is full meanwhile."""
    stall = Stall(3.0, "consumer", 0, 60.0)
    fill = [Arrival(each.at + 30.0, each.prompt, each.output) for each in FILL]
    outcome = run(Kvlease(), [OCCUPANT, Arrival(5.0, PROMPT, 10), *fill], FleetFaults(stalls=(stall,)))
    assert outcome.requests.right == 4
    assert outcome.leases.revived == 1
    assert outcome.leases.late_reads == outcome.prefills.recomputed == outcome.prefills.wasted == 0
    assert outcome.blocks.blocked_s > 30.0


@pytest.mark.parametrize("kind", ["step", "process"])
@pytest.mark.parametrize("policy", ALL, ids=lambda policy: policy.name)
def test_a_stall_longer_than_the_lease(policy: Policy, kind: str) -> None:
    """R15, R19: D stands still from 3 s to 63 s with five requests waiting; from 45 s P gives its blocks to others."""
    stall = Stall(3.0, "consumer", 0, 60.0, "step" if kind == "step" else "process")
    short = replace(OCCUPANT, output=400)
    outcome = run(policy, [short, *WAITING, *FILL], FleetFaults(stalls=(stall,)))
    lost = outcome.leases.lost_while_wanted
    if policy.name == "flat 480 s":
        assert outcome.requests.wrong == lost == 0
    elif policy.kind in ("flat", "stock"):
        # Neither notices, and heartbeats come with steps, which stand still: others use the blocks.
        assert lost >= len(WAITING)
        assert outcome.requests.wrong >= len(WAITING)
        assert outcome.leases.late_reads_refused == 0
    elif kind == "step":
        # The agent renews on its own thread.
        assert lost == 0
        assert outcome.requests.wrong == outcome.prefills.recomputed == 0
    else:
        assert lost >= len(WAITING)
        assert outcome.requests.wrong == 0
        assert outcome.prefills.recomputed >= len(WAITING)
        assert outcome.leases.late_reads_refused + outcome.leases.reads_not_begun >= len(WAITING)


def test_short_terms_of_stock_are_renewed_with_every_step() -> None:
    """Stock's interval is d // 6, which is 0 for short terms, so that every step renews."""
    outcome = run(Stock(4), [OCCUPANT, *WAITING])
    assert outcome.requests.right == 6
    waited_s = 60.0 - 2.0
    assert outcome.traffic.messages_by_kind["heartbeat"] == pytest.approx(waited_s / 0.01, rel=0.1)


def test_kvlease_renews_all_leases_of_a_pair_with_one_small_message() -> None:
    """R5, R21: one message renews all leases of a pair every extension / 4, however many wait."""
    few, many = (run(Kvlease(), [OCCUPANT, *[Arrival(1.0, PROMPT, 1)] * count]) for count in (1, 60))
    assert few.requests.right == 2
    assert many.requests.right == 61
    assert few.traffic.messages_by_kind["renew"] == pytest.approx(60 / 5, abs=4)
    # Claims come one after the other, as prefills do, and drops, as reads do. Nothing else is sent for them.
    extra = many.traffic.messages_by_kind["renew"] - few.traffic.messages_by_kind["renew"]
    assert extra <= 2 * 59


@pytest.mark.parametrize("policy", [Flat(30.0), Stock(30), Kvlease()], ids=lambda policy: policy.name)
def test_a_read_of_blocks_that_others_have_by_then(policy: Policy) -> None:
    """R19: D stands still when the request comes, and reads as soon as it goes on, long after the term."""
    stall = Stall(3.0, "consumer", 0, 60.0)
    outcome = run(policy, [Arrival(5.0, PROMPT, 10), *FILL], FleetFaults(stalls=(stall,)))
    assert outcome.leases.lost_while_wanted == 1
    assert outcome.leases.late_reads == outcome.leases.late_reads_wrong == 1
    if policy.kind == "kvlease":
        assert (outcome.requests.right, outcome.leases.late_reads_refused, outcome.prefills.recomputed) == (3, 1, 1)
    else:
        assert (outcome.requests.wrong, outcome.leases.late_reads_refused, outcome.prefills.recomputed) == (1, 0, 0)


def test_a_client_that_leaves_between_prefill_and_decode_strands_its_blocks_for_a_term() -> None:
    """A client leaves when only the router knows its reference, which reaches the consumer 2 ms after the prefill."""
    for policy in (Flat(30.0), Stock(30), Kvlease()):
        outcome = run(policy, [Arrival(0.0, PROMPT, 10)], fleet=replace(FLEET, patience_s=0.103))
        assert outcome.requests.gave_up == 1
        assert outcome.leases.lost_while_wanted == 0
        assert outcome.blocks.stranded_block_s == pytest.approx(30 * BLOCKS, rel=0.01)


def test_a_producer_that_stood_still_gives_the_time_back() -> None:
    """R26: a lease that nobody has claimed is not over when its term passes while P stands still."""
    stalls = (Stall(0.05, "consumer", 0, 45.0), Stall(1.2, "producer", 0, 40.0, "process"))
    outcome = run(Kvlease(), [Arrival(1.0, PROMPT, 10)], FleetFaults(stalls=stalls))
    assert outcome.leases.ends == {"released": 1}
    assert outcome.prefills.recomputed == 0


def test_renewals_that_came_while_a_producer_stood_still_count() -> None:
    """R26: a producer that stood still hears the renewals that have arrived before it expires anything."""
    stall = Stall(5.0, "producer", 0, 40.0, "process")
    outcome = run(Kvlease(), [OCCUPANT, *WAITING], FleetFaults(stalls=(stall,)))
    assert outcome.leases.lost_while_wanted == 0
    assert outcome.requests.right == 6


@pytest.mark.parametrize(("policy", "steps"), [(Stock(30), 2), (Kvlease(), 1)], ids=["stock", "kvlease"])
def test_blocks_that_were_read_are_held_until_a_step_ends(policy: Policy, steps: int) -> None:
    """P computes a prompt a second, each in one step. Stock's workers hear as a step begins, and report as it ends."""
    fleet = replace(FLEET, prefill_fixed_s=0.0, prefill_tokens_per_s=float(PROMPT), consumer_seats=9)
    outcome = run(policy, [Arrival(0.0, PROMPT, 10)] * 11, fleet=fleet)
    assert outcome.leases.ends == {"released": 11}
    # Nothing is computed any more when the last one is read: P's steps are short.
    held_s = outcome.blocks.held_block_s / BLOCKS
    assert held_s == pytest.approx(10 * steps - (steps - 1), abs=0.2)


@pytest.mark.parametrize(
    ("slow", "gains_s"),
    [
        # D's engine waits for its agent's next turn on average for half the time between two, and so does P's agent.
        ({"agent_wake_s": 1.0}, 0.05 / 2),
        ({"agent_reading_poll_s": 0.05, "agent_connecting_poll_s": 0.05}, 0.05 / 2),
    ],
    ids=["the engine's word does not wake the agent", "P does not expect the release"],
)
def test_a_release_is_heard_soon(slow: dict[str, float], gains_s: float) -> None:
    """A read takes 0.08 s, so that the claim comes first."""
    quick = replace(FLEET, agent_poll_s=0.05, read_bytes_per_s=PROMPT * FLEET.kv_bytes_per_token / 0.08)
    arrivals = [Arrival(1.03 * number, PROMPT, 1) for number in range(40)]
    fleets = (quick, replace(quick, **slow))  # type: ignore[arg-type]
    stranded = [run(Kvlease(), arrivals, fleet=fleet).blocks.stranded_block_s for fleet in fleets]
    assert stranded[1] - stranded[0] == pytest.approx(gains_s * len(arrivals) * BLOCKS, rel=0.4)
