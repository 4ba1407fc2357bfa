"""What an application has defined so far, and the refusal of what cannot be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from syncd.app.options import hint
from syncd.errors import ConfigError
from syncd.model.definitions import AppDefinition, AppRuntime, Authorizer, CollectionDefinition
from syncd.model.functions import check_async, check_async_generator, check_callable
from syncd.model.mutators import Mutators

__all__ = ["Draft"]

F = TypeVar("F", bound=Callable[..., Any])

_SHAPES = {
    "loader": (1, "(key) or (keys)"),
    "warm": (0, "()"),
    "scanner": (1, "(after)"),
    "count": (0, "()"),
    "on_commit": (1, "(change)"),
}
"""Role to how many arguments its function is given, and how to write them."""


class Draft:
    """Definitions being gathered; closed while a node runs them. Every refusal is a `ConfigError`."""

    def __init__(self, mutate: tuple[str, ...] | None) -> None:
        self.is_closed = False
        self._mutate = mutate
        self._collections: dict[str, CollectionDefinition] = {}
        self._mutators = Mutators()
        self._authorizer: Authorizer | None = None

    def definition(self, name: str, bind: Callable[[AppRuntime | None], None]) -> AppDefinition:
        """Return what was gathered so far; what is added later changes nothing in it."""
        return AppDefinition(
            name,
            collections=dict(self._collections),
            mutators=self._mutators.copy(),
            authorizer=self._authorizer,
            mutate=self._mutate,
            bind=bind,
        )

    def collection(self, name: str) -> CollectionDefinition:
        """Return a collection."""
        if name not in self._collections:
            raise ConfigError(f"There is no collection {name}{hint(name, self._collections)}.")
        return self._collections[name]

    def check_collection(self, name: str) -> None:
        """Raise `ValueError` unless there is one: for calls while the application runs."""
        if name not in self._collections:
            raise ValueError(f"there is no collection {name}{hint(name, self._collections)}")

    def add_collection(self, definition: CollectionDefinition) -> None:
        """Add a collection."""
        self._refuse_if_closed()
        name = definition.name
        if name in self._collections:
            raise ConfigError(
                f"collection {name} is defined twice; keep one, or give the other a name of its own."
            )
        self._collections[name] = definition

    def set_function(self, name: str, role: str, function: F, value: object) -> F:
        """Give a collection its one function of a role; the role is a field of the definition, and `value` is for it."""
        self._refuse_if_closed()
        definition = self.collection(name)
        where = f"collection {name}: {role}"
        if getattr(definition, role):
            raise ConfigError(f"{where} is given twice; keep one.")
        if role == "scanner":
            check_async_generator(function, where)
        else:
            check_async(function, where)
        num_arguments, shape = _SHAPES[role]
        check_callable(function, num_arguments, where, shape)
        changed: Any = {role: value}
        self._collections[name] = attrs.evolve(definition, **changed)
        return function

    def set_authorizer(self, function: Authorizer) -> None:
        """Set who decides on permission."""
        self._refuse_if_closed()
        if self._authorizer is not None:
            raise ConfigError(
                f"authorizer: there is one already ({_name_of(self._authorizer)}); let one function decide."
            )
        check_callable(function, 3, "authorizer", "(identity, action, target)")
        self._authorizer = function

    def mutator_of(self, collection: str | None, given: F | str | None) -> F | Callable[[F], F]:
        """Add a mutator, or return what adds one by the given name."""
        if given is not None and not isinstance(given, str):
            return self._add_mutator(given, collection, None)
        return lambda function: self._add_mutator(function, collection, given)

    def _add_mutator(self, function: F, collection: str | None, name: str | None) -> F:
        self._refuse_if_closed()
        if not callable(function):
            raise ConfigError(f"mutator: {function!r} is no function.")
        try:
            self._mutators.add(name or _name_of(function), function, collection=collection)
        except (TypeError, ValueError) as failure:
            raise ConfigError(f"{failure}.") from None
        return function

    def _refuse_if_closed(self) -> None:
        if self.is_closed:
            raise ConfigError(
                "The node runs already; define collections, mutators and hooks when the module is imported."
            )


def _name_of(function: Callable[..., object]) -> str:
    return getattr(inspect.unwrap(function), "__name__", type(function).__name__)
