"""Which channel names exist at all, and how they split; everybody who takes a name from outside asks here.

A name is ASCII, `namespace:name`, at most 255 bytes. There is one spelling of each name: no case folding, no percent
encoding, no Unicode, so two names that look alike are never one channel. Namespaces that begin with `$` are the server's own:
they can be asked for, but nobody may call one of his own so.
"""

from __future__ import annotations

import re

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ids import ChannelName

__all__ = ["MAX_CHANNEL_BYTES", "check_channel", "is_namespace_name", "namespace_of"]

MAX_CHANNEL_BYTES = 255
"""Fits one length byte; `messages.toml` says the same of every channel field."""

_NAMESPACE = r"[a-z0-9][a-z0-9_-]{0,63}"
_SEGMENT = r"(?!\.\.(?:/|\Z))[A-Za-z0-9_.:@#=+~,-]*"
_is_namespace = re.compile(_NAMESPACE).fullmatch
_is_channel = re.compile(rf"\$?{_NAMESPACE}:(?=.){_SEGMENT}(?:/{_SEGMENT})*").fullmatch
"""Every character has one way to match, so a name costs one pass whatever it holds."""


def check_channel(name: str) -> ChannelName:
    """Return `name` as a channel name.

    Raises:
        RequestRejected: `bad_channel`, when it is not of the form `namespace:name`.
    """
    if len(name) > MAX_CHANNEL_BYTES or _is_channel(name) is None:
        raise RequestRejected(ErrorCode.BAD_CHANNEL)
    return ChannelName(name)


def namespace_of(channel: ChannelName) -> str:
    """Return the part before the first colon or slash, or all of it: channels of collections are `orders` and `orders/eu`."""
    return channel.partition(":")[0].partition("/")[0]


def is_namespace_name(name: str) -> bool:
    """Tell whether a namespace may be called so."""
    return _is_namespace(name) is not None
