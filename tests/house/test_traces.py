"""protocol/vectors/traces tells what the reference client does, and covers what it should."""

import json
import re

from scripts import make_traces

MIN_TRACES = 40


def test_the_traces_are_what_the_reference_client_does():
    written = {path.name: path.read_text() for path in make_traces.TRACES.glob("*.json")}
    new = make_traces.files()
    changed = [name for name in new.keys() | written.keys() if new.get(name) != written.get(name)]
    assert changed == [], "run `make protocol`, and look at the difference"


def test_there_are_enough_traces_and_every_one_has_steps_that_show_something():
    traces = [json.loads(path.read_text()) for path in make_traces.TRACES.glob("*.json")]
    assert len(traces) >= MIN_TRACES
    for trace in traces:
        assert any(step.get("sent") or step.get("changes") for step in trace["steps"]), trace[
            "name"
        ]


def test_the_readme_explains_every_step_and_field(root):
    readme = (root / "protocol/vectors/traces/README.md").read_text()
    named = set(re.findall(r"`(\w+)`", readme))
    used = set()
    for path in make_traces.TRACES.glob("*.json"):
        for step in json.loads(path.read_text())["steps"]:
            used |= {step["do"], *step}
    assert used - named == set()
