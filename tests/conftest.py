"""What every test may ask for, and how Hypothesis behaves here."""

import os
import tomllib
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent

hypothesis.settings.register_profile(
    "quick",
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "soak", hypothesis.settings.get_profile("quick"), max_examples=5000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def messages_toml():
    return tomllib.loads((ROOT / "protocol/messages.toml").read_text())


@pytest.fixture(scope="session")
def codes_toml():
    return tomllib.loads((ROOT / "protocol/codes.toml").read_text())
