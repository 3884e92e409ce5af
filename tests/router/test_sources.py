"""The places that name engines: a file however it is changed, and the addresses of a name."""

import asyncio
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from kvlease.router.sources import (
    BadEngines,
    EnginesByFlags,
    EnginesByName,
    EnginesInFile,
    ListedEngines,
    parse_file,
    resolve,
    sources_of,
)
from tests.router.settings import settings_of

ONE = b'{"prefill": ["http://p0:8000"], "decode": ["http://d0:8000", "d1:8000"]}'
OTHER = b"prefill: [p0:8000]\ndecode:\n- http://d2:8000/metrics\n"
ROLES = {"http://p0:8000": "prefill", "http://d0:8000": "decode", "http://d1:8000": "decode"}
OTHER_ROLES = {"http://p0:8000": "prefill", "http://d2:8000": "decode"}


def roles(listed: ListedEngines | None) -> dict[str, str] | None:
    return None if listed is None else listed.roles()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "engines.yaml"
    path.write_bytes(ONE)
    return path


def test_a_file_is_json_or_yaml(path: Path) -> None:
    assert parse_file(ONE, path).roles() == ROLES
    assert parse_file(OTHER, path).roles() == OTHER_ROLES
    # Not all JSON is YAML.
    assert parse_file(b'{\t"prefill": [],\n\t"decode": ["d:1"]}', path).roles() == {"http://d:1": "decode"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it must have prefill and decode, each a list of URLs, such as"),
        (b"[1, 2]", "it must have prefill and decode"),
        (b"prefill: []\n", "it must have prefill and decode"),
        (b"{prefill: [], decode: [}", "is neither YAML nor JSON"),
        (b"\x80", "is neither YAML nor JSON"),
        (b'{"prefill": ["http://\xff"], "decode": []}', "is neither YAML nor JSON"),
        (b'{"prefill": ["http://a\\nINFO a line"], "decode": []}', "prefill has no URL"),
        (b'{"prefill": ["http://\\ud800"], "decode": []}', "prefill has no URL"),
        (b'{"prefill": ["http://a b"], "decode": []}', "prefill has no URL"),
        (b'{"prefill": ["http://user:key@a"], "decode": []}', "prefill has no URL"),
        (
            b"prefill: []\ndecode: []\ndecoder: []\n",
            "has 'decoder': it may have prefill and decode, and nothing else",
        ),
        (
            b"prefill: http://p0:8000\ndecode: []\n",
            "prefill must be a list of up to 1000 URLs, and is 'http://p0:8000'",
        ),
        (b"prefill: []\ndecode: [8000]\n", "decode has 8000, which is no URL, such as http://decode-0:8000"),
        (b"prefill: []\ndecode: ['ftp://d0']\n", "decode has no URL: 'ftp://d0' is no URL of an engine"),
        (b"prefill: [a:1]\ndecode: ['http://a:1/']\n", "http://a:1 in prefill and in decode"),
        (b"#" * 256_001, "more than 256,000 bytes"),
        (b"[" * 60, "is neither YAML nor JSON"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_what_is_expected(content: bytes, says: str, path: Path) -> None:
    with pytest.raises(BadEngines, match=r"engines\.yaml") as error:
        parse_file(content, path)
    assert says in str(error.value)


def test_a_file_is_read_at_once_and_then_only_where_it_has_changed(path: Path) -> None:
    source = EnginesInFile(path)
    assert roles(source.look_here()) == ROLES
    assert source.look_here() is None


def test_a_new_content_has_to_be_there_twice_since_it_may_be_half_written(path: Path) -> None:
    source = EnginesInFile(path)
    source.look_here()
    half = OTHER[:15]
    for content in (half, OTHER):
        path.write_bytes(content)
        assert source.look_here() is None
    assert roles(source.look_here()) == OTHER_ROLES
    assert source.look_here() is None


def test_a_file_that_is_replaced_is_found_by_its_name(path: Path) -> None:
    source = EnginesInFile(path)
    source.look_here()
    new = path.with_suffix(".new")
    new.write_bytes(OTHER)
    # The same size and times: the content decides.
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    new.rename(path)
    assert source.look_here() is None
    assert roles(source.look_here()) == OTHER_ROLES


def test_a_config_map_swaps_a_link_two_levels_above(tmp_path: Path) -> None:
    """Kubernetes: engines.yaml -> ..data/engines.yaml, and ..data -> ..2026_1, renamed over to ..2026_2."""
    for name, content in (("..2026_1", ONE), ("..2026_2", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "engines.yaml").write_bytes(content)
    (tmp_path / "..data").symlink_to("..2026_1")
    (tmp_path / "engines.yaml").symlink_to("..data/engines.yaml")
    source = EnginesInFile(tmp_path / "engines.yaml")
    assert roles(source.look_here()) == ROLES
    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert source.look_here() is None
    assert roles(source.look_here()) == OTHER_ROLES


def test_a_bad_content_is_judged_once_and_a_good_one_after_it_is_taken(path: Path) -> None:
    source = EnginesInFile(path)
    source.look_here()
    path.write_bytes(b"decode: []")
    assert source.look_here() is None
    with pytest.raises(BadEngines, match="must have prefill"):
        source.look_here()
    assert source.look_here() is None
    path.write_bytes(ONE)
    assert source.look_here() is None
    assert roles(source.look_here()) == ROLES


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadEngines, match=r"none\.yaml cannot be read: no such file or directory"):
        EnginesInFile(tmp_path / "none.yaml").look_here()


def looked_up(*answers: Iterable[tuple[int, str]] | OSError) -> list[dict[str, str] | str]:
    """The engines that a name gives, look by look, or the error."""
    left = list(answers)

    async def answer(host: str, port: int) -> Iterable[tuple[int, str]]:
        assert (host, port) == ("decode.llm", 8000)
        found = left.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    async def look_all() -> list[dict[str, str] | str]:
        source = EnginesByName("decode", "decode.llm", 8000, 5.0, answer)
        said: list[dict[str, str] | str] = []
        for _ in answers:
            try:
                said.append((await source.look()).roles())
            except BadEngines as error:
                said.append(str(error))
        return said

    return asyncio.run(look_all())


def test_each_address_of_a_name_is_an_engine() -> None:
    assert looked_up([(socket.AF_INET, "10.0.0.1"), (socket.AF_INET, "10.0.0.2"), (socket.AF_INET, "10.0.0.1")]) == [
        {"http://10.0.0.1:8000": "decode", "http://10.0.0.2:8000": "decode"}
    ]
    assert looked_up([(socket.AF_INET6, "fd00::1")]) == [{"http://[fd00::1]:8000": "decode"}]


def test_a_pod_with_addresses_of_both_families_is_one_engine() -> None:
    assert looked_up([(socket.AF_INET6, "fd00::1"), (socket.AF_INET, "10.0.0.1")]) == [
        {"http://10.0.0.1:8000": "decode"}
    ]


def test_a_name_without_an_address_is_a_failure_and_no_empty_list() -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    many = [(socket.AF_INET, f"10.0.{number >> 8}.{number & 255}") for number in range(1001)]
    assert looked_up(unknown, [], many) == [
        "decode.llm cannot be looked up: Name or service not known",
        "decode.llm has 0 addresses: it must have from 1 to 1000",
        "decode.llm has 1001 addresses: it must have from 1 to 1000",
    ]


def test_the_system_is_asked_in_a_thread() -> None:
    async def look() -> ListedEngines | None:
        (source,) = sources_of(
            settings_of(decode=(), prefill=(), prefill_dns=("127.0.0.1:1",), decode_dns=("127.0.0.1:2",))
        )[:1]
        return await source.look()

    assert roles(asyncio.run(look())) == {"http://127.0.0.1:1": "prefill"}


@pytest.mark.parametrize("host", ["decode..llm", "d" * 64 + ".llm"])
def test_a_name_that_can_be_none_is_a_failure_too(host: str) -> None:
    with pytest.raises(BadEngines, match="cannot be looked up"):
        asyncio.run(EnginesByName("decode", host, 8000, 5.0, resolve).look())


def test_sources_are_those_that_are_named(path: Path) -> None:
    settings = settings_of(engines_file=path, decode_dns=("decode.llm:8000",))
    assert [type(source) for source in sources_of(settings)] == [EnginesByFlags, EnginesInFile, EnginesByName]
    assert [source.interval_s for source in sources_of(settings)] == [None, 1.0, 5.0]
