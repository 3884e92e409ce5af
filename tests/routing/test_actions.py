"""A reference is opaque but for what says whether it can be read, and whether it has a lease."""

import pytest

from kvlease.routing.actions import KvReference
from tests.routing.bench import P1, offer


@pytest.mark.parametrize("params", [None, {}, [], "x", {"do_remote_prefill": False}, {"do_remote_prefill": "yes"}])
def test_what_offers_nothing_is_no_reference(params: object) -> None:
    assert KvReference.of(params, P1) is None


def test_a_reference_of_kvlease_has_a_lease_and_its_token() -> None:
    assert (offer().leased, offer().token) == (True, "00000000000000ab")
    assert (offer(leased=False).leased, offer(leased=False).token) == (False, None)


@pytest.mark.parametrize("lease", [[], "x", {}, {"token": 7}])
def test_a_lease_that_is_none_has_no_token(lease: object) -> None:
    reference = KvReference({"kv_lease": lease}, P1)
    assert reference.token is None


def test_each_prefill_has_its_own() -> None:
    one, other = offer(), offer()
    assert one != other
    assert len({one, other, one}) == 2
