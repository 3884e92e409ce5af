"""A fleet of engines in simulation: the cost and the use of leases under real traffic, compared between policies.

It plays hundreds of producers, thousands of consumers and a million requests in minutes. (`kvlease.sim` is the
simulator that looks for broken promises in one pair of engines; `kvlease.cluster` has real engines.)
"""
