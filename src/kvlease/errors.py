"""The errors of kvlease.

KvLeaseError
├── ConfigError        a setting is not usable: the engine does not start
├── UnsupportedEngine  this vLLM is outside the tested range, or asked for something kvlease does not guarantee
├── BadReference       a `kv_lease` that no producer of ours could have written
├── BadMessage         bytes from a peer that are not a message of this protocol
├── CardUnavailable    nobody serves a lease card where one was asked for
└── PeerGone           the transport says that a peer's process is dead or unreachable
"""


class KvLeaseError(Exception):
    """Whatever a caller of kvlease may want to catch."""


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
    """Nobody serves a lease card at this endpoint, or what is served is none."""


class PeerGone(KvLeaseError, ConnectionError):
    """The transport says that a peer's process is dead or unreachable; what was sent may be lost."""
