"""Prompts of real English text, always the same ones for the same seed.

The text, `prose.txt`, was written for this project. It is plain ASCII, so with the byte vocabulary of the models made
here a prompt of n characters has n tokens.
"""

import random
import re
from functools import cache
from importlib.resources import files

SHORTEST_TOKENS = 200
LONGEST_TOKENS = 3000


def draw_prompts(count: int, *, seed: int, shortest: int = SHORTEST_TOKENS, longest: int = LONGEST_TOKENS) -> list[str]:
    """`count` prompts of `shortest` to `longest` tokens, no two with the same beginning.

    Each begins with the seed, so that no prefix cache has anything of another seed's prompts, and with a sentence of
    the text, and goes on from there, round the end to the beginning if need be. Raises ValueError where the text has
    too few sentences, or is too short.
    """
    text, starts = _text(), _sentence_starts()
    if not 1 <= shortest <= longest <= len(text):
        raise ValueError(f"prompts of {shortest} to {longest} tokens: lengths must be ordered, from 1 to {len(text)}")
    if count > len(starts):
        raise ValueError(f"{count} prompts with different beginnings: the text has {len(starts)} sentences")
    draw = random.Random(seed)
    round_trip = f"{text} {text}"
    number = f"Letter {seed}. "
    return [(number + round_trip[start:])[: draw.randint(shortest, longest)] for start in draw.sample(starts, count)]


def draw_equal_prompts(count: int, *, seed: int, tokens: int) -> list[str]:
    """`count` prompts of `tokens` tokens each, as `draw_prompts` has them."""
    return draw_prompts(count, seed=seed, shortest=tokens, longest=tokens)


@cache
def _text() -> str:
    return " ".join(files("proof.realengines").joinpath("prose.txt").read_text(encoding="ascii").split())


@cache
def _sentence_starts() -> list[int]:
    text = _text()
    # "Mr. Pell" begins no sentence.
    return [0, *(match.end() for match in re.finditer(r"(?<!Mr)[.?!] (?=[A-Z])", text))]
