"""Which mutator a name stands for, what arguments it takes, and what the built-in ones do."""

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Literal, NewType, Optional, Union

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.model.arguments import BadArguments, bind, parameters_of
from syncd.model.mutators import BUILT_IN, Mutators
from tests.model.committed_state import Bench, outcome_of, rejection_of

if TYPE_CHECKING:
    from syncd.model.transaction import Tx

OrderId = NewType("OrderId", str)
ANY = [None, True, 1, 1.5, "x", b"x", [], {}, [1], {"a": 1}]


def ship(tx: "Tx", order_id: str, carrier: str = "x", *, count: int = 1) -> None:
    pass


SHIP = parameters_of(ship)


def one_of(annotation):
    """The parameters of a mutator with one argument."""

    def act(tx, value):
        pass

    act.__annotations__["value"] = annotation
    return parameters_of(act)


# ------------------------------------------------------------------ binding


@pytest.mark.parametrize(
    ("args", "bound"),
    [
        ({"order_id": "o"}, {"order_id": "o"}),
        ({"count": 2, "order_id": "o"}, {"order_id": "o", "count": 2}),
        (["o"], {"order_id": "o"}),
        (["o", "c", 3], {"order_id": "o", "carrier": "c", "count": 3}),
    ],
)
def test_arguments_come_by_name_or_by_position(args, bound):
    assert bind(SHIP, args) == bound


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (None, "Argument order_id is missing."),
        ({}, "Argument order_id is missing."),
        ([], "Argument order_id is missing."),
        ({"carrier": "c"}, "Argument order_id is missing."),
        ({"order_id": "o", "colour": 1}, "There is no argument 'colour'."),
        ({"order_id": "o", "tx": 1}, "There is no argument 'tx'."),
        ({"order_id": "o", "c" * 500: 1}, f"There is no argument {'c' * 64!r}."),
        (["o", "c", 3, 4], "At most 3 arguments are taken, not 4."),
        ({"order_id": 5}, "order_id must be str, not int."),
        ({"order_id": None}, "order_id must be str, not nil."),
        (["o", "c", True], "count must be int, not bool."),
        ("o", "Arguments are a map by name or a list by position."),
    ],
)
def test_arguments_that_do_not_fit_are_told_by_name(args, message):
    with pytest.raises(BadArguments) as info:
        bind(SHIP, args)
    assert str(info.value) == message


def test_a_mutator_without_arguments_takes_none():
    assert bind(parameters_of(lambda tx: None), None) == {}


@pytest.mark.parametrize(
    ("annotation", "good"),
    [
        (int, [1]),
        (float, [1, 1.5]),
        (str, ["x"]),
        (bool, [True]),
        (bytes, [b"x"]),
        (list, [[], [1]]),
        (dict, [{}, {"a": 1}]),
        (None, [None]),
        (Any, ANY),
        (object, ANY),
        (OrderId, ["x"]),
        (int | None, [None, 1]),
        (Optional[int], [None, 1]),  # noqa: UP045 - the older spelling
        (Union[int, str], [1, "x"]),  # noqa: UP007 - the older spelling
        (int | str | None, [None, 1, "x"]),
        (list[int], [[], [1]]),
        (dict[str, int], [{}, {"a": 1}]),
        (list[Any], [[], [1]]),
        (Literal["x", 1], ["x", 1]),
        (Literal[None, True], [None, True]),  # noqa: PYI061 - the longer spelling
    ],
)
def test_values_are_held_to_the_annotation_by_exact_type(annotation, good):
    parameters = one_of(annotation)
    for value in ANY:
        is_good = any(type(value) is type(each) and value == each for each in good)
        if is_good:
            assert bind(parameters, [value]) == {"value": value}
            continue
        with pytest.raises(BadArguments, match=r"^value(\[0\]|\.a)? must be "):
            bind(parameters, [value])


def test_float_makes_a_float_and_int_or_float_does_not():
    assert [type(bind(one_of(a), [1])["value"]) for a in (float, int | float, float | int)] == [
        float,
        int,
        int,
    ]


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (list[int], [1, "x"], "value[1] must be int, not str."),
        (dict[str, list[int]], {"a": [1.5]}, "value.a[0] must be int, not float."),
        (list[str] | None, [None], "value[0] must be str, not nil."),
        (int | str, 1.5, "value must be int or str, not float."),
        (Literal["a", "b"], "c", "value must be one of 'a', 'b'."),
        (Literal["a", "b"], ["a"], "value must be one of 'a', 'b'."),
        (Literal[1], True, "value must be one of 1."),
        (float, "x", "value must be float, not str."),
        (list[float], {}, "value must be list, not dict."),
        (dict[str, int], [], "value must be dict, not list."),
    ],
)
def test_a_message_says_where_what_was_expected(annotation, value, message):
    with pytest.raises(BadArguments) as info:
        bind(one_of(annotation), [value])
    assert str(info.value) == message


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@pytest.mark.unmeasured
@given(_values)
def test_whatever_comes_is_bound_or_named_as_bad(args):
    parameters = one_of(list[dict[str, float | None]] | Literal["x"] | int)
    for each in (args, [args], {"value": args}):
        with contextlib.suppress(BadArguments):
            assert bind(parameters, each).keys() == {"value"}


# ------------------------------------------------------------------ registering


def _no_parameter():
    pass


def _only_keywords(*, tx):
    pass


def _rest(tx, *keys):
    pass


def _more(tx, **more):
    pass


