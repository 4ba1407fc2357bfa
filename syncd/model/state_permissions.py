"""Who may read and change which collection: the rules of an application's definitions, compiled once.

As `permissions` for channels. What is asked about is named by a target: reading by the collection's channel (`orders`, `orders/eu`), a
mutator by its name, a built-in mutator by the channel it writes to. Collections that do not exist admit nobody.
"""

from __future__ import annotations

import attrs

from syncd.ids import ChannelName
from syncd.model.definitions import AppDefinition
from syncd.model.mutators import BUILT_IN
from syncd.model.permissions import Rule, parse_rule
from syncd.ports import Identity

__all__ = ["Call", "StatePermissions"]

_Rules = tuple[Rule, ...]


@attrs.frozen
class Call:
    """Whose rules hold for a mutator."""

    collection: str | None
    """None: the application's."""
    is_built_in: bool
    """One of `put`, `patch`, `delete`, `incr` as syncd has them: the rules for writing hold."""
    is_partitioned: bool


class StatePermissions:
    """The rules of all collections of an application."""

    def __init__(self, app: AppDefinition) -> None:
        """Compile the rules of an application in force.

        Raises:
            ConfigError: a rule is none that exists.
        """
        self._read = {name: _rules(each.read) for name, each in app.collections.items()}
        self._mutate = {name: _rules(each.mutate) for name, each in app.collections.items()}
        self._write = {name: _rules(each.write) for name, each in app.collections.items()}
        self._partitioned = {n for n, each in app.collections.items() if each.is_partitioned}
        self._mutate_app = _rules(app.mutate)
        self._calls: dict[str, Call] = {}
        for mutator in app.mutators:
            short_name = mutator.name.rpartition(".")[2]
            is_built_in = mutator.collection is not None and BUILT_IN.get(short_name) is mutator.run
            self._calls[mutator.name] = self._call(mutator.collection, is_built_in=is_built_in)

    def _call(self, collection: str | None, *, is_built_in: bool) -> Call:
        return Call(collection, is_built_in, collection in self._partitioned)

    def call_of(self, name: str) -> Call:
        """Return whose rules hold for a mutator. One that does not exist is judged as if it did, where its name puts it."""
        call = self._calls.get(name)
        if call is not None:
            return call
        collection, _, short_name = name.partition(".")
        if collection not in self._mutate:
            return self._call(None, is_built_in=False)
        return self._call(collection, is_built_in=short_name in BUILT_IN)

    def may_read(self, identity: Identity, channel: ChannelName) -> bool | None:
        """Tell whether any rule admits to read a channel; None when there are no rules."""
        return _admits(self._read.get(channel.partition("/")[0]), identity, channel)

    def may_mutate(self, identity: Identity, call: Call, name: str) -> bool | None:
        """Tell whether any rule admits to call a mutator; None when there are no rules."""
        rules = self._mutate_app if call.collection is None else self._mutate[call.collection]
        return _admits(rules, identity, name)

    def may_write(self, identity: Identity, call: Call, channel: str) -> bool | None:
        """Tell whether any rule admits to use a built-in mutator on a channel; None when there are no rules."""
        assert call.collection is not None
        return _admits(self._write[call.collection], identity, channel)


def _rules(texts: tuple[str, ...] | None) -> _Rules:
    return tuple(map(parse_rule, texts or ()))


def _admits(rules: _Rules | None, identity: Identity, target: str) -> bool | None:
    if rules is None:
        return False
    if not rules:
        return None
    return any(rule(identity, ChannelName(target)) for rule in rules)
