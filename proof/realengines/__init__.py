"""Real vLLM engines on this machine, with what is around them; demo, chaos, bench and tests play with them.

spec       an engine's description and its command line      engine     the engine: started, stopped, killed
serve      the program of its process                        processes  the processes of an engine
router     a router of prefills and decodes                  network    namespaces, to cut engines off
routers    ours and others', as processes
model      tiny models                                       prompts    prompts, always the same ones
metrics    what an engine's /metrics said                    ports      free ports
cores      the processor cores of P and D
"""
