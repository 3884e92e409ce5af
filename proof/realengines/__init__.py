"""Real vLLM engines on this machine, with what is around them; demo, chaos, bench and tests play with them.

spec       an engine's description and its command line      engine     the engine: started, stopped, killed
router     a router of prefills and decodes                  network    namespaces, to cut engines off
routers    ours and others', as processes                    prompts    prompts, always the same ones
metrics    what an engine's /metrics said                    cores      the processor cores of P and D

The models, the program of an engine's process, free ports and process groups are the product's (`kvlease.up`).
"""
