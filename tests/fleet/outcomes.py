"""Outcomes of runs of a fleet that were never played, for tests of reports and plans."""

from dataclasses import replace
from typing import Any

from kvlease.fleet.outcome import (
    Blocks,
    Cost,
    Distribution,
    FleetOutcome,
    Leases,
    LeaseTraffic,
    Prefills,
    Requests,
    Timeline,
)

PARTS = 4


def outcome(policy: str = "kvlease 30 s", kind: str = "kvlease", **changes: Any) -> FleetOutcome:
    """An outcome of 1,000 requests in 100 s on 1,000 blocks, all answered; `changes` as in `with_`."""
    return with_(
        FleetOutcome(
            policy=policy,
            policy_kind=kind,
            policy_settings={"duration_s": 30.0},
            seed=1,
            window_s=100.0,
            simulated_s=110.0,
            requests=Requests(arrived=1000, right=1000, wrong=0, failed=0, gave_up=0, aborted=0),
            blocks=Blocks(
                capacity=1000,
                held_block_s=5000.0,
                held_share=0.05,
                held_peak=200,
                stranded_block_s=100.0,
                stranded_share=0.001,
                stranded_peak=10,
                stranded_read_block_s=1.0,
                lapsed_block_s=2000.0,
                lapsed_share=0.02,
                blocked_s=0.0,
            ),
            prefills=Prefills(
                done=1000,
                tokens=1_000_000,
                wasted=0,
                wasted_tokens=0,
                repeated=0,
                repeated_tokens=0,
                recomputed=0,
                recomputed_tokens=0,
            ),
            leases=Leases(
                granted=1000,
                ends={"released": 1000},
                lost_while_wanted=0,
                revived=0,
                late_reads=0,
                late_reads_wrong=0,
                late_reads_refused=0,
                reads_not_begun=0,
                takeovers=0,
                failed_reads=0,
            ),
            traffic=LeaseTraffic(
                messages=2000,
                bytes=100_000,
                messages_by_kind={"renew": 2000},
                bytes_by_kind={"renew": 100_000},
                messages_per_request=2.0,
                bytes_per_request=100.0,
                messages_per_s=20.0,
                bytes_per_s=1000.0,
            ),
            goodput_per_s=10.0,
            good_share=1.0,
            right_per_s=10.0,
            ttft=Distribution(1000, 0.2, 0.15, 0.4, 0.9, 1.5),
            per_token=Distribution(1000, 0.02, 0.02, 0.03, 0.04, 0.05),
            crashes=0,
            stalls=0,
            timeline=Timeline(
                part_s=25.0,
                arrived=(250,) * PARTS,
                good=(250,) * PARTS,
                right=(250,) * PARTS,
                wrong=(0,) * PARTS,
                held_blocks=(50.0,) * PARTS,
                stranded_blocks=(1.0,) * PARTS,
                waiting=(2.0,) * PARTS,
                bytes=(25_000,) * PARTS,
                crashes=(0,) * PARTS,
                stalls=(0,) * PARTS,
            ),
            cost=Cost(wall_s=0.5, events=10_000, requests_per_wall_s=2000.0),
        ),
        **changes,
    )


def with_(of: FleetOutcome, **changes: Any) -> FleetOutcome:
    """The outcome with other figures: `window_s=5`, or those of a part as a mapping: `blocks={"capacity": 5}`."""
    parts = {name: replace(getattr(of, name), **new) for name, new in changes.items() if isinstance(new, dict)}
    return replace(of, **(changes | parts))
