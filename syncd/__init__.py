"""A realtime sync server: recoverable channels, presence and optimistic state over one WebSocket.

An application needs no more than what stands here: `from syncd import App`. Each name is imported when it is first asked for, so that
`syncd publish` does not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncd.app import App, Collection
    from syncd.errors import ConfigError, MutationRejected, SyncdError
    from syncd.model.definitions import EntryChange, Tagged
    from syncd.model.transaction import Tx
    from syncd.ports import Identity

__all__ = [
    "App",
    "Collection",
    "ConfigError",
    "EntryChange",
    "Identity",
    "MutationRejected",
    "SyncdError",
    "Tagged",
    "Tx",
]

_HOMES = {
    "App": "syncd.app",
    "Collection": "syncd.app",
    "ConfigError": "syncd.errors",
    "EntryChange": "syncd.model.definitions",
    "Identity": "syncd.ports",
    "MutationRejected": "syncd.errors",
    "SyncdError": "syncd.errors",
    "Tagged": "syncd.model.definitions",
    "Tx": "syncd.model.transaction",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
