"""The origin of a result: the commit, and the versions of packages."""

import os
import re
import subprocess
from pathlib import Path

import pytest

import kvlease
from kvlease.console.origin import ENGINE, commit, versions


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of kvlease with one commit."""
    package = tmp_path / "src" / "kvlease"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for arguments in ("init -q", "add .", "-c user.name=n -c user.email=e commit -q -m first"):
        subprocess.run(["git", *arguments.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(kvlease, "__file__", str(package / "__init__.py"))
    return tmp_path


def test_a_clean_checkout_is_named_by_its_commit(checkout: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", commit())
    (checkout / "notes.md").write_text("no code")
    assert re.fullmatch(r"[0-9a-f]{12}", commit())


@pytest.mark.parametrize("name", ["src/kvlease/__init__.py", "src/kvlease/new.py", "proof/new.py"])
def test_code_that_is_not_in_the_commit_marks_it(name: str, checkout: Path) -> None:
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("changed = True")
    assert re.fullmatch(r"[0-9a-f]{12}-dirty", commit())


def test_outside_of_its_checkout_the_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", commit())
    monkeypatch.setitem(os.environ, "PATH", "")
    assert commit() == f"version {kvlease.__version__}", "without git"
    monkeypatch.undo()
    (tmp_path / "kvlease").mkdir()
    monkeypatch.setattr(kvlease, "__file__", str(tmp_path / "kvlease" / "__init__.py"))
    assert commit() == f"version {kvlease.__version__}"


def test_an_installed_package_is_not_named_by_the_checkout_around_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = checkout / ".venv" / "lib" / "python3" / "site-packages" / "kvlease"
    inside.mkdir(parents=True)
    monkeypatch.setattr(kvlease, "__file__", str(inside / "__init__.py"))
    assert commit() == f"version {kvlease.__version__}"


def test_versions_say_what_is_not_installed() -> None:
    assert list(versions(ENGINE)) == ["kvlease", "vllm", "nixl", "torch", "python"]
    assert versions(["no-such-package"])["no-such-package"] == "not installed"
    assert list(versions()) == ["kvlease", "python"]
