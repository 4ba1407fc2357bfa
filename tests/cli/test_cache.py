"""Counts of the cache as a table for people."""

import pytest

from syncd.cli.cache import stats_table
from syncd.cli.main import main

ROW = {
    "num_entries": 3,
    "num_bytes": 70_000,
    "lookups": 8,
    "hit_rate": 0.625,
    "stale_hits": 1,
    "loads": 2,
    "load_ms_mean": 12.345,
    "load_failures": 0,
    "evictions": 4,
    "invalidations": 1,
    "mutations_ok": 5,
    "mutations_rejected": 6,
    "dirty": 0,
}


def test_a_table_has_a_line_for_each_collection_in_columns_that_align():
    idle = {**dict.fromkeys(ROW, 0)}
    text = stats_table({"prices": ROW, "a-longer-name": idle})
    head, first, second = text.splitlines()
    assert first.split() == [
        "prices",
        "3",
        "68.4",
        "KiB",
        "8",
        "62.5%",
        "1",
        "2",
        "12.3",
        "0",
        "4",
        "1",
        "5",
        "6",
        "0",
    ]
    assert second.split() == [
        "a-longer-name",
        "0",
        "0",
        "B",
        "0",
        "-",
        "0",
        "0",
        "-",
        "0",
        "0",
        "0",
        "0",
        "0",
        "0",
    ]
    assert len(head) == len(first) == len(second)
    for title in ("entries", "hit rate", "rejected"):
        end = head.index(title) + len(title)
        assert first[end - 1] != " "
        assert second[end - 1] != " "


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 20, "3.0 MiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_sizes_are_told_in_units_people_read(num_bytes, shown):
    assert f"  {shown}  " in stats_table({"a": {**ROW, "num_bytes": num_bytes}})


def test_no_collections_is_a_sentence():
    assert stats_table({}) == "There are no collections."


@pytest.mark.parametrize(
    "arguments",
    [
        ["cache"],
        ["cache", "config", "--max-entries", "5"],
        ["cache", "config", "prices", "--max-entries", "0"],
        ["cache", "config", "prices", "--max-bytes", "much"],
        ["cache", "config", "prices", "--ttl", "5 fortnights"],
        ["invalidate", "prices"],
        ["invalidate", "prices", "--all", "--key", "a"],
        ["mutate"],
        ["mutate", "a", "nonsense"],
        ["mutate", "a", "7"],
        ["mutate", "a", '[{"$base64": "!"}]'],
        ["get", "orders"],
        ["watch"],
        ["watch", "notes", "eu/a", "--partition", "eu"],
    ],
    ids=" ".join,
)
def test_a_command_line_that_is_wrong_ends_with_2_and_says_why(arguments, capsys, monkeypatch):
    monkeypatch.setenv("SYNCD_URL", "http://127.0.0.1:1")
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
