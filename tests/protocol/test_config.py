"""The settings are few and derived from one; a bad one is refused with an error that says what to write (R10)."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.errors import ConfigError
from kvlease.protocol import TIMING, LeaseConfig, resolve
from kvlease.protocol.config import KEYS, MAX_DURATION_S

FEW = settings(derandomize=True, database=None, deadline=None)
NUMBERS = [key for key in KEYS if key not in ("kv_lease_fence_slots", "kv_lease_compare_media")]


def test_the_defaults_are_vllms() -> None:
    assert resolve({}) == LeaseConfig(
        duration_s=30.0,
        extension_s=20.0,
        renew_interval_s=5.0,
        orphan_grace_s=0.0,
        max_age_s=600.0,
        stall_limit_s=120.0,
        probe_interval_s=0.25,
        fence_slots=None,
        compare_media=True,
    )


@FEW
@given(st.floats(1.0, MAX_DURATION_S / 4))
def test_r2_everything_follows_from_the_duration_in_its_proportion(duration: float) -> None:
    config = resolve({"kv_lease_duration": duration})
    assert math.isclose(config.extension_s, duration * 2 / 3)
    assert math.isclose(config.renew_interval_s, duration / 6)
    assert config.orphan_grace_s <= config.duration_s <= config.max_age_s
    assert config.stall_limit_s >= 4 * duration


def test_from_one_second_up() -> None:
    config = resolve({"kv_lease_duration": 1})
    assert math.isclose(config.renew_interval_s, 1 / 6), "vLLM's own interval is 0 below six seconds"
    with pytest.raises(ConfigError):
        resolve({"kv_lease_duration": 0.99})


@pytest.mark.parametrize("duration", [1, 2, 3, 30])
def test_l2_one_lost_renewal_loses_no_lease_at_any_duration(duration: float) -> None:
    config = resolve({"kv_lease_duration": duration})
    assert config.renew_interval_s + TIMING.retry_s < config.extension_s


def test_each_key_sets_its_own_value() -> None:
    values = {
        "kv_lease_duration": 40,
        "kv_lease_extension": 31,
        "kv_lease_renew_interval": 2,
        "kv_lease_orphan_grace": 0,
        "kv_lease_max_age": 77.5,
        "kv_lease_stall_limit": 9,
        "kv_lease_probe_interval": 0.5,
        "kv_lease_fence_slots": 128,
        "kv_lease_compare_media": False,
    }
    assert set(values) == set(KEYS)
    assert resolve(values) == LeaseConfig(40.0, 31.0, 2.0, 0.0, 77.5, 9.0, 0.5, 128, False)


def example_in(message: str) -> tuple[str, float]:
    found = re.search(r'\{"(kv_lease_\w+)": ([\d.e+]+)\}', message)
    assert found is not None, f"no example to copy in: {message}"
    return found[1], float(found[2])


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [None, "30", True, False, -1, math.nan, math.inf, 10**9, [30], {"s": 30}, 10**30])
def test_a_bad_number_is_refused_with_key_value_bounds_and_an_example_that_works(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        resolve({key: value})
    text = str(error.value)
    assert text.startswith(f"{key} is ")
    assert f"{key} is {value!r}" in text
    assert re.search(r"from [\d.]+ to \d+", text)
    assert len(text) < 400
    name, example = example_in(text)
    assert name == key
    resolve({key: example})


@pytest.mark.parametrize("value", ["64", True, 0, -1, 1.5, 64.0, 1 << 30, 10**30])
def test_a_bad_number_of_slots_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"kv_lease_fence_slots is .* whole number from 1 to") as error:
        resolve({"kv_lease_fence_slots": value})
    key, example = example_in(str(error.value))
    assert resolve({key: int(example)}).fence_slots == example


@pytest.mark.parametrize(
    ("settings_", "key"),
    [
        ({"kv_lease_duration": 30, "kv_lease_renew_interval": 11}, "kv_lease_renew_interval"),
        ({"kv_lease_extension": 4, "kv_lease_renew_interval": 2.5}, "kv_lease_renew_interval"),
        ({"kv_lease_duration": 100, "kv_lease_max_age": 99}, "kv_lease_max_age"),
        ({"kv_lease_duration": 2, "kv_lease_orphan_grace": 3}, "kv_lease_orphan_grace"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_with_one_that_does(
    settings_: dict[str, float], key: str
) -> None:
    with pytest.raises(ConfigError, match=f"{key} is") as error:
        resolve(settings_)
    name, example = example_in(str(error.value))
    assert name == key
    resolve(settings_ | {name: example})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("kv_lease_durations", "kv_lease_duration"),
        ("kv_lease_maxage", "kv_lease_max_age"),
        ("kv_lease_slots", "kv_lease_fence_slots"),
    ],
)
def test_an_unknown_key_of_ours_is_refused_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=rf"{wrong} .* did you mean {right}\?"):
        resolve({wrong: 30})


def test_an_unknown_key_near_to_nothing_is_refused_with_all_there_are() -> None:
    with pytest.raises(ConfigError) as error:
        resolve({"kv_lease_zzzzzzzzzzzzzzzzzzzz": 1})
    assert all(key in str(error.value) for key in KEYS)


def test_keys_of_others_are_none_of_our_business() -> None:
    assert resolve({"num_threads": "many", "kv_buffer": None}) == resolve({})


@pytest.mark.parametrize("value", ["false", 0, 1, None, []])
def test_whether_media_are_compared_is_true_or_false(value: object) -> None:
    with pytest.raises(ConfigError, match=r"kv_lease_compare_media is .* must be true or false, for example .*false"):
        resolve({"kv_lease_compare_media": value})


def test_keys_that_somebody_else_reads_are_known_and_nothing_more() -> None:
    assert resolve({"kv_lease_listen": object()}, ("kv_lease_listen",)) == resolve({})
    with pytest.raises(ConfigError, match="did you mean kv_lease_listen"):
        resolve({"kv_lease_liten": 1}, ("kv_lease_listen",))
