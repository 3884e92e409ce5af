"""A fleet of engines in simulation: the cost and the use of leases under real traffic, compared between policies.

Hundreds of producers, thousands of consumers and a million requests in minutes. (`proof.simulate` is the simulator that
looks for broken promises among a few engines; `proof.realengines` has real engines.)
"""
