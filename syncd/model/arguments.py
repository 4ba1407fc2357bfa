"""Arguments of mutators, checked against the annotations of their parameters.

Annotations are read once, when a mutator is registered; what they cannot express is refused there and then. Values come decoded
from the wire, so types are exact: True is no int. Numbers without a fraction arrive as integers, so `float` takes them and makes
them floats.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, NewType, Union, get_args, get_origin

import attrs

__all__ = ["BadArguments", "Parameter", "bind", "parameters_of"]

Check = Callable[[Any, str], Any]
"""Takes a value and what to call it; returns the value as the mutator gets it, or raises `BadArguments`."""

MAX_NAME_LENGTH = 64
"""Of a foreign name told back."""


class BadArguments(Exception):
    """The arguments do not fit; the text names the one, and never holds its value."""


@attrs.frozen
class Parameter:
    """One parameter of a mutator after `tx`."""

    name: str
    check: Check
    is_required: bool


def bind(parameters: Sequence[Parameter], args: object) -> dict[str, Any]:
    """Return arguments by name, checked; those left out are not in it.

    Args:
        args: A map by name, a list by position, or None for none.

    Raises:
        BadArguments: one is missing, unknown, or of the wrong type.
    """
    given = args if type(args) is dict else _by_name(parameters, args)
    values = {}
    for parameter in parameters:
        name = parameter.name
        if name in given:
            values[name] = parameter.check(given[name], name)
        elif parameter.is_required:
            raise BadArguments(f"Argument {name} is missing.")
    if len(values) != len(given):
        unknown = next(name for name in given if name not in values)
        raise BadArguments(f"There is no argument {unknown[:MAX_NAME_LENGTH]!r}.")
    return values


def _by_name(parameters: Sequence[Parameter], args: object) -> dict[str, Any]:
    if args is None:
        return {}
    if type(args) is not list:
        raise BadArguments("Arguments are a map by name or a list by position.")
    if len(args) > len(parameters):
        raise BadArguments(f"At most {len(parameters)} arguments are taken, not {len(args)}.")
    return {parameter.name: value for parameter, value in zip(parameters, args, strict=False)}


def parameters_of(function: Callable[..., object]) -> list[Parameter]:
    """Read the signature of a mutator, `(tx, ...)`.

    Raises:
        TypeError: it is not one that arguments from the wire can be given to; the text names the parameter.
    """
    declared = [*inspect.signature(function).parameters.values()]
    if not declared or declared[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise TypeError("a mutator's first parameter is `tx`")
    annotations = _annotations(function)
    return [_parameter(parameter, annotations) for parameter in declared[1:]]


def _annotations(function: Callable[..., object]) -> dict[str, Any]:
    """Return what can be resolved; a name known only to type checkers matters to us only on an argument."""
    annotations = {**inspect.get_annotations(inspect.unwrap(function))}
    annotations.pop("return", None)
    first = next(iter(inspect.signature(function).parameters))
    annotations.pop(first, None)
    holder = types.SimpleNamespace(__annotations__=annotations)
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=names)
    except NameError as failure:
        raise TypeError(f"an annotation cannot be resolved: {failure}") from None


def _parameter(declared: inspect.Parameter, annotations: dict[str, Any]) -> Parameter:
    if declared.kind not in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    ):
        raise TypeError(f"parameter {declared.name}: arguments need names of their own")
    annotation = annotations.get(declared.name, Any)
    try:
        check = _check_of(annotation)
    except TypeError as failure:
        raise TypeError(f"parameter {declared.name}: {failure}") from None
    return Parameter(declared.name, check, declared.default is inspect.Parameter.empty)


# ------------------------------------------------------------------------------------------------ checks

_NAMES = {
    int: "int", float: "float", str: "str", bool: "bool", bytes: "bytes", list: "list", dict: "dict",
    type(None): "nil",
}  # fmt: skip


def _name_of(value: object) -> str:
    return _NAMES.get(type(value), "something else")


def _check_of(annotation: Any) -> Check:
    while isinstance(annotation, NewType):
        annotation = annotation.__supertype__
    if annotation is Any or annotation is object:
        return _check_nothing
    if annotation is float:
        return _check_float
    if annotation is None:
        annotation = type(None)
    if annotation in _EXACT:
        return _EXACT[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _literal_check(args)
    if origin in (Union, types.UnionType):
        return _union_check(args)
    if origin is list:
        return _list_check(_check_of(args[0]))
    if origin is dict and args[0] is str:
        return _dict_check(_check_of(args[1]))
    raise TypeError(f"arguments cannot be checked against {annotation!r}")


def _check_nothing(value: Any, name: str) -> Any:  # noqa: ARG001 - a `Check`
    return value


def _check_float(value: Any, name: str) -> Any:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise BadArguments(f"{name} must be float, not {_name_of(value)}.")


def _exact_check(expected: type) -> Check:
    def check(value: Any, name: str) -> Any:
        if type(value) is not expected:
            raise BadArguments(f"{name} must be {_NAMES[expected]}, not {_name_of(value)}.")
        return value

    return check


_EXACT: dict[Any, Check] = {kind: _exact_check(kind) for kind in _NAMES if kind is not float}


def _literal_check(choices: tuple[Any, ...]) -> Check:
    known = {(type(choice), choice) for choice in choices}
    text = ", ".join(repr(choice) for choice in choices)

    def check(value: Any, name: str) -> Any:
        if type(value) not in _NAMES or type(value) in (list, dict):
            raise BadArguments(f"{name} must be one of {text}.")
        if (type(value), value) not in known:
            raise BadArguments(f"{name} must be one of {text}.")
        return value

    return check


def _union_check(members: tuple[Any, ...]) -> Check:
    """Try each member; `float` last, which would make floats of integers that another one takes as they are."""
    if type(None) in members and len(members) == 2:
        return _optional_check(_check_of(members[members[0] is type(None)]))
    checks = [_check_of(member) for member in sorted(members, key=lambda each: each is float)]
    text = " or ".join(_text_of(member) for member in members)

    def check(value: Any, name: str) -> Any:
        for each in checks:
            try:
                return each(value, name)
            except BadArguments:
                continue
        raise BadArguments(f"{name} must be {text}, not {_name_of(value)}.")

    return check


def _optional_check(check_value: Check) -> Check:
    def check(value: Any, name: str) -> Any:
        return None if value is None else check_value(value, name)

    return check


def _text_of(annotation: Any) -> str:
    return _NAMES.get(annotation) or str(annotation)


def _list_check(check_item: Check) -> Check:
    def check(value: Any, name: str) -> Any:
        if type(value) is not list:
            raise BadArguments(f"{name} must be list, not {_name_of(value)}.")
        return [check_item(item, f"{name}[{index}]") for index, item in enumerate(value)]

    return check


def _dict_check(check_item: Check) -> Check:
    def check(value: Any, name: str) -> Any:
        if type(value) is not dict:
            raise BadArguments(f"{name} must be dict, not {_name_of(value)}.")
        return {
            key: check_item(item, f"{name}.{key[:MAX_NAME_LENGTH]}") for key, item in value.items()
        }

    return check
