"""Fake prefill and decode engines over HTTP, for tests of routers: vLLM's answers, streams, errors, offers, and faults.

In a test, `async with FakeEngine("decode") as engine: …` listens on a free port, `engine.url`; `engine.behaviour` may
change at any time. `python -m kvlease.testing.http_engines --role decode --port 8200` is one as a process of its own,
whose behaviour is set by `POST /behaviour` and whose books are read by `GET /books`.

The tokens are a function of the prompt and of what came before, so a client knows the right answer
(`toy_model.answer_to`), and a stream that one engine began can be continued by another. A producer offers its blocks as
vLLM's does, with a lease of kvlease's or without, and a consumer takes them at the producer's port: the books say what
was prefilled twice, and which leases ended with nobody having read them.

toy_model   tokens and texts: those of a prompt, and those that follow
behaviour   what an engine does with a request, when it is not to answer it
call        a request as an engine reads it
answers     the forms of vLLM's answers: whole, and as events of a stream
books       what an engine counts, and a producer's leases
blocks      a consumer's way to a producer's leases
connection  HTTP/1.1 of the server's side, with connections that can be cut
engine      the engine: what it does with each request
"""

from kvlease.testing.http_engines.behaviour import Behaviour
from kvlease.testing.http_engines.engine import FakeEngine
from kvlease.testing.http_engines.toy_model import answer_to

__all__ = ["Behaviour", "FakeEngine", "answer_to"]
