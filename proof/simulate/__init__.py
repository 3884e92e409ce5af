"""The product's own protocol, agent and fence code on a simulated network, clock and engine, to be proved wrong.

Nothing here runs in an engine. All chance comes from a seed; the same seed and commit give the same run.
"""
