"""The models that the engines serve: tiny, random, and made here, since no weights are to be downloaded.

`python -m kvlease.up.model` makes the one of `kvlease up`, and prints its directory.

The weights are drawn with a wide initialiser (0.3 instead of 0.02), so that the greedy answer depends on every token of
the prompt: an engine that reads wrong KV then gives wrong tokens. The vocabulary is the 256 bytes and three special
tokens; of plain English, one character is one token. They are kept in float32: in bfloat16 two tokens are now and then
as likely as each other, and a prompt computed in other pieces then has another, equally right answer.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

ModelKind = Literal["llama", "hybrid", "mamba"]

MODEL_KINDS: tuple[ModelKind, ...] = ("llama", "hybrid", "mamba")
MAX_POSITIONS = 8192
"""Tokens of prompt and answer together that the models can hold."""

_SEED = 20260
_BYTES = 256
_SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
_VOCABULARY = _BYTES + len(_SPECIAL_TOKENS)
_PAD, _BOS, _EOS = range(_BYTES, _VOCABULARY)
_CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
"""The form in which a model that has learnt nothing is shown a chat."""
_RECIPE = 5
"""A part of the directory's name: raise it whenever the models below change, so that nobody serves an old one."""


def default_cache() -> Path:
    """The directory of models between runs: `$XDG_CACHE_HOME/kvlease/models`, or the same under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvlease" / "models"


def place_of(kind: ModelKind, cache: Path | None = None) -> Path:
    """The directory in which the model of this kind is kept, whether or not it is there yet."""
    return (cache or default_cache()) / f"{kind}-{_RECIPE}"


def build_model(kind: ModelKind = "llama", cache: Path | None = None) -> Path:
    """Returns the directory of a model to serve, which is made on first use (some seconds), and found there later.

    Building is atomic, so several processes may ask at once. Raises ValueError for a kind that is none.
    """
    if kind not in MODEL_KINDS:
        raise ValueError(f"no model kind {kind!r}: choose one of {', '.join(MODEL_KINDS)}")
    directory = place_of(kind, cache)
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=directory.parent))
    try:
        BUILDERS[kind](scratch)
        _write_tokenizer(scratch)
        _move_into_place(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def _move_into_place(scratch: Path, directory: Path) -> None:
    scratch.chmod(0o755)
    try:
        scratch.rename(directory)
    except OSError:
        # Another process was faster; its model is the same to the bit.
        if not directory.is_dir():
            raise


def _common_settings() -> dict[str, Any]:
    return {
        "vocab_size": _VOCABULARY,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": MAX_POSITIONS,
        "initializer_range": 0.3,
        "pad_token_id": _PAD,
        "bos_token_id": _BOS,
        "eos_token_id": _EOS,
        "tie_word_embeddings": False,
    }


def _build_llama(directory: Path) -> None:
    """Full attention in every layer: one KV cache group."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(_SEED)
    _save(LlamaForCausalLM(LlamaConfig(**_common_settings())), directory)


def _build_hybrid(directory: Path) -> None:
    """Sliding-window and full attention by turns, as Gemma 3 does: two KV cache groups."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(_SEED)
    config = Gemma3TextConfig(
        **_common_settings(),
        sliding_window=128,
        # Unscaled scores: sharp attention, so that one wrong block far back shows in the answer.
        query_pre_attn_scalar=1,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    _save(Gemma3ForCausalLM(config), directory)


def _build_mamba(directory: Path) -> None:
    """Mamba and attention by turns, as Granite 4 does: what Mamba keeps of a prompt is one state."""
    import torch
    from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM

    torch.manual_seed(_SEED)
    config = GraniteMoeHybridConfig(
        **_common_settings(),
        layer_types=["mamba", "attention"] * 2,
        num_local_experts=0,
        num_experts_per_tok=0,
        shared_intermediate_size=512,
        position_embedding_type="rope",
        mamba_n_heads=8,
        mamba_d_state=64,
        mamba_chunk_size=64,
    )
    _save(GraniteMoeHybridForCausalLM(config), directory)


def _save(model: Any, directory: Path) -> None:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    # The precision that vLLM computes in; saved in it, nothing is converted at every start.
    model.to(torch.float32).save_pretrained(directory)


BUILDERS: dict[ModelKind, Callable[[Path], None]] = {
    "llama": _build_llama,
    "hybrid": _build_hybrid,
    "mamba": _build_mamba,
}
"""The functions that write a model of each kind into an empty directory, all but the tokenizer."""


def _write_tokenizer(directory: Path) -> None:
    """A tokenizer of bytes: no merges, so nothing has to be learnt or fetched."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad, bos, eos = _SPECIAL_TOKENS
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        model_max_length=MAX_POSITIONS,
        chat_template=_CHAT,
    ).save_pretrained(directory)
    # Saved without a class that vLLM would have to guess.
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")


if __name__ == "__main__":
    print(build_model())
