"""Which rebuilds run when."""

import pytest

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.model.rebuild_plan import (
    MAX_ENDED,
    MAX_QUEUED,
    MAX_RUNNING,
    Job,
    JobState,
    RebuildPlan,
    Wish,
)


def job(name, collection="orders"):
    return Job(name, collection, Wish(), 0, "service:a")


def test_a_second_job_of_a_collection_is_refused_with_the_first_ones_id_or_joins_it():
    plan = RebuildPlan()
    first = plan.ask(job("one"), joins=False)
    with pytest.raises(RequestRejected, match="one") as refusal:
        plan.ask(job("two"), joins=False)
    assert refusal.value.code is ErrorCode.REBUILD_RUNNING
    assert plan.ask(job("two"), joins=True) is first
    assert plan.find("two") is None


def test_a_collection_is_free_again_when_its_job_has_ended():
    plan = RebuildPlan()
    for state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED):
        plan.ask(job(state.value), joins=False).state = state
    assert plan.active("orders") is None


def test_jobs_start_in_the_order_they_were_asked_and_so_many_at_once():
    plan = RebuildPlan()
    jobs = [plan.ask(job(f"{i}", f"c{i}"), joins=False) for i in range(MAX_RUNNING + 1)]
    for each in jobs[:MAX_RUNNING]:
        assert plan.next() is each
        each.state = JobState.RUNNING
    jobs[0].state = JobState.SWAPPING
    assert plan.next() is None
    jobs[0].state = JobState.DONE
    assert plan.next() is jobs[-1]


def test_too_many_are_refused_and_old_ones_forgotten():
    plan = RebuildPlan()
    for i in range(MAX_QUEUED):
        plan.ask(job(f"{i}", f"c{i}"), joins=False)
    with pytest.raises(SyncdError) as refusal:
        plan.ask(job("more", "more"), joins=False)
    assert refusal.value.code is ErrorCode.OVERLOADED
    for each in plan:
        each.state = JobState.DONE
    for i in range(3):
        plan.ask(job(f"new{i}", f"c{i}"), joins=False)
    assert sum(each.is_ended for each in plan) == MAX_ENDED
    assert plan.find("new2") is not None


def test_rate_and_time_left_count_what_this_run_has_done():
    each = job("one")
    assert (each.rate_per_s(5.0), each.eta_ms(5.0)) == (0.0, None)
    each.state, each.started_at = JobState.RUNNING, 10.0
    each.resumed_at, each.done, each.total = 500, 600, 1000
    assert each.rate_per_s(12.0) == 50.0
    assert each.eta_ms(12.0) == 8000
    each.ended_at, each.state = 12.0, JobState.DONE
    assert (each.rate_per_s(99.0), each.eta_ms(99.0)) == (50.0, None)
