"""A cache as the Hugging Face hub's client keeps it; every model that vLLM's tests name is a tiny one of ours."""

from pathlib import Path

from kvlease.cluster.model import ModelKind, build_model

NAMES: dict[str, ModelKind] = {
    "facebook/opt-125m": "llama",
    "facebook/opt-350m": "llama",
    "meta-llama/Llama-3.2-1B-Instruct": "llama",
    "Qwen/Qwen3-0.6B": "llama",
    "google/gemma-3-1b-it": "hybrid",
}
_REVISION = "0" * 40


def make_hub(home: Path) -> None:
    """Fill `home` (`HF_HOME`): a link to the model for each name, so nothing is fetched and nothing copied."""
    for name, kind in NAMES.items():
        repository = home / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(_REVISION)
        (repository / "snapshots").mkdir(exist_ok=True)
        snapshot = repository / "snapshots" / _REVISION
        snapshot.unlink(missing_ok=True)
        snapshot.symlink_to(build_model(kind))
