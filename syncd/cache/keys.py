"""The key of a call: the same for every way to write the same call, `f(1)`, `f(x=1)` and `f(1, flag=False)` with that default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["key_maker"]

_PLAIN = frozenset({str, int, bytes})


def key_maker(function: Callable[..., Any]) -> Callable[..., Hashable]:
    """Return a function that takes a call's arguments and returns its key.

    A lone `str`, `int` or `bytes` argument is its own key; any other call has the tuple of all values, defaults filled in. With
    `*args` or `**kwargs`: the positional values and the sorted keyword values.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C do not tell
        return _blind_key
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    if any(parameter.kind in variable for parameter in signature.parameters.values()):
        return _variable_maker(signature)
    if len(signature.parameters) == 1:
        return _single_maker(signature)
    return _fixed_maker(signature)


def _blind_key(*args: Any, **kwargs: Any) -> Hashable:
    return args, tuple(sorted(kwargs.items()))


def _values(signature: inspect.Signature, args: Any, kwargs: Any) -> tuple[Any, ...]:
    """All values of a call in the order of the parameters."""
    call = signature.bind(*args, **kwargs)
    call.apply_defaults()
    return tuple(call.arguments.values())


def _variable_maker(signature: inspect.Signature) -> Callable[..., Hashable]:
    def key(*args: Any, **kwargs: Any) -> Hashable:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        return call.args, tuple(sorted(call.kwargs.items()))

    return key


def _single_maker(signature: inspect.Signature) -> Callable[..., Hashable]:
    def key(*args: Any, **kwargs: Any) -> Hashable:
        values = args if len(args) == 1 and not kwargs else _values(signature, args, kwargs)
        value: Hashable = values[0]
        return value if type(value) in _PLAIN else values

    return key


def _fixed_maker(signature: inspect.Signature) -> Callable[..., Hashable]:
    missing = _missing_values(signature)

    def key(*args: Any, **kwargs: Any) -> Hashable:
        if not kwargs:
            rest = missing.get(len(args))
            if rest is not None:
                return args + rest
        return _values(signature, args, kwargs)

    return key


def _missing_values(signature: inspect.Signature) -> dict[int, tuple[Any, ...]]:
    """Number of positional arguments to the defaults that complete them, where these suffice."""
    parameters = list(signature.parameters.values())
    defaults = [parameter.default for parameter in parameters]
    num_positional = sum(each.kind is not inspect.Parameter.KEYWORD_ONLY for each in parameters)
    return {
        given: tuple(defaults[given:])
        for given in range(num_positional + 1)
        if all(default is not inspect.Parameter.empty for default in defaults[given:])
    }
