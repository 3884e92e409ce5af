"""Prefix affinity: prompts that begin alike go to the prefill engine that has computed that beginning before.

Rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998): each key ranks the
engines by a hash of both, so that an engine that joins or leaves moves its own prompts alone, and routers that know
nothing of each other agree. A short beginning, such as a system prompt, is shared by many: it chooses half of the
engines, so that one of them need not serve all; each longer one halves these again, down to two. A conversation that
grows moves among those that have computed its beginning.

Load bounds it (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018): an engine that has
much more to do than the least loaded one gives way to the next.
"""

from collections.abc import Sequence
from hashlib import blake2b

PREFIX_BYTES = (256, 2048, 16_384)
"""The lengths of the beginnings that are looked at: some 64, 512 and 4096 tokens of English text."""
MUCH_MORE = 1.5
"""An engine gives way where its load is more than this times the least load, and ..."""
SLACK = 2.0
"""... more than that by this many requests: a short queue costs less than to compute a long beginning."""


def keys_of(beginning: bytes, session: str | None = None) -> tuple[bytes, ...]:
    """Returns the keys of a prompt, from the shortest beginning on.

    `beginning`: the first `PREFIX_BYTES[-1]` bytes of what the engine would compute, e.g. the JSON of a chat's
    messages; more of it is ignored. Two that begin alike have to be alike in bytes. `session`: the client's
    `x-session-id`. It is the last key: a session stays at one engine, among those that know its beginning.
    """
    lengths = [length for length in PREFIX_BYTES if length <= len(beginning)]
    if beginning and not lengths:
        lengths = [len(beginning)]
    keys = [_hash(b"prefix", beginning[:length]) for length in lengths]
    if session is not None:
        # The longer beginnings grow with the session, and would move it.
        keys = [*keys[:1], _hash(b"session", session.encode("utf-8", "surrogatepass"))]
    return tuple(keys)


def ranked(keys: Sequence[bytes], engines: Sequence[str]) -> list[str]:
    """Returns all engines in the order in which a prompt with these keys prefers them. Without keys the order is the
    engines' own."""
    order = list(engines)
    among = len(order)
    for key in keys:
        # Those behind the group stay where they are: they are for the time when all of the group are gone.
        order[:among] = sorted(order[:among], key=lambda engine: _hash(key, engine.encode()), reverse=True)
        among = min(among, max(2, (among + 1) // 2))
    return order


def gives_way(load: float, least: float) -> bool:
    """Returns True where an engine with this load has much more to do than the least loaded one."""
    return load > max(least * MUCH_MORE, least + SLACK)


def _hash(key: bytes, value: bytes) -> bytes:
    return blake2b(value, digest_size=8, key=key).digest()
