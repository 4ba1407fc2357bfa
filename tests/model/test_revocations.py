"""Revocations stand for their time, no longer, and never crowd each other out."""

import pytest

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.model.revocations import Revocations
from syncd.ports import Identity

ANN = Identity(user="ann", token_id="t1")
ANN_AGAIN = Identity(user="ann", token_id="t2")
BOB = Identity(user="bob", token_id="t3")


def test_a_revoked_user_is_refused_with_every_token_until_the_time_is_over():
    revocations = Revocations()
    revocations.revoke_user("ann", until_s=200.0, now_s=100.0)
    assert revocations.is_revoked(ANN, 199.9)
    assert revocations.is_revoked(ANN_AGAIN, 199.9)
    assert not revocations.is_revoked(BOB, 199.9)
    assert not revocations.is_revoked(ANN, 200.0)


def test_a_revoked_token_leaves_the_users_other_tokens_alone():
    revocations = Revocations()
    revocations.revoke_token("t1", until_s=200.0, now_s=100.0)
    assert revocations.is_revoked(ANN, 150.0)
    assert not revocations.is_revoked(ANN_AGAIN, 150.0)


def test_a_user_is_not_taken_for_a_token_of_the_same_name():
    revocations = Revocations()
    revocations.revoke_user("t3", until_s=200.0, now_s=100.0)
    assert not revocations.is_revoked(BOB, 150.0)


def test_nobody_anonymous_is_revoked():
    revocations = Revocations()
    revocations.revoke_user("", until_s=200.0, now_s=100.0)
    assert not revocations.is_revoked(Identity(), 150.0)


def test_a_revocation_is_never_shortened():
    revocations = Revocations()
    revocations.revoke_user("ann", until_s=200.0, now_s=100.0)
    revocations.revoke_user("ann", until_s=150.0, now_s=100.0)
    assert revocations.is_revoked(ANN, 180.0)


def test_pruning_forgets_only_what_is_over():
    revocations = Revocations()
    revocations.revoke_user("ann", until_s=200.0, now_s=100.0)
    revocations.revoke_token("t3", until_s=300.0, now_s=100.0)
    revocations.prune(250.0)
    assert len(revocations) == 1
    assert revocations.is_revoked(BOB, 250.0)


def test_full_of_standing_ones_a_new_one_is_refused_and_none_forgotten():
    revocations = Revocations(capacity=2)
    revocations.revoke_user("ann", until_s=200.0, now_s=100.0)
    revocations.revoke_token("t9", until_s=200.0, now_s=100.0)
    with pytest.raises(RequestRejected) as caught:
        revocations.revoke_user("bob", until_s=200.0, now_s=100.0)
    assert caught.value.code is ErrorCode.LIMIT_EXCEEDED
    assert revocations.is_revoked(ANN, 150.0)
    revocations.revoke_user("ann", until_s=300.0, now_s=100.0)
    assert revocations.is_revoked(ANN, 250.0)


def test_full_of_those_whose_time_is_over_a_new_one_is_taken():
    revocations = Revocations(capacity=2)
    revocations.revoke_user("a", until_s=110.0, now_s=100.0)
    revocations.revoke_user("b", until_s=110.0, now_s=100.0)
    revocations.revoke_user("ann", until_s=200.0, now_s=120.0)
    assert revocations.is_revoked(ANN, 150.0)
