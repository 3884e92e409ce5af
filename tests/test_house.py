"""The imports of the package's files have no circle: no file needs itself, directly or through others."""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import kvlease
import proof

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
FLOORS = (
    "kvlease",
    "kvlease.errors kvlease.logs",
    "kvlease.protocol kvlease.routing kvlease.simulation kvlease.console",
    "kvlease.fence kvlease.fleet kvlease.metrics",
    "kvlease.agent kvlease.engine kvlease.events kvlease.testing",
    "kvlease.admin",
    "kvlease.vllm kvlease.top kvlease.router",
    "kvlease.doctor kvlease.up",
    "kvlease.cli",
    "proof",
    "proof.promises proof.planted proof.realengines",
    "proof.failover",
    "proof.simulate proof.explore proof.hostile proof.chaos proof.demo proof.drain proof.monitoring",
    "proof.bench proof.questions",
    "proof.load",
    "proof.cli",
    "proof.__main__",
)
"""The rooms, from the ground up: each needs rooms below its own floor alone."""


def modules(src: Path) -> dict[str, Path]:
    """Every file of a source tree by the name under which it is imported."""
    return {
        ".".join(path.relative_to(src).with_suffix("").parts).removesuffix(".__init__"): path
        for path in src.rglob("*.py")
    }


@cache
def tree(text: str) -> ast.Module:
    """A file as Python reads it; each is read by several tests."""
    return ast.parse(text)


def imported(path: Path, known: Collection[str]) -> Iterator[str]:
    """The known modules that a file imports anywhere, also inside functions and for types alone."""
    for node in ast.walk(tree(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: write the whole name of the module"
            modules_or_names = (f"{node.module}.{alias.name}" for alias in node.names)
            asked = (each if each in known else str(node.module) for each in modules_or_names)
            yield from (module for module in asked if module in known)


def needs(src: Path) -> dict[str, set[str]]:
    """The modules of a source tree, and which of them each imports."""
    known = modules(src)
    return {module: set(imported(path, known)) for module, path in known.items()}


@cache
def product_and_proof() -> Mapping[str, set[str]]:
    known = modules(SRC) | {f"proof.{name}": path for name, path in modules(ROOT / "proof").items()}
    known["proof"] = known.pop("proof.__init__")
    return {module: set(imported(path, known)) for module, path in known.items()}


def test_no_file_needs_itself() -> None:
    """Files in a circle are one file in several pieces: nobody can read, test or move one of them alone."""
    found = product_and_proof()
    assert {"kvlease.cli.main", "proof.cli.main"} <= set(found), "the files were not found"
    # It raises CycleError with the modules of a circle.
    TopologicalSorter(found).prepare()


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_every_room_needs_those_below_it_alone() -> None:
    """The product needs nothing of the proof, and the protocol nothing of anybody."""
    floor = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
    found = product_and_proof()
    assert {room(module) for module in found} == set(floor), "FLOORS are not the rooms that there are"
    up = [
        f"{module} needs {other}"
        for module, others in found.items()
        for other in others
        if room(other) != room(module) and floor[room(other)] >= floor[room(module)]
    ]
    assert up == []


@pytest.mark.parametrize("package", [kvlease, proof], ids=lambda package: package.__name__)
def test_a_package_says_which_rooms_it_has_from_the_ground_up(package: ModuleType) -> None:
    own = f"{package.__name__}."
    said = [
        {
            own + name
            for line in re.findall(r"^    (\w+(?:, \w+)*)  ", paragraph, re.MULTILINE)
            for name in line.split(", ")
        }
        for paragraph in str(package.__doc__).split("\n\n")
    ]
    floors = [{name for name in floor.split() if name.startswith(own)} - {"proof.__main__"} for floor in FLOORS]
    assert [names for names in said if names] == [names for names in floors if names]


def test_a_package_that_lists_its_modules_lists_all() -> None:
    """`agent.nixl` is left out: its package's own file must not name NIXL (`test_rooms.py`)."""
    texts = {path.parent: ast.get_docstring(tree(path.read_text())) or "" for path in packages()}
    listing = {folder: text for folder, text in texts.items() if re.search(r"^ *\w+(, \w+)*  ", text, re.MULTILINE)}
    assert len(listing) > 10, "the lists were not found"
    missing = [
        str(path.relative_to(ROOT))
        for folder, text in listing.items()
        for path in folder.glob("*.py")
        if not path.stem.startswith("__") and path.stem != "nixl" and not re.search(rf"\b{path.stem}\b", text)
    ]
    assert missing == []


def packages() -> Iterator[Path]:
    yield from SRC.rglob("__init__.py")
    yield from (ROOT / "proof").rglob("__init__.py")


def test_a_class_name_stands_once() -> None:
    """One name is one concept: nobody has to ask which `Request` is meant."""
    places: dict[str, list[Path]] = {}
    for path in [*SRC.rglob("*.py"), *(ROOT / "proof").rglob("*.py")]:
        for node in tree(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path)
    assert len(places) > 300, "the classes were not found"
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    "back",
    [
        "import house.a",
        "from house.a import A",
        "from house import a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.a import A",
        "def f():\n    from house.a import A",
    ],
)
def test_a_circle_is_found_however_it_is_written(back: str, tmp_path: Path) -> None:
    house = tmp_path / "house"
    house.mkdir()
    for name, text in {"__init__": "", "a": "from house.b import B\n", "b": "import os\n"}.items():
        (house / f"{name}.py").write_text(text)
    TopologicalSorter(needs(tmp_path)).prepare()
    (house / "b.py").write_text(back)
    with pytest.raises(CycleError):
        TopologicalSorter(needs(tmp_path)).prepare()
