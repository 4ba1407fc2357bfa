"""What a session may do on a channel, looked up once and cached in the connection.

Grants are shared: one object per namespace and set of actions, however many sessions hold it. With an authorizer of the application
both it and the rules must admit; where there are no rules for an action it decides alone. Its answers are cached like those of the
rules, until the session's next ping or `auth`, at most `GRANTS_LIVE_S`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from syncd.codes import ErrorCode
from syncd.config import Action, Namespace
from syncd.errors import RequestRejected
from syncd.gateway.authorizer import Answer, AuthorizerCalls, Failure
from syncd.gateway.connection import Connection
from syncd.gateway.holding import RETRY_MS, Held, MustWait
from syncd.ids import ChannelName
from syncd.model.permissions import Permissions
from syncd.model.reserved import is_reserved
from syncd.model.state_permissions import StatePermissions
from syncd.ports import Identity
from syncd.wire.channels import check_channel

if TYPE_CHECKING:
    from syncd.gateway.holding import Holding

__all__ = [
    "GRANTS_LIVE_S",
    "HISTORY",
    "MUTATE",
    "PRESENCE",
    "PUBLISH",
    "READ",
    "SUBSCRIBE",
    "WRITE",
    "Grant",
    "Grants",
]

SUBSCRIBE: Final = 1
PUBLISH: Final = 2
PRESENCE: Final = 4
HISTORY: Final = 8
READ: Final = 16
MUTATE: Final = 32
WRITE: Final = 64

_BITS = {
    Action.SUBSCRIBE: SUBSCRIBE,
    Action.PUBLISH: PUBLISH,
    Action.PRESENCE: PRESENCE,
    Action.HISTORY: HISTORY,
}
_ALL = SUBSCRIBE | PUBLISH | PRESENCE | HISTORY
_NAMES = {bit: action.value for action, bit in _BITS.items()} | {
    READ: "read",
    MUTATE: "mutate",
    WRITE: "write",
}
"""How the authorizer is told what is to be done."""

MAX_CACHED = 256
"""Channels a session may publish to before its cache is emptied: bounds memory, costs a look-up."""
GRANTS_LIVE_S = 60.0
"""DESIGN 5.10; a shorter `ping_s` makes it shorter."""


class Grant:
    """Actions allowed on a channel, as bits, and the channel's namespace."""

    __slots__ = ("bits", "known", "namespace")

    def __init__(self, bits: int, namespace: Namespace, known: int = _ALL) -> None:
        self.bits = bits
        self.namespace = namespace
        self.known = known
        """Actions that were decided on; for the others the authorizer is to be asked."""


