"""`kvlease top --once`: text, JSON for scripts, and exit statuses."""

from collections.abc import Iterator

import msgspec
import pytest

from kvlease.cli import main
from kvlease.console.arguments import engine_url
from kvlease.top.document import SCHEMA, FleetNow
from tests.cli.bare import refused_bare
from tests.top.serve import Door
from tests.top.stories import fleet, play

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    """The URLs of a fleet of which a decode engine hangs."""
    servers = fleet()
    play(servers, 50.0)
    doors = [Door(server) for server in servers]
    yield [door.url for door in doors]
    for door in doors:
        door.close()


def test_json_has_every_engine_lease_and_session(urls: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--json", *urls]) == 0
    document = msgspec.json.decode(capsys.readouterr().out, type=FleetNow)
    assert document.schema == SCHEMA
    assert [engine.url for engine in document.engines] == urls
    assert [engine.role for engine in document.engines] == ["producer", "producer", "consumer", "consumer"]
    assert (
        len(document.leases) == document.leases_total == sum(engine.active_leases or 0 for engine in document.engines)
    )
    assert {lease.url for lease in document.leases} == set(urls[:2])
    assert {session.engine_id for session in document.consumers} == {"decode-0", "decode-1"}
    assert {session.url for session in document.producers} == set(urls[2:])


def test_an_engine_that_does_not_answer_is_in_it_and_changes_the_status(
    urls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--once", "--json", urls[0], NOBODY]) == 1
    there, gone = msgspec.json.decode(capsys.readouterr().out)["engines"]
    assert there["answers"]
    assert (gone["url"], gone["answers"], gone["error"]) == (NOBODY, False, "connection refused")
    assert gone["since"] is not None
    assert gone["held_bytes"] is None


def test_text_has_a_table_of_each_kind(urls: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", *urls, NOBODY]) == 1
    text = capsys.readouterr().out
    assert "127.0.0.1:1: connection refused" in text
    for line in ("\nleases\n", "\nsessions\n", " lends ", "claimed", "unheard"):
        assert line in text
    assert max(len(line) for line in text.splitlines()) <= 140
    assert "…" not in text


def test_without_a_terminal_it_says_what_does_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", NOBODY]) == 3
    assert "`kvlease top --once`" in capsys.readouterr().out


def test_json_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--json", NOBODY]) == 2
    assert "--once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("p:8000", "http://p:8000"),
        ("http://p:8000/", "http://p:8000"),
        ("https://p/base/metrics", "https://p/base"),
        ("http://p:8000/v1/", "http://p:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_url_may_be_short(text: str, meant: str) -> None:
    assert engine_url(text) == meant


@pytest.mark.parametrize("command", ["top", "doctor"])
@pytest.mark.parametrize("text", ["", "ftp://p:1", "http://", "p:99999", "http://p:8000/?a=b"])
def test_what_is_no_url_is_refused_before_anything_is_asked(
    text: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main([command, text])
    assert refused.value.code == 2
    assert "such as http://prefill-0:8000" in capsys.readouterr().err


def test_without_its_packages_it_says_what_installs_them() -> None:
    script = f'from kvlease.cli import main\nsys.exit(main(["top", "--once", "{NOBODY}"]))'
    assert "`pip install 'kvlease[observe]'` installs it" in refused_bare(script)
