"""The oracle of reads: what is told as of a position is what was so then, or what became of it since."""

import pytest

from syncd.testing.simulation.breaches import Breaches
from syncd.testing.simulation.ledger import Ledger


@pytest.fixture
def breaches():
    return Breaches(lambda: 0.0)


@pytest.fixture
def ledger(breaches):
    """An entry that was changed at 2 and at 5, and another one at 4."""
    ledger = Ledger(breaches)
    for offset, key, tags in ((2, "a", ["x"]), (4, "b", ["y"]), (5, "a", ["x", "z"])):
        ledger.apply("journal", offset, {"key": key, "data": {"value": {"tags": tags}}})
    return ledger


@pytest.mark.parametrize(
    ("as_of", "told"),
    [
        (1, (1, None)),
        (1, (2, {"tags": ["x"]})),
        (4, (2, {"tags": ["x"]})),
        (4, (5, {"tags": ["x", "z"]})),
        (9, (5, {"tags": ["x", "z"]})),
    ],
)
def test_an_entry_may_be_as_it_was_at_its_position_or_newer(breaches, ledger, as_of, told):
    ledger.check_told("c0", "journal", as_of, {"a": told})
    assert breaches.found == []


@pytest.mark.parametrize(
    ("as_of", "told"),
    [
        (5, (2, {"tags": ["x"]})),
        (2, (2, None)),
        (9, (5, {"tags": ["x"]})),
        (1, (3, {"tags": ["w"]})),
    ],
)
def test_an_entry_may_not_be_older_than_its_position_nor_one_that_never_was(
    breaches, ledger, as_of, told
):
    ledger.check_told("c0", "journal", as_of, {"a": told})
    assert len(breaches.found) == 1


def test_of_a_life_that_goes_on_from_a_copy_the_end_is_forgotten(breaches, ledger):
    kept = ledger.keep()
    ledger.apply("journal", 6, {"key": "a", "data": {"value": {"tags": ["x", "z", "lost"]}}})
    ledger.lose(kept)
    ledger.check_told("c0", "journal", 6, {"a": (5, {"tags": ["x", "z"]})})
    assert breaches.found == []
    ledger.check_told("c0", "journal", 6, {"a": (6, {"tags": ["x", "z", "lost"]})})
    assert len(breaches.found) == 1
