"""The proof that kvlease keeps its promises: they stand as code, and are simulated, explored, attacked and measured.

    promises      S1 to L3, and how each is checked
    planted       bugs put into the code under test, which the proofs below have to find
    simulate      the product's code on a simulated network, clock and engine, with faults
    explore       small worlds, every order of everything that can happen
    hostile       inputs that strangers could send
    realengines   vLLM engines, a router and a network on this machine
    chaos, demo   faults on real engines: many, drawn from a seed; and four, told step by step
    bench         what a lease costs, beside vLLM's own mechanism in the same run
    cli           `python -m proof`

Nothing of it is in the wheel, and nothing in `src` imports it.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: from here, processes of their own find this package."""