def _positional(tx, key, /):
    pass


def _a_set(tx, key: set[str]):
    pass


def _odd_keys(tx, key: dict[int, str]):
    pass


def _a_tuple(tx, key: tuple[int, int]):
    pass


def _unknown(tx, key: "Nowhere"):  # noqa: F821 - the point
    pass


async def _asynchronous(tx):
    pass


def _generator(tx):
    yield


@pytest.mark.parametrize(
    "run",
    [
        _no_parameter, _only_keywords, _rest, _more, _positional, _a_set, _odd_keys, _a_tuple, _unknown, _asynchronous,
        _generator,
    ],
)  # fmt: skip
def test_what_cannot_be_a_mutator_is_refused_at_once_by_name(run):
    with pytest.raises(TypeError, match=r"mutator (orders\.)?act"):
        Mutators().add("act", run, collection="orders")


def test_a_mutator_is_called_by_collection_and_name():
    mutators = Mutators()
    mutators.add("ship", ship, collection="orders")
    mutators.add("ship", ship, collection="lines")
    mutators.add("ship", ship)
    assert mutators.names() == ["lines.ship", "orders.ship", "ship"]
    assert mutators.find("orders.ship").collection == "orders"
    assert mutators.find("ship").collection is None
    assert mutators.find("orders.put") is None


def test_a_name_is_given_once():
    mutators = Mutators()
    mutators.add("ship", ship, collection="orders")
    with pytest.raises(ValueError, match=r"orders\.ship"):
        mutators.add("ship", ship, collection="orders")


@pytest.mark.parametrize("name", ["", "a.b", "1", "a b", "x" * 65])
def test_a_name_is_a_word(name):
    with pytest.raises(ValueError, match="name"):
        Mutators().add(name, ship)


def test_methods_and_partial_functions_can_be_mutators():
    class Shop:
        def ship(self, tx, order_id: str):
            pass

    for run in (Shop().ship, functools.partial(ship, carrier="x")):
        mutator = Mutators().add("ship", run)
        assert mutator.parameters[0].name == "order_id"
    with pytest.raises(BadArguments):
        Mutators().add("ship", Shop().ship).bind([5])


def test_an_applications_own_put_stands_before_the_built_in_one():
    def put(tx, key: str):
        pass

    mutators = Mutators()
    mutators.add("put", put, collection="orders")
    mutators.add_built_in("orders")
    assert mutators.find("orders.put").run is put
    assert mutators.names() == [f"orders.{name}" for name in sorted(BUILT_IN)]


# ------------------------------------------------------------------ built in


@pytest.fixture
def bench():
    bench = Bench()
    bench.mutators.add_built_in("orders")
    bench.state.seed("orders", "a", {"n": 1})
    bench.state.seed("orders", "five", 5)
    return bench


def run(bench, name, **args):
    return bench.group().run(bench.mutation(f"orders.{name}", args))


def written(decided):
    assert outcome_of(decided)["status"] == "ok"
    (write,) = decided.commit.writes
    return write.key, None if write.value is None else msgpack.unpackb(write.value)


def test_built_in_mutators_do_what_they_are_called(bench):
    assert written(run(bench, "put", key="b", value=[1])) == ("b", [1])
    assert written(run(bench, "patch", key="a", patch={"m": 2})) == ("a", {"n": 1, "m": 2})
    assert written(run(bench, "delete", key="a")) == ("a", None)
    assert written(run(bench, "incr", key="a", by=2, field="n")) == ("a", {"n": 3})
    decided = run(bench, "incr", key="five")
    assert written(decided) == ("five", 6)
    assert outcome_of(decided)["value"] == 6
    assert type(outcome_of(decided)["value"]) is int


@pytest.mark.parametrize(
    ("name", "args"),
    [("put", {"value": 1}), ("patch", {"patch": {}}), ("delete", {}), ("incr", {"field": "n"})],
)
def test_if_version_guards_every_built_in_mutator(bench, name, args):
    assert outcome_of(run(bench, name, key="a", if_version=1, **args))["status"] == "ok"
    for version in (0, 2):
        refused = run(bench, name, key="a", if_version=version, **args)
        assert rejection_of(refused) == "version_mismatch"
        assert [read.key for read in refused.commit.reads] == ["a"]


def test_if_version_0_creates_only(bench):
    assert written(run(bench, "put", key="b", value=1, if_version=0)) == ("b", 1)
    assert rejection_of(run(bench, "put", key="a", value=1, if_version=0)) == "version_mismatch"


def test_nobody_has_seen_a_version_of_this_very_commit(bench):
    group = bench.group()
    group.run(bench.mutation("orders.put", ["a", 1]))
    group.run(bench.mutation("orders.delete", ["five"]))
    for version in (1, 3):
        refused = group.run(bench.mutation("orders.put", ["a", 2, version]))
        assert rejection_of(refused) == "version_mismatch"
    created = group.run(bench.mutation("orders.put", ["five", 2, 0]))
    assert outcome_of(created)["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("put", ["a"]),
        ("put", {"key": 1, "value": 1}),
        ("patch", ["a", 5]),
        ("delete", ["a", "1"]),
        ("incr", ["a", "1"]),
        ("incr", ["a", True]),
    ],
)
def test_built_in_mutators_check_their_arguments(bench, name, args):
    decided = bench.group().run(bench.mutation(f"orders.{name}", args))
    assert rejection_of(decided) == "bad_arguments"
