"""Client ids and secrets: proven without being stored."""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.model.client_secrets import ClientSecrets, issue_day_of

NODE_SECRET = bytes(range(32))
DAY_S = 86_400


@pytest.fixture
def secrets():
    return ClientSecrets(NODE_SECRET, os.urandom)


def test_a_secret_proves_the_client_it_was_issued_with_and_no_other(secrets):
    client, secret = secrets.issue(1.7e9)
    other, other_secret = secrets.issue(1.7e9)
    assert client != other
    assert secrets.verify(client, secret)
    assert not secrets.verify(client, other_secret)
    assert not secrets.verify(other, secret)


def test_ids_and_secrets_fit_the_protocol(secrets):
    client, secret = secrets.issue(1.7e9)
    assert re.fullmatch("[a-z2-7]{32}", client)
    assert re.fullmatch("[A-Za-z0-9_-]{43}", secret)


def test_a_restart_with_the_same_node_secret_keeps_every_client(secrets):
    client, secret = secrets.issue(1.7e9)
    assert ClientSecrets(NODE_SECRET, os.urandom).verify(client, secret)


def test_the_day_of_issue_can_be_read_back(secrets):
    client, _ = secrets.issue(20_000 * DAY_S + 5)
    assert issue_day_of(client) == 20_000


def test_another_node_secret_does_not_know_the_client(secrets):
    client, secret = secrets.issue(1.7e9)
    other = ClientSecrets(bytes(32), os.urandom)
    assert not other.verify(client, secret)
    assert not other.is_known(client)
    assert secrets.is_known(client)


def test_a_replaced_node_secret_is_believed_as_long_as_it_is_named(secrets):
    client, secret = secrets.issue(1.7e9)
    rotated = ClientSecrets(bytes(32), os.urandom, previous=[NODE_SECRET])
    assert rotated.verify(client, secret)
    new_client, new_secret = rotated.issue(1.7e9)
    assert not secrets.verify(new_client, new_secret)


def test_the_present_secret_wins_where_key_ids_are_the_same():
    both = ClientSecrets(NODE_SECRET, os.urandom, previous=[NODE_SECRET])
    assert both.verify(*both.issue(1.7e9))


def test_a_short_node_secret_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        ClientSecrets(b"short", os.urandom)
    with pytest.raises(ValueError, match="32 bytes"):
        ClientSecrets(NODE_SECRET, os.urandom, previous=[b"short"])


@given(st.text(max_size=64), st.text(max_size=128))
@settings(max_examples=200)
def test_nothing_made_up_is_accepted_or_raises(client, secret):
    secrets = ClientSecrets(NODE_SECRET, os.urandom)
    assert not secrets.verify(client, secret)


@given(st.data())
@settings(max_examples=200)
def test_any_change_of_id_or_secret_is_refused(data):
    secrets = ClientSecrets(NODE_SECRET, bytes)
    client, secret = secrets.issue(1.7e9)
    text = data.draw(st.sampled_from(["client", "secret"]))
    victim = client if text == "client" else secret
    at = data.draw(st.integers(0, len(victim) - 1))
    char = data.draw(st.characters().filter(lambda c: c != victim[at]))
    changed = victim[:at] + char + victim[at + 1 :]
    assert not (
        secrets.verify(changed, secret) if text == "client" else secrets.verify(client, changed)
    )


def test_an_id_has_one_spelling(secrets):
    client, secret = secrets.issue(1.7e9)
    assert not secrets.verify(client.upper(), secret)
    assert not secrets.verify(client + "\n", secret)
