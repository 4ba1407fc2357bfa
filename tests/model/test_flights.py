"""Loads under way: one a key and run, outdated by what happens meanwhile, never waiting in a circle."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from syncd.model.flights import Flights, circle


def test_a_key_has_one_flight_in_each_run():
    flights, here, there = Flights(), object(), object()
    first = flights.open("k", here)
    assert flights.find("k", here) is first
    assert flights.find("k", there) is None
    second = flights.open("k", there)
    assert len(flights) == 2
    assert flights.close(first)
    assert not flights.close(first)
    assert flights.find("k", there) is second
    flights.close(second)
    assert not flights.by_key


def test_what_happens_to_a_key_outdates_its_flights_only():
    flights = Flights()
    one, same, other = flights.open("a", 1), flights.open("a", 2), flights.open("b", 1)
    flights.outdate("a")
    flights.outdate("unknown")
    assert [each.is_outdated_by(()) for each in (one, same, other)] == [True, True, False]
    one.begin_again()
    assert not one.is_outdated_by(())
    flights.outdate_all()
    assert one.is_outdated_by(())
    assert other.is_outdated_by(())


def test_a_tag_outdates_what_turns_out_to_carry_it():
    flights = Flights()
    flight = flights.open("a")
    flights.outdate_tag("red")
    assert flight.is_outdated_by(["blue", "red"])
    assert not flight.is_outdated_by(["blue"])
    flight.begin_again()
    assert not flight.is_outdated_by(["red"])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_waits_that_are_allowed_never_close_a_circle(wishes):
    flights = Flights()
    nodes = [flights.open(number) for number in range(6)]
    for waiter, waited in wishes:
        path = circle(nodes[waiter], nodes[waited])
        if path:
            assert path[0] is nodes[waited]
            assert path[-1] is nodes[waiter]
            assert all(after in before.waits_for for before, after in itertools.pairwise(path))
        else:
            nodes[waiter].waits_for.append(nodes[waited])
    order, left = [], list(nodes)
    while left:
        free = [each for each in left if all(waited in order for waited in each.waits_for)]
        assert free, "somebody could always end"
        order += free
        left = [each for each in left if each not in free]
