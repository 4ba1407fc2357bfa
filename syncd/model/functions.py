"""Whether a function of the application can be called as it will be: seen when it is registered, not when the first key is read."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from syncd.errors import ConfigError

__all__ = ["check_async", "check_async_generator", "check_callable", "takes_list"]

_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
    tuple,
)


def check_async(function: object, where: str) -> None:
    """Raise `ConfigError` unless calling it gives something to await."""
    inner, call = _inner(function)
    if not inspect.iscoroutinefunction(inner) and not inspect.iscoroutinefunction(call):
        raise ConfigError(f"{where} must be an async function: write `async def`.")


def check_async_generator(function: object, where: str) -> None:
    """Raise `ConfigError` unless calling it gives something to iterate over with `async for`."""
    if not any(inspect.isasyncgenfunction(each) for each in _inner(function)):
        raise ConfigError(f"{where} must be an async generator: write `async def` and `yield`.")


def _inner(function: object) -> tuple[object, object]:
    """Return what a partial is of, and the method called if that is an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr(function, "__call__", None)  # noqa: B004 - an object whose call is async will do


def check_callable(
    function: Callable[..., object], num_arguments: int, where: str, shape: str
) -> None:
    """Raise `ConfigError` unless it can be called with that many arguments by position; `shape` is how to write it."""
    if not callable(function):
        raise ConfigError(f"{where}: {function!r} is no function.")
    try:
        inspect.signature(function).bind(*[None] * num_arguments)
    except TypeError:
        raise ConfigError(f"{where} must take {shape}.") from None
    except ValueError:
        return  # written in C, without a signature


def takes_list(function: Callable[..., object]) -> bool:
    """Tell whether a loader wants keys in lists: its parameter is called `keys` or annotated as a list."""
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return False
    if not parameters:
        return False
    return parameters[0].name == "keys" or _is_list(_annotation(function, parameters[0]))


def _annotation(function: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """Return the annotation; a text if it holds names that exist for type checkers alone."""
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=names)[parameter.name]
    except Exception:  # noqa: BLE001 - whatever it says; a name may exist for type checkers alone
        return annotation


def _is_list(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.lower().startswith(("list[", "sequence[")) or annotation == "list"
    return (typing.get_origin(annotation) or annotation) in _LISTS
