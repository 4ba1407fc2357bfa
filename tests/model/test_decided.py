"""Up to which mutation of each client memory is as of."""

import hypothesis.strategies as st
from hypothesis import given

from syncd.model.decided import Decided


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 9))), st.integers(1, 5))
def test_it_knows_the_highest_number_of_those_who_came_last(notes, max_clients):
    decided, naive = Decided(max_clients), {}
    for client, mid in notes:
        decided.note(client, mid)
        naive[client] = max(mid, naive.pop(client, 0))
        while len(naive) > max_clients:
            del naive[next(iter(naive))]
    assert decided.of("abcdef") == naive
