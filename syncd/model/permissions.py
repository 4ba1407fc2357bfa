"""Who may do what on which channel: the rules of `syncd.toml`, compiled once.

Owns nothing that changes. Sessions ask once a channel (`grants`) and cache the answer; an unknown namespace grants
nothing, so that "not allowed" and "not there" look the same. Backends with an API key are not asked about: the HTTP API
allows them everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from syncd.config import Action, Namespace
from syncd.errors import ConfigError
from syncd.ids import ChannelName
from syncd.ports import Identity
from syncd.wire.channels import namespace_of

__all__ = ["ACTION_BITS", "MAX_PATTERNS", "Permissions", "Rule", "matches_pattern", "parse_rule"]

ACTION_BITS: dict[Action, int] = {action: 1 << index for index, action in enumerate(Action)}
"""The bit of each action in what `grants` returns."""

MAX_PATTERNS = 128
"""Patterns looked at in one claim; a claim with more admits nothing. Bounds the work of one check to about 0.1 ms."""

Rule = Callable[[Identity, ChannelName], bool]
"""Whether an identity is admitted to a channel."""

_ROLE_OR_CLAIM = re.compile(r"(role|claim):([!-~]{1,128})")
_SEPARATORS = re.compile(r"([:/])")


class Permissions:
    """The rules of all namespaces."""

    def __init__(self, namespaces: Mapping[str, Namespace]) -> None:
        """Compile the rules.

        Raises:
            ConfigError: a rule is none that exists.
        """
        self._namespaces = dict(namespaces)
        self._rules = {
            name: {action: tuple(map(parse_rule, rules)) for action, rules in ns.allow.items()}
            for name, ns in namespaces.items()
        }

    def namespace(self, channel: ChannelName) -> Namespace | None:
        """Return the options of the channel's namespace; None when there is none of that name."""
        return self._namespaces.get(namespace_of(channel))

    def allows(self, identity: Identity, action: Action, channel: ChannelName) -> bool:
        """Tell whether any rule for `action` admits `identity` to `channel`."""
        actions = self._rules.get(namespace_of(channel))
        if actions is None:
            return False
        return any(rule(identity, channel) for rule in actions.get(action, ()))

    def grants(self, identity: Identity, channel: ChannelName) -> int:
        """Return all actions allowed, as a sum of `ACTION_BITS`; 0 for none."""
        granted = 0
        for action, bit in ACTION_BITS.items():
            if self.allows(identity, action, channel):
                granted |= bit
        return granted


def parse_rule(text: str) -> Rule:
    """Return the rule that `text` names.

    Args:
        text: `anyone`, `authenticated`, `owner`, `service`, `claim` (the same as `claim:channels`), `claim:NAME` or `role:NAME`.

    Raises:
        ConfigError: it names none of these.
    """
    if text in _PLAIN_RULES:
        return _PLAIN_RULES[text]
    match = _ROLE_OR_CLAIM.fullmatch(text)
    if match is None:
        known = ", ".join((*_PLAIN_RULES, "role:NAME", "claim:NAME"))
        raise ConfigError(f"There is no rule {text!r}; use one of: {known}.")
    kind, name = match.groups()
    return _role_rule(name) if kind == "role" else _claim_rule(name)


def _anyone(_identity: Identity, _channel: ChannelName) -> bool:
    return True


def _authenticated(identity: Identity, _channel: ChannelName) -> bool:
    return identity.user is not None


def _owner(identity: Identity, channel: ChannelName) -> bool:
    """The user is the first path segment of a channel's name (`notes:ann`, `notes:ann/drafts`), or a collection's partition (`notes/ann`)."""
    _name, *rest = _SEPARATORS.split(channel, maxsplit=1)
    return bool(rest) and identity.user is not None and rest[1].partition("/")[0] == identity.user


def _service(identity: Identity, _channel: ChannelName) -> bool:
    """No client is a service: says in a configuration that only backends do this."""
    return identity.service is not None


def _role_rule(role: str) -> Rule:
    def has_role(identity: Identity, _channel: ChannelName) -> bool:
        return role in identity.roles

    return has_role


def _claim_rule(claim: str) -> Rule:
    def has_claim(identity: Identity, channel: ChannelName) -> bool:
        patterns = identity.claims.get(claim)
        if not isinstance(patterns, list) or len(patterns) > MAX_PATTERNS:
            return False
        return any(isinstance(item, str) and matches_pattern(item, channel) for item in patterns)

    return has_claim


_PLAIN_RULES: dict[str, Rule] = {
    "anyone": _anyone,
    "authenticated": _authenticated,
    "owner": _owner,
    "service": _service,
    "claim": _claim_rule("channels"),
}


def matches_pattern(pattern: str, channel: str) -> bool:
    """Tell whether a channel is one of those a pattern means. Linear in both.

    Segments end at `:` and `/`. `*` stands for any characters within a segment, also none; a last segment `**` for
    everything that is left, further segments included (`orders:u1/**` has `orders:u1/a/b`, not `orders:u1`). A pattern
    with `**` elsewhere means no channel.
    """
    wanted = _SEPARATORS.split(pattern)
    given = _SEPARATORS.split(channel)
    if wanted[-1] == "**" and len(given) >= len(wanted):
        wanted.pop()
        del given[len(wanted) :]
    if len(wanted) != len(given) or any("**" in part for part in wanted):
        return False
    return all(map(_matches_segment, wanted, given))


def _matches_segment(pattern: str, text: str) -> bool:
    """Match literals between stars leftmost first: where any choice fits, this one does."""
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    last = others.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for literal in others:
        at = text.find(literal, at, end)
        if at < 0:
            return False
        at += len(literal)
    return True
