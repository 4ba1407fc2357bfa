"""A mutator that goes on for ever is interrupted, whatever it catches; one that has returned is never hit."""

import contextlib
import signal
import sys
import threading
import time
import traceback

import pytest

from syncd.actors import cache_budget
from syncd.actors.cache_budget import Budget, is_in_tracer
from syncd.model.recording import UNINTERRUPTED, MutatorTimedOut
from tests.model.committed_state import Bench, outcome_of, rejection_of

BUDGET_S = 0.02
PATIENCE_S = 5.0
"""What an interrupted mutator may take on a machine that is busy; one that is not interrupted would never end."""


@pytest.fixture(autouse=True)
def _everything_is_as_before():
    """The handler and the timer are others' again after each test, and a mutator that nobody stops is stopped."""

    def give_up(_signal, _frame):
        pytest.fail("nobody interrupted the mutator")

    former = signal.signal(signal.SIGALRM, give_up)
    yield
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is give_up
    signal.signal(signal.SIGALRM, former)


@contextlib.contextmanager
def budget(seconds, *, uninterrupted=UNINTERRUPTED):
    """A budget while a group runs."""
    keeper = Budget(seconds, uninterrupted=uninterrupted)
    with keeper.running():
        yield keeper


def spin(seconds):
    """Be busy for that long, in Python."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def overspend():
    """Be busy for three budgets of this thread's own time: on a busy machine ticks that come while it waits are one tick."""
    until = time.thread_time() + BUDGET_S * 3
    while time.thread_time() < until:
        pass


def for_ever():
    while True:
        pass


def catching_exceptions():
    while True:
        try:  # noqa: SIM105 - as written by hand
            for_ever()
        except Exception:  # noqa: BLE001 - what a careless mutator does
            pass


def catching_everything():
    number = 0
    while True:
        try:  # noqa: SIM105 - as written by hand
            number += 1
        except BaseException:  # noqa: BLE001 - the worst that a mutator can do
            pass


def deep_down():
    def down(depth):
        return for_ever() if depth == 0 else down(depth - 1)

    down(200)


def in_a_comprehension():
    return [x for x in iter(int, 1) if x]


def in_a_callback_of_c():
    return sorted(range(10), key=lambda _: for_ever())


def asleep():
    time.sleep(60)  # noqa: TID251 - interrupted at once


@pytest.mark.parametrize(
    "run",
    [
        for_ever, catching_exceptions, catching_everything, deep_down, in_a_comprehension, in_a_callback_of_c, asleep,
    ],
)  # fmt: skip
def test_python_code_that_goes_on_for_ever_is_interrupted_after_its_budget(run):
    started = time.monotonic()
    with budget(BUDGET_S) as keeper, pytest.raises(MutatorTimedOut):
        keeper.call(run)
    assert BUDGET_S <= time.monotonic() - started < PATIENCE_S


def test_who_swallows_the_interruption_and_returns_has_timed_out_all_the_same():
    def run():
        try:
            for_ever()
        except BaseException:  # noqa: BLE001 - the point
            return "all is well"

    with budget(BUDGET_S) as keeper, pytest.raises(MutatorTimedOut):
        keeper.call(run)


def test_the_budget_is_each_mutators_own():
    """Together they take several budgets, and each but one."""
    with budget(BUDGET_S) as keeper:
        assert [keeper.call(lambda n: (spin(BUDGET_S / 3), n)[1], n) for n in range(12)] == [
            *range(12)
        ]


def test_the_next_mutator_of_the_group_has_its_whole_budget():
    with budget(BUDGET_S) as keeper:
        for _ in range(3):
            with pytest.raises(MutatorTimedOut):
                keeper.call(for_ever)
            keeper.call(spin, BUDGET_S / 3)


def test_nothing_but_a_mutator_is_interrupted():
    """Whatever runs between two mutators may take its time, and so may the end of the group."""
    with budget(BUDGET_S) as keeper:
        spin(BUDGET_S * 3)
        keeper.call(spin, 0)
        spin(BUDGET_S * 3)


def test_a_mutator_that_has_returned_is_out_of_reach(monkeypatch):
    """With looks all the time, each of which would interrupt, only frames below `call` are hit."""
    spots = []

    def act():
        return [n for n in range(20)]  # noqa: C416 - frames to hit

    with budget(0.0004) as keeper:
        monkeypatch.setattr(cache_budget, "LOOKS", 0)
        until = time.monotonic() + PATIENCE_S
        while len(spots) < 20 and time.monotonic() < until:
            try:
                keeper.call(act)
            except MutatorTimedOut as failure:
                spots.append([frame.name for frame in traceback.extract_tb(failure.__traceback__)])
    assert spots
    for names in spots:
        assert names[1:] == ["call"] or names[1:3] == ["call", "act"], "told by `call`, or hit"


