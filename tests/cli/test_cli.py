"""`kvlease`: an operator's commands, with nothing installed but the wheel."""

import pytest

from kvlease import __version__
from kvlease.cli import main
from tests.cli.bare import refused_bare


def test_alone_it_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "fleet" in capsys.readouterr().out


def test_it_knows_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_an_installed_package_needs_msgspec_alone() -> None:
    """`pip install kvlease` brings nothing else: the protocol imports, and the command answers with a sentence."""
    script = """
import kvlease, kvlease.agent.loop, kvlease.agent.nixl, kvlease.fence, kvlease.protocol
from kvlease.cli import main
sys.exit(main(["fleet", "compare"]))
"""
    assert "`pip install 'kvlease[fleet]'` installs it" in refused_bare(script)
