"""What an engine does as a producer and as a consumer, with no word of vLLM: in its scheduler, and in its workers.

`kvlease.vllm` hangs these parts into vLLM's hooks; the simulator hangs the same parts into an engine of its own.
"""
