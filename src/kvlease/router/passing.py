"""Headers on their way through: those of clients to engines, and those of engines to clients."""

import uuid
from collections.abc import Iterable

REQUEST_ID = "x-request-id"

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""The headers that are about one connection (RFC 9110, 7.6.1)."""
_NOT_TO_ENGINES = _HOP_BY_HOP | {b"host", b"content-length", b"expect", b"accept-encoding", b"accept"}
_NOT_TO_CLIENTS = _HOP_BY_HOP | {b"content-length", b"date", b"server"}

Pairs = Iterable[tuple[bytes, bytes]]


def for_engines(headers: Pairs, engine_key: str | None, drops_key: bool) -> dict[str, str]:
    """Returns the headers that all engines are sent for one request.

    Args:
        headers: the client's, with names in lower case.
        engine_key: takes the place of the client's key.
        drops_key: the client's key is the router's, and no engine's business.
    """
    passed = list(headers)
    named = {name.strip() for key, value in passed if key == b"connection" for name in value.lower().split(b",")}
    sent: dict[str, str] = {}
    for name, value in passed:
        if name not in _NOT_TO_ENGINES and name not in named:
            text, key = value.decode("utf-8", "replace"), name.decode("latin-1")
            sent[key] = f"{sent[key]}, {text}" if key in sent else text
    if engine_key is not None:
        sent["authorization"] = f"Bearer {engine_key}"
    elif drops_key:
        sent.pop("authorization", None)
    if not sent.get(REQUEST_ID):
        sent[REQUEST_ID] = uuid.uuid4().hex
    # What the router has to look into must not be packed.
    sent["accept-encoding"] = "identity"
    return sent


def for_client(headers: Pairs, request_id: str, length: int | None = None) -> list[tuple[bytes, bytes]]:
    """Returns an engine's headers as the client gets them; `length`: of a body in one piece."""
    passed = [(name.lower(), value) for name, value in headers]
    named = {name.strip() for key, value in passed if key == b"connection" for name in value.lower().split(b",")}
    sent = [(key, value) for key, value in passed if key not in _NOT_TO_CLIENTS and key not in named]
    if not any(key == b"x-request-id" for key, _ in sent):
        sent.append((b"x-request-id", request_id.encode("latin-1", "replace")))
    if length is not None:
        sent.append((b"content-length", b"%d" % length))
    return sent
