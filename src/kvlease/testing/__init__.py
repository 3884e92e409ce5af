"""Fakes for tests: kvlease's own, and those of whoever builds on it. None needs a network, a GPU or another process;
fake engines speak HTTP over loopback.

network      a network inside one process, with faults, and a `Transport` on it
cards        lease cards from a dict
desk         what an engine says to its agent, kept until somebody carries it over
pool         a pool of KV cache blocks in vLLM's order
clock        a clock that is set by hand
data_agent   an agent of the data plane whose reads end when the test says so
benches      one half of the protocol, with time that passes only in the test
http_engines prefill and decode engines that answer over HTTP as vLLM does, and fail as they are told
"""
