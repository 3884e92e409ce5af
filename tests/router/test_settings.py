"""The settings: what is refused names the option, its value, what is allowed, and an example."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kvlease.errors import ConfigError
from kvlease.router.settings import (
    ENGINE_KEY_VARIABLE,
    KEYS_VARIABLE,
    NUMBERS,
    RouterSettings,
    from_environment,
)
from tests.router.settings import settings_of

KEY = "0123456789abcdef"


def test_every_number_is_checked_and_its_default_is_allowed() -> None:
    settings_of()
    numbers = {each.name for each in fields(RouterSettings) if type(each.default) in (int, float)}
    assert numbers == {number.name for number in NUMBERS}


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_a_number_outside_its_range_is_refused(number: Any) -> None:
    for value in (number.low - 1, number.high * 2 + 1, "5", True, None, float("nan")):
        with pytest.raises(ConfigError, match=f"^{number.flag} is {value!r}: the {number.meaning}, must be a") as error:
            settings_of(**{number.name: value})
        assert f"for example {number.flag} " in str(error.value)
    settings_of(**{number.name: number.low})
    settings_of(**{number.name: number.high})


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"decode": ()}, "there is no decode engine: name them by --decode"),
        ({"prefill": ()}, "there is no prefill engine: name them by --prefill"),
        ({"prefill": ("http://d0:8000",)}, "http://d0:8000 is named by --prefill and by --decode"),
        ({"decode_dns": ("decode",)}, "--decode-dns is 'decode': it must be a name and a port, for example"),
        ({"prefill_dns": ("prefill:70000",)}, "--prefill-dns is 'prefill:70000'"),
        (
            {"engine_key": "secret", "host": "0.0.0.0"},
            f"{ENGINE_KEY_VARIABLE} is set, {KEYS_VARIABLE} is not, and --host is",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(chosen: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings_of(**chosen)
    assert says in str(error.value)


def test_any_source_of_engines_is_enough() -> None:
    RouterSettings(engines_file=Path("engines.yaml"))
    RouterSettings(prefill_dns=("p:1",), decode=("http://d0:1",))
    settings_of(engine_key="secret")
    settings_of(engine_key="secret", host="0.0.0.0", api_keys=frozenset({KEY}))


def test_keys_come_from_the_environment_and_are_not_shown() -> None:
    keys, engine_key = from_environment({KEYS_VARIABLE: f"{KEY}, {KEY}1,", ENGINE_KEY_VARIABLE: "secret"})
    assert (keys, engine_key) == (frozenset({KEY, KEY + "1"}), "secret")
    assert from_environment({}) == (frozenset(), None)
    shown = repr(settings_of(api_keys=keys, engine_key=engine_key))
    assert KEY not in shown
    assert "secret" not in shown


@pytest.mark.parametrize("key", ["short", "0123456789 abcdef", "0123456789abcdeé"])
def test_a_key_that_is_none_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match="at least 16, without spaces") as error:
        from_environment({KEYS_VARIABLE: key})
    assert key not in str(error.value)
    with pytest.raises(ConfigError, match="printable ASCII"):
        from_environment({ENGINE_KEY_VARIABLE: "with space"})


def test_the_core_gets_what_was_chosen() -> None:
    settings = settings_of(connect_timeout_s=0.25, prefill_attempts=5, max_queued=7, continue_streams=True)
    policy, bounds = settings.policy(), settings.admission()
    assert (policy.limits.connect_s, policy.prefill_attempts, policy.continue_streams) == (0.25, 5, True)
    assert (bounds.in_flight, bounds.queue) == (1024, 7)
