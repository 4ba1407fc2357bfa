"""What every test may ask for, and how Hypothesis behaves here."""

import logging
import os
import signal
import tomllib
from pathlib import Path

import coverage
import hypothesis
import pytest
import structlog

ROOT = Path(__file__).parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a shell. Programs that tests start would inherit that, and not hear Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_children_unmeasured():
    """Let coverage count what tests run in their own process: the hundreds of servers that they start would take 1.4 times the CPU.

    It asks for them in a variable (`patch` in pyproject.toml), which is how the workers of xdist are measured; again at each start.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


leave_children_unmeasured()

hypothesis.settings.register_profile(
    "quick",
    deadline=None,
    # What is tried must not decide whether a change lands: new examples are for those who sit before the screen, and for `make soak`.
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "soak", hypothesis.settings.get_profile("quick"), max_examples=5000, derandomize=False
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

PROCESSORS = [
    *structlog.get_config()["processors"][:-1],
    structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
]
"""Structlog's own, but for its painted tracebacks: where `rich` is installed each takes a second or more, with all its locals."""
structlog.configure(processors=PROCESSORS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Stop measuring for tests that say so: thousands of random steps under a tracer, most of them Hypothesis's own."""
    is_unmeasured = item.get_closest_marker("unmeasured") is not None
    measuring = coverage.Coverage.current() if is_unmeasured else None
    if measuring is None:
        return (yield)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()
        leave_children_unmeasured()


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """A test that configures logging (every one that calls the command line) must not change the next one's output."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.configure(processors=PROCESSORS)


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def messages_toml():
    return tomllib.loads((ROOT / "protocol/messages.toml").read_text())


@pytest.fixture(scope="session")
def codes_toml():
    return tomllib.loads((ROOT / "protocol/codes.toml").read_text())
