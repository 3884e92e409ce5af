"""The parts of the documentation that the code knows: `make docs` writes them, `make check` compares them.

    pages      which page has which parts     vectors    whole files: test vectors of what crosses the wire
    states     diagrams and their tables      messages   types and sizes of messages and of the card
    reference  what a reference consists of   deadlines  when things end
    constants  bounds, rates, waits           settings   what an operator may set
    metrics    what an engine tells           meanings   attribute docstrings, from the source
    doctor     what `kvlease doctor` finds    events     what it writes of each lease
    router     what `kvlease router` decides by
    router_figures  its settings and metrics
    markdown   tables

A part is a function that yields the lines between two marks on a page. What is said there is said in the code: names,
values and types are the code's own, and a meaning is the docstring of the thing that it explains.
"""
