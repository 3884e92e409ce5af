"""The errors of kvlease.

KvLeaseError
├── ConfigError        a setting is not usable: the engine does not start
├── UnsupportedEngine  this vLLM is outside the tested range, or asked for something kvlease does not guarantee
├── BadReference       a `kv_lease` that no producer of ours could have written
├── BadMessage         bytes from a peer that are not a message of this protocol
├── CardUnavailable    nobody serves a lease card where one was asked for
├── AgentGone          an engine's lease agent has ended, and answers nothing
├── PeerGone           the transport says that a peer's process is dead or unreachable
└── ImpossibleEvent    a bug of kvlease's: its tables of states do not know what has happened
"""


class KvLeaseError(Exception):
    """The base of all errors of kvlease."""


class ConfigError(KvLeaseError, ValueError):
    """A setting is not usable. The message names the key, its value, what is allowed, and an example."""


class UnsupportedEngine(KvLeaseError, RuntimeError):
    """This vLLM is outside the tested range, or is asked for something that kvlease does not guarantee."""


class BadReference(KvLeaseError, ValueError):
    """A lease reference that no producer could have written. The message names the field and its value."""


class BadMessage(KvLeaseError, ValueError):
    """Bytes that are not a message of this protocol: the peer's mistake, never ours.

    `kind` is one of a few short words (`magic`, `version`, `size`, `body`), made to be counted.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class CardUnavailable(KvLeaseError):
    """Nobody serves a lease card at this endpoint, or what is served is not a lease card."""


class AgentGone(KvLeaseError):
    """The lease agent of this engine has ended, and answers nothing any more."""


class PeerGone(KvLeaseError, ConnectionError):
    """The transport says that a peer's process is dead or unreachable; what was sent may be lost."""


class ImpossibleEvent(KvLeaseError, RuntimeError):
    """The protocol's tables do not know what has happened in the state that it happened in: a bug of kvlease's own."""


def brief(value: object) -> str:
    """Returns a value that somebody sent, of any kind and size, as at most 40 characters for an error message."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "an integer beyond 64 bits"
    if isinstance(value, str):
        # repr escapes what is not printable, lone surrogates and line ends included.
        text = repr(value[:40])
    else:
        text = repr(value) if isinstance(value, int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."
