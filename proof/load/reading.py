"""The text of an answer, from its bytes: completions and chats, whole or as a stream."""

from typing import Any

import msgspec


def read_text(body: bytes, status: int, *, complete: bool) -> tuple[str | None, str]:
    """Returns the text, or None and the reason why the answer is not whole."""
    if status != 200:
        return None, f"status {status}: {body[:200].decode(errors='replace')}" if status else "no answer"
    if not complete:
        return None, _error_in(body) or "cut"
    try:
        return _of_stream(body) if body.startswith((b"data:", b"event:")) else _of_whole(body)
    except (msgspec.DecodeError, KeyError, IndexError, TypeError) as error:
        return None, f"no answer of an engine ({error!r}): {body[:200].decode(errors='replace')}"


def without_chunks(body: bytes) -> bytes:
    """Returns a body that came in chunks as one piece, as far as it came."""
    parts, at = [], 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            break
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)


def _of_whole(body: bytes) -> tuple[str | None, str]:
    choice = msgspec.json.decode(body)["choices"][0]
    if choice["finish_reason"] not in ("length", "stop"):
        return None, f"finish_reason {choice['finish_reason']}"
    return _said(choice), ""


def _of_stream(body: bytes) -> tuple[str | None, str]:
    if error := _error_in(body):
        return None, error
    events = _events(body)
    if not events or events[-1] != b"[DONE]":
        return None, "a stream without its end"
    choices = [choice for event in events[:-1] for choice in msgspec.json.decode(event)["choices"]]
    if not choices or choices[-1]["finish_reason"] not in ("length", "stop"):
        return None, "a stream without a reason for its end"
    return "".join(map(_said, choices)), ""


def _events(body: bytes) -> list[bytes]:
    return [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]


def _error_in(body: bytes) -> str:
    """The error that a stream says, in words; empty where there is none."""
    for event in _events(body):
        if event.startswith(b'{"error"'):
            return f"an error event: {event[:200].decode(errors='replace')}"
    return ""


def _said(choice: Any) -> str:
    said = choice.get("text")
    if said is None:
        said = (choice.get("delta") or choice.get("message") or {}).get("content")
    return said or ""
