"""The audit log in memory: every action once, with what came of it, bounded."""

import pytest

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.model.audit import AuditEntry, AuditLog
from syncd.model.reserved import AUDIT_KEPT


def make_log():
    told = []
    return AuditLog(lambda: 7, told.append), told


def test_an_action_is_entered_with_its_outcome_when_it_has_one():
    log, told = make_log()
    with log.action("user:ann", "revoke", user="bob") as details:
        assert told == []
        details["num_sessions"] = 2
    expected = AuditEntry(7, "user:ann", "revoke", "ok", {"user": "bob", "num_sessions": 2})
    assert told == log.last(10) == [expected]


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (RequestRejected(ErrorCode.LIMIT_EXCEEDED), "limit_exceeded"),
        (ZeroDivisionError(), "internal_error"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_an_action_that_fails_is_entered_too(failure, outcome):
    log, told = make_log()
    with pytest.raises(type(failure)), log.action("service:a", "backup"):
        raise failure
    assert [entry.outcome for entry in told] == [outcome]


def test_the_newest_come_first_and_the_oldest_go():
    log, _ = make_log()
    for number in range(AUDIT_KEPT + 5):
        log.note("service:a", str(number))
    assert [entry.what for entry in log.last(2)] == [str(AUDIT_KEPT + 4), str(AUDIT_KEPT + 3)]
    assert len(log.last(10**6)) == AUDIT_KEPT


def test_what_was_there_before_the_start_stands_before_what_was_done_since():
    log, told = make_log()
    log.note("service:a", "new")
    log.merge([AuditEntry(1, "service:a", "old", "ok", {})])
    assert [entry.what for entry in log.last(10)] == ["new", "old"]
    assert [entry.what for entry in told] == ["new"]
