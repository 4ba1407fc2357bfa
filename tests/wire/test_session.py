"""The session's table: hello once and first, everything else after it, nothing once it is closing."""

import pytest

from syncd.wire import messages as m
from syncd.wire.messages import CLIENT_MESSAGES
from syncd.wire.session import TRANSITIONS, Phase, next_phase

FORMS = (*m.ClientMessage.__args__, m.EncodedPublish)
"""A publish has two forms."""
EVERY_TYPE = sorted(FORMS, key=lambda kind: kind.__name__)


def test_every_client_message_has_its_place_in_the_table():
    assert len(EVERY_TYPE) == len(CLIENT_MESSAGES) + 1
    placed = {kind for table in TRANSITIONS.values() for kind in table}
    assert placed == set(EVERY_TYPE)
    assert set(TRANSITIONS) == set(Phase)


@pytest.mark.parametrize("kind", EVERY_TYPE)
def test_only_hello_opens_and_it_comes_once(kind):
    is_hello = kind is m.Hello
    assert next_phase(Phase.OPENING, kind) is (Phase.OPEN if is_hello else None)
    assert next_phase(Phase.OPEN, kind) is (None if is_hello else Phase.OPEN)


@pytest.mark.parametrize("phase", [Phase.HEAD, Phase.CLOSING, Phase.CLOSED])
@pytest.mark.parametrize("kind", EVERY_TYPE)
def test_nothing_may_come_before_the_websocket_or_after_its_end(phase, kind):
    assert next_phase(phase, kind) is None


def test_phases_are_ordered_as_a_connection_lives_through_them():
    assert list(Phase) == sorted(Phase)
    assert Phase.OPENING < Phase.OPEN < Phase.CLOSING < Phase.CLOSED
