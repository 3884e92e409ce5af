"""The promises S1 to L3 (docs/protocol/index.md) as code. The judges of each, by proof:

    S1  simulation, exploration   promises.safety.Safety.used
        chaos                     chaos.judge.wrong_answers
    S2  simulation, exploration   promises.safety.Safety.granted, promises.safety.Safety.given
        simulation, too           simulate.promises.Promises.gives, simulate.prefill.PrefillScheduler.check_references
        exploration, too          explore.judging.check_held
    S3  simulation, exploration   promises.safety.Safety.prepared, promises.safety.Safety.armed,
                                  promises.safety.Safety.slot_released, promises.standing.Settled.lapsed
    S4  simulation, exploration   promises.standing.Settled.check
    S5  simulation, exploration   promises.safety.Safety.used
        chaos                     chaos.judge.wrong_answers, whose clients have references mixed up
    L1  simulation                simulate.stranded.Stranded.check
        exploration               explore.liveness.LivenessChecks.is_given_back
        chaos                     chaos.judge.stranded_blocks
    L2  simulation, exploration   promises.standing.check_beliefs
        simulation, too           simulate.promises.Promises.agent_took_a_turn,
                                  simulate.promises.Promises.verified
        exploration, too          explore.liveness.LivenessChecks.is_kept
    L3  simulation, exploration   promises.structure.lessor_is_empty, promises.structure.lessee_is_empty
        simulation, too           simulate.stranded.Stranded.check_nothing_is_held
        exploration, too          explore.liveness.LivenessChecks.converges
        chaos                     chaos.judge.leftovers, chaos.judge.unanswered_after

A judge raises `Violation` with the number of the promise; those of chaos name each case. Chaos looks at answers and
blocks alone, so S2 to S4 show there as wrong answers.

What a router promises has names, and not numbers; `proof/simulate/failover.py` says what they mean. Simulation judges
them: simulate.failover.FailoverPromises.decided, simulate.failover.FailoverPromises.check. The small world, which is
struck at every point, is held to more: simulate.points.play_point.

    safety     the books of slots, words, blocks and data   structure  what lessor and lessee keep (R12)
    standing   what consumers believe, and producers hold   watched    a fence table that is looked at from outside
"""
