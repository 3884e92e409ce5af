"""The model that all fake engines serve: a token is a byte, and the next one is a function of all before it."""

import zlib
from array import array
from collections.abc import Iterable, Sequence

MODEL = "fake-model"
"""The name under which it is served."""
MAX_MODEL_LEN = 32_768
_ALPHABET = b"abcdefghijklmnopqrstuvwxyz     "
"""The tokens that it says: letters, and now and then a space."""


def ids_of(text: str) -> list[int]:
    """Returns a text's tokens."""
    return list(text.encode())


def text_of(ids: Iterable[int]) -> str:
    """Returns the text of tokens. One that is no byte reads as a replacement character."""
    return "".join(chr(each) if each < 128 else "\ufffd" for each in ids)


def digest_of(ids: Sequence[int], before: int = 0) -> int:
    """Returns a digest of tokens that come after others, which `before` is the digest of."""
    return zlib.crc32(array("Q", ids).tobytes(), before)


class Continuation:
    """The tokens that follow a prompt, one after the other, greedily."""

    def __init__(self, prompt: Sequence[int], *, wrong: bool = False) -> None:
        """`wrong`: of an engine that read blocks that are another prompt's by now."""
        self._digest = digest_of(prompt) ^ (0x5A5A5A5A if wrong else 0)

    def next(self) -> int:
        """Returns the next token."""
        token = _ALPHABET[self._digest % len(_ALPHABET)]
        self._digest = digest_of((token,), self._digest)
        return token


def answer_to(prompt: str | Sequence[int], tokens: int) -> str:
    """Returns the right answer to a prompt: the text of so many tokens."""
    continuation = Continuation(ids_of(prompt) if isinstance(prompt, str) else prompt)
    return text_of(continuation.next() for _ in range(tokens))


def rendered(messages: Iterable[object]) -> str:
    """Returns the prompt that a chat's messages become."""
    lines = [
        f"<{message.get('role')}>{_said(message.get('content'))}" for message in messages if isinstance(message, dict)
    ]
    return "\n".join([*lines, "<assistant>"])


def _said(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
