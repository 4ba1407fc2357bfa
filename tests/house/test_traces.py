"""protocol/vectors/traces and channels tell what the reference client does, and cover what they should."""

import json
import re

import pytest

from scripts import make_traces

MIN_TRACES = 40
MIN_CHANNEL_TRACES = 25


def test_the_traces_are_what_the_reference_client_does():
    written = {path.name: path.read_text() for path in make_traces.TRACES.glob("*.json")}
    new = make_traces.files()
    changed = [name for name in new.keys() | written.keys() if new.get(name) != written.get(name)]
    assert changed == [], "run `make protocol`, and look at the difference"


def test_the_traces_of_channels_are_what_the_reference_client_does():
    written = {path.name: path.read_text() for path in make_traces.CHANNELS.glob("*.json")}
    assert written == make_traces.channel_files(), "run `make protocol`, and look at the difference"
    assert len(written) >= MIN_CHANNEL_TRACES


def test_there_are_enough_traces_and_every_one_has_steps_that_show_something():
    traces = [json.loads(path.read_text()) for path in make_traces.TRACES.glob("*.json")]
    assert len(traces) >= MIN_TRACES
    for trace in traces:
        assert any(step.get("sent") or step.get("changes") for step in trace["steps"]), trace[
            "name"
        ]


@pytest.mark.parametrize("folder", [make_traces.TRACES, make_traces.CHANNELS])
def test_the_readme_explains_every_step_and_field(folder):
    named = set(re.findall(r"`(\w+)`", (folder / "README.md").read_text()))
    used = set()
    for path in folder.glob("*.json"):
        for step in json.loads(path.read_text())["steps"]:
            used |= {step["do"], *step, *(fact[0] for fact in step.get("told", []))}
    assert used - named == set()
