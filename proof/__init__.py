"""The proof that kvlease keeps its promises: they stand as code, and are simulated, explored, attacked and measured.

From the ground up, as imports run:

    promises      S1 to L3, and what judges each
    planted       bugs put into the code under test, which the proofs below have to find
    realengines   vLLM engines, a router and a network on this machine

    failover      real engines: a D or P fails under traffic, routers side by side

    simulate      the product's code on a simulated network, clock and engine, with faults
    explore       small worlds, every order of everything that can happen
    hostile       inputs that strangers could send
    chaos, demo   faults on real engines: many, drawn from a seed; and four, told step by step
    drain         real engines: P drained and stopped under traffic
    monitoring    the dashboard and the alerts, in a real Prometheus, and as pictures

    bench         what a lease costs, beside vLLM's own mechanism in the same run
    questions     an operator's questions to engines in trouble, each answered by one command

    load          the router under load, with fake engines: overhead, many streams, a long run

    cli           `python -m proof`

Nothing of it is in the wheel, and nothing in `src` imports it.
"""

import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: from here, processes of their own find this package."""


def program() -> str:
    """Returns what to write for `python -m proof` here: the interpreter that runs this process need not be `python`."""
    python, here = Path(sys.executable), Path.cwd()
    return f"{shlex.quote(str(python.relative_to(here) if python.is_relative_to(here) else python))} -m proof"