class Grants:
    """Looks grants up and shares them."""

    def __init__(
        self,
        permissions: Permissions,
        state: StatePermissions | None = None,
        authorizer: AuthorizerCalls | None = None,
    ) -> None:
        """Take the rules.

        Args:
            permissions: Of channels.
            state: Of collections; None: there are none.
            authorizer: Asked besides.
        """
        self._permissions = permissions
        self._state = state
        self._authorizer = authorizer
        self._shared: dict[tuple[str, int, int], Grant] = {}
        self.has_failed = False
        """The last answer was no answer: the authorizer raised, which denies."""
        self.holding: Holding
        """Lets sessions wait for the authorizer."""

    @property
    def has_authorizer(self) -> bool:
        """Whether an answer may be another one later, though the identity is the same."""
        return self._authorizer is not None

    # ---------------------------------------------------------------- channels

    def require(self, connection: Connection, channel: ChannelName, bit: int) -> Namespace:
        """Return the channel's namespace if the session may do `bit` on it.

        Raises:
            RequestRejected: bad_channel for a name that is none, permission_denied for everything else; overloaded when the
                authorizer does not answer.
            MustWait: the authorizer is being asked.
        """
        cached = connection.grants
        grant = None if cached is None else cached.get(channel)
        if grant is None:
            grant = self._look_up(connection, channel)
        if not grant.known & bit:
            is_allowed = self._ask(connection, bit, channel)
            grant = self._share(grant.namespace, grant.bits | bit * is_allowed, grant.known | bit)
            self._keep(connection, channel, grant)
        if grant.bits & bit:
            return grant.namespace
        raise RequestRejected(ErrorCode.PERMISSION_DENIED)

    def _look_up(self, connection: Connection, channel: ChannelName) -> Grant:
        check_channel(channel)
        namespace = self._permissions.namespace(channel)
        if namespace is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        bits = known = 0
        for action, bit in _BITS.items():
            if self._permissions.allows(connection.identity, action, channel):
                bits |= bit
            elif namespace.allow.get(action):
                known |= bit
        if self._authorizer is None or is_reserved(channel):
            grant = self._share(namespace, bits, _ALL)
        else:
            grant = self._share(namespace, 0, known)
        self._keep(connection, channel, grant)
        return grant

    def _share(self, namespace: Namespace, bits: int, known: int) -> Grant:
        grant = self._shared.get((namespace.name, bits, known))
        if grant is None:
            grant = self._shared[namespace.name, bits, known] = Grant(bits, namespace, known)
        return grant

    @staticmethod
    def _keep(connection: Connection, channel: ChannelName, grant: Grant) -> None:
        if connection.grants is None or len(connection.grants) >= MAX_CACHED:
            connection.grants = {}
        connection.grants[channel] = grant

    # ---------------------------------------------------------------- collections

    def require_read(self, connection: Connection, channel: ChannelName) -> None:
        """Return if the session may read and watch a collection's channel.

        Raises:
            RequestRejected: permission_denied, also for a collection that does not exist; overloaded as `require`.
            MustWait: the authorizer is being asked.
        """
        permits = connection.permits
        is_allowed = None if permits is None else permits.get((READ, channel))
        if is_allowed is None:
            by_rules: bool | None = False
            if self._state is not None:
                by_rules = self._state.may_read(connection.identity, channel)
            is_allowed = self._permit(connection, READ, channel, by_rules=by_rules)
        if not is_allowed:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)

    def may_call(self, connection: Connection, name: str, args: object) -> bool:
        """Tell whether the session may call a mutator with these arguments.

        Raises:
            RequestRejected: overloaded as `require`.
            MustWait: the authorizer is being asked.
        """
        permits, state = connection.permits, self._state
        is_allowed = None if permits is None else permits.get((MUTATE, name))
        if is_allowed is not None:
            return is_allowed
        if state is None:
            return False
        call = state.call_of(name)
        if not call.is_built_in:
            by_rules = state.may_mutate(connection.identity, call, name)
            return self._permit(connection, MUTATE, name, by_rules=by_rules)
        assert call.collection is not None
        target = call.collection
        if call.is_partitioned:
            partition, slash, _id = _key_of(args).partition("/")
            target += slash + partition if slash else ""
        if permits is not None and (WRITE, target) in permits:
            return permits[WRITE, target]
        by_rules = state.may_write(connection.identity, call, target)
        return self._permit(connection, WRITE, target, by_rules=by_rules)

    def _permit(
        self, connection: Connection, bit: int, target: str, *, by_rules: bool | None
    ) -> bool:
        """Decide and remember."""
        if self._authorizer is None or by_rules is False:
            is_allowed = bool(by_rules)
        else:
            is_allowed = self._ask(connection, bit, target)
        if connection.permits is None or len(connection.permits) >= MAX_CACHED:
            connection.permits = {}
        connection.permits[bit, target] = is_allowed
        return is_allowed

    # ---------------------------------------------------------------- the authorizer

    def _ask(self, connection: Connection, bit: int, target: str) -> bool:
        assert self._authorizer is not None
        question, held = (bit, target), connection.held
        if held is not None:
            if question in held.answers:
                return self._taken(held.answers.pop(question))
            if question in held.failed:
                raise RequestRejected(ErrorCode.OVERLOADED, after_ms=RETRY_MS)
            if question in held.asked:
                raise MustWait
        identity = connection.identity
        hear = partial(self._hear, connection, identity, question)
        answer = self._authorizer.ask(identity, _NAMES[bit], target, hear)
        if answer is not None:
            return self._taken(answer)
        self.holding.begin(connection).asked.add(question)
        raise MustWait

    def _taken(self, answer: Answer) -> bool:
        self.has_failed = answer is Failure.RAISED
        return answer is True

    def _hear(
        self,
        connection: Connection,
        identity: Identity,
        question: tuple[int, str],
        answer: Answer | None,
    ) -> None:
        held: Held | None = connection.held
        if held is None or question not in held.asked or connection.identity is not identity:
            return  # it was told in the meantime that there is no answer, or it is gone
        held.asked.discard(question)
        if answer is None:
            held.failed.add(question)
        else:
            held.answers[question] = answer
        self.holding.go_on(connection)


def _key_of(args: object) -> str:
    """Return the key that a built-in mutator is called with: its first argument by position, or `key` by name."""
    key: object = None
    if type(args) is dict:
        key = args.get("key")
    elif type(args) is list and args:
        key = args[0]
    return key if type(key) is str else ""
