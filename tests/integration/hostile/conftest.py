"""What the hostile tests share besides the kit."""

import io
import sys

import pytest
import structlog

from syncd.logs import configure_logging


@pytest.fixture
def log(monkeypatch):
    """Everything the node logs, at the level that says most.

    Loggers keep what they were configured with at their first line, so each module gets a new one.
    """
    stream = io.StringIO()
    configure_logging("json", "debug", stream)
    for name, module in list(sys.modules.items()):
        if name.startswith("syncd.") and hasattr(module, "_log"):
            monkeypatch.setattr(module, "_log", structlog.get_logger(name))
    yield stream
    structlog.reset_defaults()
