"""The registry of mutators: which code a mutation's name stands for, and which collection it acts on.

A mutator of a collection is called `<collection>.<name>` on the wire, so that whoever decides on permission sees the
collection without running anything. Built-in ones come with a collection where its rules allow.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from syncd.model.arguments import Parameter, bind, parameters_of
from syncd.model.transaction import Tx

__all__ = ["BUILT_IN", "Mutator", "Mutators"]

_is_name = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}").fullmatch


@attrs.frozen
class Mutator:
    """A named piece of application code."""

    name: str
    run: Callable[..., object]
    """`(tx, **arguments)`."""
    collection: str | None
    """What its `tx` acts on unless told otherwise."""
    parameters: list[Parameter]
    is_built_in: bool = False
    """Not the application's: allowed by the collection's `write` rules, not by `mutate`."""

    def bind(self, args: object) -> dict[str, Any]:
        """Return checked arguments; see `arguments.bind`."""
        return bind(self.parameters, args)


class Mutators:
    """All mutators of an application."""

    def __init__(self) -> None:
        self._by_name: dict[str, Mutator] = {}

    def __iter__(self) -> Iterator[Mutator]:
        return iter(self._by_name.values())

    def copy(self) -> Mutators:
        """Return a registry of its own with the same mutators."""
        other = Mutators()
        other._by_name.update(self._by_name)
        return other

    def add(
        self, name: str, run: Callable[..., object], *, collection: str | None = None
    ) -> Mutator:
        """Register a mutator.

        Raises:
            ValueError: the name is none, or taken.
            TypeError: the function cannot be a mutator.
        """
        if _is_name(name) is None:
            raise ValueError(f"{name!r} cannot be a mutator's name")
        if inspect.iscoroutinefunction(run) or inspect.isgeneratorfunction(run):
            raise TypeError(
                f"mutator {name}: it must be a plain function, neither async nor a generator"
            )
        full_name = name if collection is None else f"{collection}.{name}"
        if full_name in self._by_name:
            raise ValueError(f"there is a mutator {full_name} already")
        try:
            parameters = parameters_of(run)
        except TypeError as failure:
            raise TypeError(f"mutator {full_name}: {failure}") from None
        is_built_in = run is BUILT_IN.get(name)
        mutator = Mutator(full_name, run, collection, parameters, is_built_in)
        self._by_name[full_name] = mutator
        return mutator

    def add_built_in(self, collection: str) -> None:
        """Register `put`, `patch`, `delete` and `incr` for a collection, except those it has its own of."""
        for name, run in BUILT_IN.items():
            if f"{collection}.{name}" not in self._by_name:
                self.add(name, run, collection=collection)

    def find(self, name: str) -> Mutator | None:
        """Return the mutator of that full name."""
        return self._by_name.get(name)

    def names(self) -> list[str]:
        """Return all full names, sorted."""
        return sorted(self._by_name)


# ------------------------------------------------------------------------------------------------ built in


def put(tx: Tx, key: str, value: Any, if_version: int | None = None) -> None:
    """Set an entry."""
    _require_version(tx, key, if_version)
    tx.put(key, value)


def patch(tx: Tx, key: str, patch: dict, if_version: int | None = None) -> None:  # type: ignore[type-arg]
    """Merge a patch into an entry (RFC 7386)."""
    _require_version(tx, key, if_version)
    tx.patch(key, patch)


def delete(tx: Tx, key: str, if_version: int | None = None) -> None:
    """Remove an entry, if there is one."""
    _require_version(tx, key, if_version)
    tx.delete(key)


def incr(
    tx: Tx,
    key: str,
    by: int | float = 1,  # noqa: PYI041 - `float` alone would make floats of integers
    field: str | None = None,
    if_version: int | None = None,
) -> int | float:
    """Add to a number; the outcome's value is the sum."""
    _require_version(tx, key, if_version)
    return tx.incr(key, by, field=field)


def _require_version(tx: Tx, key: str, if_version: int | None) -> None:
    """Refuse unless the entry is still what the client saw; 0: unless there is none.

    What changes in the same commit has no version yet, so no client can have seen it.
    """
    if if_version is not None and tx.version(key) != if_version:
        tx.reject("version_mismatch", "The entry has changed since.")


BUILT_IN: dict[str, Callable[..., object]] = {
    "put": put,
    "patch": patch,
    "delete": delete,
    "incr": incr,
}
"""Built-in mutators by name."""
