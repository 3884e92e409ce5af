"""The settings of leases, where an operator of vLLM writes them, and the errors of wrong ones (R10)."""

import json
import re

import pytest

from kvlease.errors import ConfigError
from kvlease.protocol import resolve
from kvlease.vllm.settings import OLD_VARIABLE, settings_of


def example_in(message: str) -> dict[str, object]:
    found = re.search(r"\{[^{}]+\}", message)
    assert found is not None, f"no example to copy in: {message}"
    example: dict[str, object] = json.loads(found[0])
    return example


def test_settings_stand_beside_vllms_own() -> None:
    config, warnings = settings_of({"backends": ["UCX"], "kv_lease_duration": 60}, {})
    assert config == resolve({"kv_lease_duration": 60})
    assert warnings == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kv_lease_duration": "30"},
        {"kv_lease_fence_slots": 0},
        {"kv_lease_compare_media": "no"},
        {"kv_lease_events_sample": 2},
        {"kv_lease_events_mb": 0},
        {"kv_lease_events": 7},
        {"kv_lease_duration": 30, "kv_lease_renew_interval": 11},
    ],
)
def test_a_bad_setting_is_refused_with_where_it_stands_and_the_json_to_write(wrong: dict[str, object]) -> None:
    (*_, (key, value)) = wrong.items()
    with pytest.raises(ConfigError, match=rf"^in kv_connector_extra_config, {key} is {value!r}") as error:
        settings_of(wrong, {})
    example = example_in(str(error.value))
    assert example.keys() == {key}
    settings_of(wrong | example, {})


def test_an_unknown_key_is_refused_with_where_it_stands_and_the_nearest() -> None:
    said = r"^in kv_connector_extra_config, kv_lease_durations is not .* did you mean kv_lease_duration\?$"
    with pytest.raises(ConfigError, match=said):
        settings_of({"kv_lease_durations": 30}, {})


def test_settings_of_events_are_known_and_change_no_lease() -> None:
    config, _ = settings_of({"kv_lease_events": "/var/log/kvlease", "kv_lease_events_sample": 0.1}, {})
    assert config == resolve({})
    with pytest.raises(ConfigError, match=r"did you mean kv_lease_events\?$"):
        settings_of({"kv_lease_event": "/var/log/kvlease"}, {})


def test_the_old_variable_is_honoured_with_a_warning() -> None:
    config, warnings = settings_of({}, {OLD_VARIABLE: "480", "OTHER": "x"})
    assert (config.duration_s, config.extension_s) == (480.0, 320.0)
    assert len(warnings) == 1
    assert OLD_VARIABLE in warnings[0]
    assert '"kv_lease_duration"' in warnings[0]


def test_a_duration_that_is_given_wins_over_the_old_variable_silently() -> None:
    assert settings_of({"kv_lease_duration": 30}, {OLD_VARIABLE: "480"}) == (resolve({}), [])


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "nan", "inf", "1e9"])
def test_an_old_variable_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"{OLD_VARIABLE} is {text!r}") as error:
        settings_of({}, {OLD_VARIABLE: text})
    assert example_in(str(error.value)) == {"kv_lease_duration": 30}