def test_a_look_at_call_itself_or_elsewhere_is_no_look_at_a_mutator():
    here = sys._getframe
    with budget(BUDGET_S) as keeper:
        assert keeper.call(lambda: keeper._judge(here())) is True
        assert keeper.call(lambda: keeper._judge(here().f_back)) is None, "`call`, not the mutator"
        assert keeper._judge(here()) is None


def test_a_stop_of_the_whole_process_is_not_the_mutators_fault():
    """Signals that wait are one signal, so that the time in between counts as one look."""

    def stopped():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        spin(BUDGET_S * 4)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        return "alive"

    with budget(BUDGET_S) as keeper:
        assert keeper.call(stopped) == "alive"


def test_what_is_not_to_be_interrupted_is_told_that_its_mutator_is_overdue():
    finished = []

    def look_up():
        overspend()
        finished.append(True)

    def ask():
        look_up()
        if keeper.is_overdue:
            raise MutatorTimedOut

    def run():
        while True:
            ask()

    with (
        budget(BUDGET_S, uninterrupted={ask.__code__}) as keeper,
        pytest.raises(MutatorTimedOut),
    ):
        keeper.call(run)
    assert finished == [True]


def test_an_overdue_mutator_that_returns_from_there_has_timed_out():
    def ask():
        overspend()

    with (
        budget(BUDGET_S, uninterrupted={ask.__code__}) as keeper,
        pytest.raises(MutatorTimedOut),
    ):
        keeper.call(lambda: ask())  # noqa: PLW0108 - `ask` is not the mutator


def test_the_handler_and_the_timer_of_others_are_given_back():
    rings = []
    former = signal.signal(signal.SIGALRM, lambda *_: rings.append(1))
    signal.setitimer(signal.ITIMER_REAL, 1000, 500)
    with budget(BUDGET_S) as keeper, pytest.raises(MutatorTimedOut):
        keeper.call(for_ever)
    left_s, interval_s = signal.setitimer(signal.ITIMER_REAL, 0)
    assert (900 < left_s <= 1000, interval_s) == (True, 500)
    signal.raise_signal(signal.SIGALRM)
    assert rings == [1]
    signal.signal(signal.SIGALRM, former)


def test_it_is_given_back_when_the_group_fails():
    with pytest.raises(ZeroDivisionError), budget(BUDGET_S):
        raise ZeroDivisionError


def test_budgets_nest():
    def run():
        with budget(BUDGET_S) as inner, pytest.raises(MutatorTimedOut):
            inner.call(for_ever)
        for_ever()

    with budget(BUDGET_S * 2) as keeper, pytest.raises(MutatorTimedOut):
        keeper.call(run)


