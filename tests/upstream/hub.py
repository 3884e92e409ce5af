"""A cache such as the Hugging Face hub's client keeps, in which each model that vLLM's tests name is a tiny one."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from kvlease.up.model import build_model

_REVISION = "0" * 40


def make_hub(home: Path) -> None:
    """Fills `home` (`HF_HOME`) with the models that are not there yet."""
    for name, build in _MODELS.items():
        repository = home / "hub" / f"models--{name.replace('/', '--')}"
        if repository.is_dir():
            continue
        repository.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            made = Path(scratch) / "model"
            snapshot = made / "snapshots" / _REVISION
            snapshot.mkdir(parents=True)
            (made / "refs").mkdir()
            (made / "refs" / "main").write_text(_REVISION)
            build(snapshot)
            made.rename(repository)


def _llama(folder: Path) -> None:
    shutil.copytree(build_model(), folder, dirs_exist_ok=True)


def _gemma(folder: Path) -> None:
    """Makes a Gemma with the real one's layers: five of sliding windows of 512, one of full attention; six groups."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    _llama(folder)
    config = Gemma3TextConfig.from_pretrained(build_model("hybrid"))
    config.sliding_window = 512
    config.layer_types = ["sliding_attention"] * 5 + ["full_attention"]
    config.num_hidden_layers = len(config.layer_types)
    config.vocab_size += 1
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    # The tests count on one token for each "hi" of a prompt.
    tokenizer["model"]["vocab"]["hi"] = config.vocab_size - 1
    tokenizer["model"]["merges"] = [["h", "i"]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def _opt(**shape: int) -> Callable[[Path], None]:
    """The builder of a configuration of this shape: no test runs the model, but its heads are divided among ranks."""

    def build(folder: Path) -> None:
        from transformers import OPTConfig

        OPTConfig(architectures=["OPTForCausalLM"], dtype="float16", **shape).save_pretrained(folder)

    return build


_MODELS: dict[str, Callable[[Path], None]] = {
    "facebook/opt-125m": _opt(),
    "facebook/opt-350m": _opt(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, ffn_dim=4096),
    "meta-llama/Llama-3.2-1B-Instruct": _llama,
    "Qwen/Qwen3-0.6B": _llama,
    "google/gemma-3-1b-it": _gemma,
}
