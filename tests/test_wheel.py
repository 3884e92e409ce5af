"""The wheel holds the product: what an operator or another engine needs, and nothing of what proves it."""

import subprocess
import sys
from email import message_from_bytes
from email.message import Message
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "protocol",
    "fence",
    "agent",
    "engine",
    "vllm",
    "testing",
    "console",
    "simulation",
    "fleet",
    "metrics",
    "admin",
    "events",
    "top",
    "router",
    "doctor",
    "cli",
}
DATA = {"kvlease/py.typed", "kvlease/fleet/report.html.jinja"}
EXTRAS = {
    "fleet": {"rich", "matplotlib", "jinja2"},
    "observe": {"rich", "textual", "httpx", "prometheus-client", "pyyaml"},
    "router": {"aiohttp", "httptools", "prometheus-client", "pyyaml", "starlette", "uvicorn", "uvloop"},
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return ZipFile(built)


def paths(wheel: ZipFile) -> list[PurePosixPath]:
    return [PurePosixPath(name) for name in wheel.namelist()]


def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_it_holds_the_products_rooms_and_no_other(wheel: ZipFile) -> None:
    package = [path for path in paths(wheel) if not path.parts[0].endswith(".dist-info")]
    assert {path.parts[0] for path in package} == {"kvlease"}
    assert {path.parts[1] for path in package if len(path.parts) > 2} == ROOMS
    assert {str(path) for path in package if path.suffix != ".py"} == DATA


def test_it_needs_msgspec_and_its_extras_what_draws_shows_and_asks(wheel: ZipFile) -> None:
    needed = [text.partition(";") for text in metadata(wheel).get_all("Requires-Dist", [])]
    always = {name for name, _, condition in needed if "extra" not in condition}
    assert [name.partition(">")[0] for name in always] == ["msgspec"]
    assert metadata(wheel).get_all("Provides-Extra") == list(EXTRAS)
    for extra, names in EXTRAS.items():
        assert {name.partition(">")[0] for name, _, condition in needed if f"'{extra}'" in condition} == names


def test_a_vllm_finds_it_as_a_plugin(wheel: ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(name).decode()
    assert "[vllm.general_plugins]\nkvlease = kvlease.vllm.plugin:register" in text
    assert "[vllm.endpoint_plugins]\nkvlease = kvlease.vllm.endpoint:KvleaseEndpoint" in text
