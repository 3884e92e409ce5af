"""R35: prompts that are no tokens are answered rightly, whether they are those that P computed or others."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.prompts import draw_prompts
from tests.realengines.pairs import Pair, Scene, consumer, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(240)]

ALLOWED = {"extra_args": ("--enable-prompt-embeds",)}
OTHER_PROMPTS = "kvlease:other_prompts_total"


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    yield from running_pair(producer(model, **ALLOWED), consumer(model, **ALLOWED), logs)


def embedded(model: Path, prompt: str) -> str:
    """The embeddings of the prompt's tokens as vLLM takes them: a tensor that torch has saved, in base64."""
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(prompt).ids
    saved = io.BytesIO()
    torch.save(load_file(model / "model.safetensors")["model.embed_tokens.weight"][ids], saved)
    return base64.b64encode(saved.getvalue()).decode()


def test_embeddings_are_computed_again_and_keep_nothing_on_p(pair: Pair, model: Path) -> None:
    """R35: vLLM reads as many tokens as a prompt has ids, so none of embeddings alone: D computes them, as on stock."""
    prompt = draw_prompts(1, seed=230, longest=900)[0]

    async def scene(s: Scene) -> None:
        embeds = embedded(model, prompt)
        params = await s.hand_off(None, prompt_embeds=embeds)
        answer = await s.use(None, params, prompt_embeds=embeds)
        assert answer.token_ids == await s.right(prompt)

    with pair.counting(ends={"released": 1}, checks={}):
        pair.play(scene)


def test_other_embeddings_are_not_answered_from_them(pair: Pair, model: Path) -> None:
    computed, asked = (prompt[:500] for prompt in draw_prompts(2, seed=231, shortest=600))

    async def scene(s: Scene) -> None:
        params = await s.hand_off(None, prompt_embeds=embedded(model, computed))
        answer = await s.use(None, params, prompt_embeds=embedded(model, asked))
        assert answer.token_ids == await s.right(asked)
        assert (await s.from_the_cache_of(pair.d, asked)).token_ids == await s.right(asked)

    before = pair.d.metrics().value(OTHER_PROMPTS, reason="media")
    with pair.counting(ends={"expired": 1}, checks={}):
        pair.play(scene)
    pair.d.wait_for_metrics(
        lambda m: m.value(OTHER_PROMPTS, reason="media") == before + 1, "done with the other prompt"
    )
