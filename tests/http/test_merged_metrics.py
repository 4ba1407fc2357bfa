"""Metrics of several workers in one text: every sample is there once, unchanged, with its worker's name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from syncd.http.merged_metrics import merge_metrics

_TEXT = st.text(alphabet='ab "\\{},=\n#', max_size=8)


def samples(text):
    return {
        (family.type, each.name, tuple(sorted(each.labels.items())), each.value)
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


@given(st.lists(st.dictionaries(_TEXT, st.integers(0, 9), max_size=3), min_size=1, max_size=3))
def test_each_workers_samples_are_there_with_its_name(workers):
    texts = {}
    for index, values in enumerate(workers):
        registry = CollectorRegistry()
        counter = Counter("c", 'Of "things".', ["what"], registry=registry)
        for label, value in values.items():
            counter.labels(label).inc(value)
        Gauge("g", "No labels.", registry=registry).set(index)
        Histogram("h", "Seconds.", registry=registry).observe(index)
        texts[str(index)] = generate_latest(registry).decode()
    expected = {
        (kind, name, tuple(sorted([*labels, ("worker", worker)])), value)
        for worker, text in texts.items()
        for kind, name, labels, value in samples(text)
    }
    merged = merge_metrics(texts)
    assert samples(merged) == expected
    heads = [line for line in merged.split("\n") if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))


def test_what_is_no_sample_is_refused():
    with pytest.raises(ValueError, match="not a sample"):
        merge_metrics({"0": "{nonsense\n"})
