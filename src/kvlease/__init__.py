"""Leases that hold: the lifetime of KV cache blocks between prefill and decode engines.

`kvlease.protocol` is the lease protocol, pure; `kvlease.agent` the thread that runs it; `kvlease.fence` what makes a
read safe; `kvlease.vllm` the connector. Importing `kvlease` needs neither vLLM nor NIXL nor torch.
"""

__version__ = "0.1.0"
