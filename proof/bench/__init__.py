"""The cost of a lease, beside that of vLLM's own mechanism in the same run. See `python -m proof bench --help`.

    frame    the parts of all benchmarks: the list of them, processes, pairs of timings, goals, JSON, plots
    core     single calls: a renewal, a step, an interval, a prompt
    wire     bytes and messages
    churn    thousands of leases a second
    fence    reads of words after reads of data
    engines  real engines under traffic
    ends     leases that are over, on real engines
    watched  engines with everything on that an operator can watch
    reality  one crash on real engines and in simulation

`results` has what was measured.
"""