def test_in_another_thread_nobody_keeps_the_time():
    results = []

    def run():
        with budget(BUDGET_S / 4) as keeper:
            results.append(keeper.call(lambda: spin(BUDGET_S)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [None]


def test_where_there_is_no_such_signal_nobody_keeps_the_time(monkeypatch):
    monkeypatch.setattr(cache_budget, "CAN_INTERRUPT", False)
    with budget(BUDGET_S / 4) as keeper:
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        keeper.call(spin, BUDGET_S)


def test_a_group_within_a_group_of_the_same_budget_is_one_group():
    keeper = Budget(BUDGET_S)
    with keeper.running():
        with keeper.running():
            pass
        with pytest.raises(MutatorTimedOut):
            keeper.call(for_ever)


def test_outside_of_a_group_nobody_keeps_the_time():
    assert Budget(BUDGET_S / 4).call(spin, BUDGET_S) is None


# ------------------------------------------------------------------------------------------------ unsafe places


def overdue_in(run):
    """Run a mutator that is overdue when it comes to the unsafe place; return how it ended."""
    with budget(BUDGET_S) as keeper, pytest.raises(MutatorTimedOut) as failure:
        keeper.call(run, keeper)
    return [frame.name for frame in traceback.extract_tb(failure.value.__traceback__)]


@contextlib.contextmanager
def traced(trace=None, profile=None):
    """With these and no others (such as coverage's); afterwards everything is as before."""
    former = sys.gettrace(), sys.getprofile()
    sys.setprofile(None)
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        sys.settrace(former[0])
        sys.setprofile(former[1])


@pytest.mark.parametrize("hook", ["trace", "profile"])
def test_a_tracer_is_let_finish_and_what_it_traces_is_interrupted(hook):
    """As coverage's, which takes a lock that it would never give back."""
    lock = threading.Lock()
    rounds = [0, 0]

    def tracer(frame, event, arg):
        if frame.f_code.co_name != "traced_mutator":
            return None
        assert lock.acquire(blocking=False), "an earlier round was interrupted"
        rounds[0] += 1
        spin(0.0003)
        rounds[1] += 1
        lock.release()
        return tracer

    def traced_mutator():
        while True:
            callee()

    def callee():
        spin(0.0003)

    for _ in range(3):
        with (
            budget(BUDGET_S) as keeper,
            traced(**{hook: tracer}),
            pytest.raises(MutatorTimedOut),
        ):
            keeper.call(traced_mutator)
    assert rounds[0] == rounds[1] >= 3
    assert not lock.locked()


def test_a_mutator_that_spends_all_its_time_in_a_tracer_is_not_hit_there():
    def tracer(frame, event, arg):
        if frame.f_code.co_name == "traced_mutator" and event == "call":
            overspend()
            reached.append(True)

    def traced_mutator():
        return 1

    reached = []
    with (
        budget(BUDGET_S) as keeper,
        traced(trace=tracer),
        pytest.raises(MutatorTimedOut),
    ):
        keeper.call(traced_mutator)
    assert reached == [True]


def test_it_is_known_whether_a_tracer_runs():
    answers = []

    def tracer(frame, event, arg):
        if frame.f_code.co_name == "probe" and event == "call":
            answers.append(is_in_tracer())

    def probe():
        answers.append(is_in_tracer())

    for hook in ("trace", "profile"):
        answers.clear()
        with traced(**{hook: tracer}):
            probe()
        assert answers == [True, False]
    assert not is_in_tracer()


def test_the_probe_leaves_tracer_and_profiler_as_they_were():
    def tracer(frame, event, arg):
        return None

    for hooks in ((None, None), (tracer, None), (None, tracer)):
        with traced(*hooks):
            assert not is_in_tracer()
            assert (sys.gettrace(), sys.getprofile()) == hooks
    with traced(tracer, tracer):
        assert is_in_tracer(), "there is no place for the probe"
        assert (sys.gettrace(), sys.getprofile()) == (tracer, tracer)


def test_a_lock_of_the_process_is_never_left_taken():
    """`Condition.__enter__` and logging are Python code: an exception between taking and giving back would be the end."""
    condition = threading.Condition(threading.Lock())

    def waiting(keeper):
        while True:
            with condition:
                condition.wait(0.001)
            spin(0.002)

    for _ in range(3):
        overdue_in(waiting)
        assert condition.acquire(blocking=False)
        condition.release()


def test_an_import_is_let_finish(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_import_probe.py").write_text(
        "import time\nuntil = time.monotonic() + 0.1\nwhile time.monotonic() < until: pass\ndone = True\n"
    )

    def importing(keeper):
        import slow_import_probe  # noqa: PLC0415 - the point

        assert slow_import_probe.done
        for_ever()

    assert overdue_in(importing)[-2:] == ["for_ever", "look"]
    assert sys.modules.pop("slow_import_probe").done


def test_a_finalizer_is_let_finish():
    finished = []

    class Finalized:
        def __del__(self):
            overspend()
            finished.append(True)

    def dropping(keeper):
        held = Finalized()
        del held
        for_ever()

    overdue_in(dropping)
    assert finished == [True]


# ------------------------------------------------------------------------------------------------ in a group


def test_a_mutation_is_rejected_and_its_group_goes_on():
    bench = Bench()
    bench.state.seed("orders", "a", 1)

    def endless(tx):
        tx.put("a", 2)
        while True:
            tx.get("a")

    bench.add(endless, "endless")
    bench.add(lambda tx: tx.get("a"), "get")
    with budget(BUDGET_S) as keeper:
        group = bench.group(keeper=keeper)
        first = group.run(bench.mutation("orders.endless"))
        second = group.run(bench.mutation("orders.get"))
    assert rejection_of(first) == "mutator_timeout"
    assert outcome_of(second)["value"] == 1


def test_a_look_up_is_never_interrupted_halfway():
    """The cache moves entries about while it is asked: it must not be left in the middle of that."""
    bench = Bench()
    halves = [0, 0]
    begun_late = []
    version_and_value = bench.state.version_and_value

    class View:
        def version_and_value(self, channel, key):
            halves[0] += 1
            begun_late[-1] += keeper.is_overdue
            spin(0.0005)
            halves[1] += 1
            return version_and_value(channel, key)

    def endless(tx):
        while True:
            tx.get("a")

    bench.add(endless)
    for _ in range(3):
        begun_late.append(0)
        with budget(BUDGET_S) as keeper:
            decided = bench.group(View(), keeper).run(bench.mutation("orders.act"))
        assert rejection_of(decided) == "mutator_timeout"
    assert halves[0] == halves[1] >= 3
    assert max(begun_late) <= 1, "the first look-up that ends overdue is the last"
