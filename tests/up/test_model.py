"""Models are built once, whole or not at all. (The engine tests show their contents.)"""

from pathlib import Path

import pytest

from kvlease.up import model
from kvlease.up.model import build_model, default_cache, place_of


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories in which models were built; the weights of each are one word."""
    directories: list[Path] = []

    def build(directory: Path) -> None:
        directories.append(directory)
        (directory / "model.safetensors").write_text("weights")

    monkeypatch.setitem(model.BUILDERS, "llama", build)
    monkeypatch.setattr(model, "_write_tokenizer", lambda directory: (directory / "tokenizer.json").write_text("{}"))
    return directories


def test_a_model_is_built_once_and_found_ever_after(built: list[Path], tmp_path: Path) -> None:
    directory = build_model("llama", tmp_path)
    assert build_model("llama", tmp_path) == directory
    assert len(built) == 1
    assert sorted(path.name for path in directory.iterdir()) == ["model.safetensors", "tokenizer.json"]


def test_a_build_that_fails_leaves_nothing_and_can_be_repeated(
    built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(model, "_write_tokenizer", fail)
        with pytest.raises(OSError, match="disk full"):
            build_model("llama", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert build_model("llama", tmp_path).is_dir()
    assert len(built) == 2


def test_whoever_comes_second_takes_the_firsts_model(
    built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_while_another_does(directory: Path) -> None:
        other = place_of("llama", tmp_path)
        other.mkdir()
        (other / "of-another-process").touch()
        (directory / "model.safetensors").touch()

    monkeypatch.setitem(model.BUILDERS, "llama", build_while_another_does)
    monkeypatch.setattr(model, "_write_tokenizer", lambda _: None)
    directory = build_model("llama", tmp_path)
    assert [path.name for path in directory.iterdir()] == ["of-another-process"]
    assert list(tmp_path.iterdir()) == [directory]
    assert built == []


def test_an_unknown_kind_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="llama, hybrid"):
        build_model("none", tmp_path)  # type: ignore[arg-type]


def test_the_cache_follows_the_users_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "kvlease" / "models"
