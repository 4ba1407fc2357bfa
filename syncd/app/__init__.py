"""What an application is written with: collections, loaders, mutators, an authorizer. Run by `syncd serve myapp:app`.

```python
app = App()
orders = app.collection("orders", ttl="10 min", stale="1 h")

@orders.loader
async def load(key): ...
```

An `App` only gathers; it starts nothing and knows no node until one binds itself to it. Everything wrong that one decorator can see
is a `ConfigError` there and then; what lies between settings is found by `model.definitions_check` before the node starts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, Unpack, overload

from syncd.app.draft import Draft
from syncd.app.options import CollectionOptions, Rules, rules, values_of
from syncd.errors import ConfigError
from syncd.model.definitions import (
    AppDefinition,
    AppRuntime,
    Authorizer,
    CollectionDefinition,
    EntryChange,
    LoaderDefinition,
    ScannerDefinition,
)
from syncd.model.functions import takes_list

__all__ = ["App", "Collection", "CollectionOptions"]

F = TypeVar("F", bound=Callable[..., Any])
LoaderFunction = TypeVar("LoaderFunction", bound=Callable[..., Awaitable[Any]])
CommitFunction = TypeVar("CommitFunction", bound=Callable[[EntryChange], Awaitable[object]])
WarmFunction = TypeVar("WarmFunction", bound=Callable[[], Awaitable[Iterable[str]]])
ScannerFunction = TypeVar("ScannerFunction", bound=Callable[[Any], AsyncGenerator[Any, None]])
CountFunction = TypeVar("CountFunction", bound=Callable[[], Awaitable[int]])
AuthorizerFunction = TypeVar("AuthorizerFunction", bound=Authorizer)


class App:
    """An application: what it adds to a node.

    Args:
        mutate: Who may call mutators that belong to no collection; rules as of a collection.
    """

    def __init__(self, *, mutate: Rules | None = None) -> None:
        self._draft = Draft(None if mutate is None else rules(mutate, "App: mutate"))
        self._runtime: AppRuntime | None = None

    # -------------------------------------------------------------------------------------------- defining

    def collection(self, name: str, **options: Unpack[CollectionOptions]) -> Collection:
        """Add a collection.

        Args:
            name: 1 to 64 of a-z, 0-9, _ and -, the first a letter or digit; no namespace may have the same name.
            **options: See `CollectionOptions`.

        Raises:
            ConfigError: there is one of this name, or an option is unknown or not what it should be.
        """
        definition = CollectionDefinition(name, **values_of(name, dict(options)))
        self._draft.add_collection(definition)
        return Collection(self._draft, name)

    @overload
    def mutator(self, function: F, /) -> F: ...
    @overload
    def mutator(self, name: str | None = None, /) -> Callable[[F], F]: ...
    def mutator(self, function: F | str | None = None, /) -> F | Callable[[F], F]:
        """Add a mutator that belongs to no collection: `@app.mutator`, or with a name `@app.mutator("ship")`.

        Its `tx` needs `collection=` in every call.

        Raises:
            ConfigError: it is async, takes what cannot be checked, or its name is taken.
        """
        return self._draft.mutator_of(None, function)

    def authorizer(self, function: AuthorizerFunction) -> AuthorizerFunction:
        """Set who decides on permission: `(identity, action, target) -> bool`, sync or async.

        Its answers are cached per session for a minute at most; an exception denies.

        Raises:
            ConfigError: there is one already, or it takes something else.
        """
        self._draft.set_authorizer(function)
        return function

    def on_commit(self, collection: str) -> Callable[[CommitFunction], CommitFunction]:
        """Set what is called for each committed change of a collection: an async function of one `EntryChange`.

        Called at least once a change, in order per key, again until it returns. With it the application's own database is the
        source of the entries.

        Raises:
            ConfigError: there is no such collection, it has one already, or the function is not async.
        """
        if callable(collection):
            raise ConfigError('on_commit: write `@app.on_commit("orders")`, with the collection.')
        self._draft.collection(collection)
        return lambda function: self._draft.set_function(
            collection, "on_commit", function, function
        )

    def definition(self, name: str = "app") -> AppDefinition:
        """Return what was gathered so far; `name` is for logs."""
        return self._draft.definition(name, self.bind)

    # -------------------------------------------------------------------------------------------- at run time

    def bind(self, runtime: AppRuntime | None) -> None:
        """Let `invalidate`, `read` and `mutate` reach a running node. Called by the node; None when it stops."""
        self._runtime = runtime
        self._draft.is_closed = runtime is not None

    async def invalidate(
        self,
        collection: str,
        *,
        keys: str | Iterable[str] | None = None,
        tags: str | Iterable[str] | None = None,
        everything: bool = False,
    ) -> None:
        """Say that the source has changed: by keys, by tags, or everything (exactly one of them). To be called after a commit.

        No keys, or no tags, is nothing to do. To be called in Trio's thread; from one that `trio.to_thread` started:
        `trio.from_thread.run(functools.partial(app.invalidate, "orders", keys="1"))`.

        Raises:
            SyncdError: it could not be done now; nothing was half done.
            ValueError: there is no such collection, or not exactly one of the three is given.
            RuntimeError: no node runs this application.

        Cancellation: it may have been done or not.
        """
        if (keys is not None) + (tags is not None) + everything != 1:
            raise ValueError("give exactly one of keys, tags and everything=True")
        self._draft.check_collection(collection)
        of_keys, of_tags = _texts(keys, "keys"), _texts(tags, "tags")
        runtime = self._running()
        if of_keys or of_tags or everything:
            await runtime.invalidate(collection, keys=of_keys, tags=of_tags, everything=everything)

    async def read(self, collection: str, keys: str | Iterable[str]) -> dict[str, Any]:
        """Return the values of the entries there are, by key, loading what is not in memory.

        Raises:
            SyncdError: one of them cannot be had now.
            ValueError: there is no such collection.
            RuntimeError: no node runs this application.
        """
        self._draft.check_collection(collection)
        return await self._running().read(collection, _texts(keys, "keys"))

    async def mutate(
        self, name: str, args: object = None, *, idempotency_key: str | None = None
    ) -> Any:
        """Run a mutator as a backend, and return what it returned once that is durable.

        Args:
            name: `orders.ship`, or `ship` for one of no collection.
            args: A dict by name, a list by position, or None.
            idempotency_key: With the same key it takes effect once, however often it is asked for within a day.

        Raises:
            MutationRejected: it was refused for good.
            SyncdError: it could not be done now.
            RuntimeError: no node runs this application.

        Cancellation: it may have been done or not; with an `idempotency_key` it is safe to ask again.
        """
        return await self._running().mutate(name, args, idempotency_key=idempotency_key)

    def _running(self) -> AppRuntime:
        if self._runtime is None:
            raise RuntimeError(
                "no node runs this application yet: start it with `syncd serve`, and call this from its loaders, hooks or tasks; "
                "another process asks a node through its HTTP API (syncd.backend)"
            )
        return self._runtime


class Collection:
    """One collection of an application, to be given functions. Made by `App.collection`."""

    def __init__(self, draft: Draft, name: str) -> None:
        self._draft = draft
        self.name = name

    def loader(self, function: LoaderFunction) -> LoaderFunction:
        """Set how entries are read from their source: an async function of one key, or of a list of keys.

        It takes a list if its parameter is called `keys` or annotated as a list, and returns a dict of values by key or a list of
        values in the order of the keys. None means that there is no such entry. It may be called for the same key again; it must
        not write.

        Raises:
            ConfigError: there is one already, or it is not async, or takes something else.
        """
        return self._draft.set_function(
            self.name, "loader", function, LoaderDefinition(function, takes_list(function))
        )

    def warm(self, function: WarmFunction) -> WarmFunction:
        """Set which keys are loaded at start: an async function of nothing that returns them, the most wanted first.

        Raises:
            ConfigError: there is one already, or a number of `warm` keys is given, or it is not async.
        """
        return self._draft.set_function(self.name, "warm", function, function)

    def scanner(self, *, page: int = 500) -> Callable[[ScannerFunction], ScannerFunction]:
        """Set how a rebuild reads the whole source: `@orders.scanner(page=500)`, an async generator of `(key, value)` or `(key, value, tags)`.

        It is called with the last key that is done, or None, and yields what comes after that, in an order that stays the same; it
        may be called again from any key it has yielded. What it yields it has read after it was called.

        Args:
            page: Rows after which the rebuild can be resumed, about; from 1,000 on, or where rows are large, it is fewer.

        Raises:
            ConfigError: there is one already, it is no async generator, or takes something else.
        """
        if type(page) is not int:
            raise ConfigError("scanner: write `@orders.scanner(page=500)`, with a whole number.")
        return lambda function: self._draft.set_function(
            self.name, "scanner", function, ScannerDefinition(function, page)
        )

    def count(self, function: CountFunction) -> CountFunction:
        """Set how many rows the scanner yields, about, for percentages: an async function of nothing.

        Raises:
            ConfigError: there is one already, or it is not async.
        """
        return self._draft.set_function(self.name, "count", function, function)

    def on_commit(self, function: CommitFunction) -> CommitFunction:
        """Set what is called for each committed change; see `App.on_commit`."""
        return self._draft.set_function(self.name, "on_commit", function, function)

    @overload
    def mutator(self, function: F, /) -> F: ...
    @overload
    def mutator(self, name: str | None = None, /) -> Callable[[F], F]: ...
    def mutator(self, function: F | str | None = None, /) -> F | Callable[[F], F]:
        """Add a mutator, called `<collection>.<function>` by clients: `@orders.mutator`, or with a name `@orders.mutator("ship")`.

        One that is called like a built-in one (`put`, `patch`, `delete`, `incr`) takes its place.

        Raises:
            ConfigError: it is async, takes what cannot be checked, or its name is taken.
        """
        return self._draft.mutator_of(self.name, function)


def _texts(value: str | Iterable[str] | None, what: str) -> list[str]:
    texts = [value] if isinstance(value, str) else list(value or ())
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{what} must be texts")
    return texts
