"""The books of words and blocks fail where a block is given away under an armed word (S1, S2)."""

import pytest

from proof.promises.safety import Safety, Violation

P, D, TOKEN, OTHER = 0x101, 0xD1, 0xA1, 0xB2


def leased(*blocks: int, token: int = TOKEN, slot: int = 0, safety: Safety | None = None) -> Safety:
    safety = safety or Safety()
    safety.producer_starts(P, 2)
    safety.prepared(P, slot, token)
    safety.armed(P, 0, slot, token)
    safety.armed(P, 1, slot, token)
    safety.granted(P, token, blocks)
    return safety


def test_s2_a_block_is_given_away_once_every_worker_has_cleared_the_word() -> None:
    safety = leased(3, 4)
    safety.cleared(P, 0, 0)
    assert safety.vouched(P, 4) == [TOKEN]
    with pytest.raises(Violation, match="S2: block 4"):
        safety.given(P, 4)
    safety.cleared(P, 1, 0)
    assert safety.vouched(P, 3) == []
    safety.given(P, 3)
    assert safety.leases[TOKEN].given


def test_s2_a_block_that_leases_share_is_given_away_once_the_words_of_all_are_clear() -> None:
    safety = leased(3, 5, token=OTHER, slot=1, safety=leased(3, 4))
    for worker in range(2):
        safety.cleared(P, worker, 0)
    assert safety.vouched(P, 3) == [OTHER]
    with pytest.raises(Violation, match="S2: block 3 of 00000000000000b2"):
        safety.given(P, 3)


def test_a_lease_is_readable_at_its_own_slot_while_every_worker_vouches_for_it() -> None:
    safety = leased(3)
    assert safety.is_readable(P, TOKEN, 0)
    assert not safety.is_readable(P, TOKEN, 1)
    safety.cleared(P, 1, 0)
    assert not safety.is_readable(P, TOKEN, 0)


def test_s1_data_that_arrived_after_a_block_was_given_away_is_not_to_be_used() -> None:
    safety = leased(3)
    for worker in range(2):
        safety.cleared(P, worker, 0)
    safety.read_ended(D, "in time", TOKEN)
    safety.given(P, 3)
    safety.read_ended(D, "late", TOKEN)
    safety.used(D, "in time", TOKEN, TOKEN, [TOKEN])
    with pytest.raises(Violation, match="S1"):
        safety.used(D, "late", TOKEN, TOKEN, [TOKEN])
