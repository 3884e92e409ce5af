"""A fleet of engines in simulation: what leases cost and save under real traffic, policy beside policy.

Hundreds of producers, thousands of consumers and a million requests in minutes. (`proof.simulate` is the simulator that
looks for broken promises in one pair of engines; `proof.realengines` has real engines.)
"""
