"""When a call is over and when it is tried again. Pure: the publishers send and sleep.

Every call may be repeated: reads change nothing, publications carry an idempotency key, and the rest have the same effect twice.
"""

from __future__ import annotations

import random
from typing import Any, Generic, TypeVar

import attrs
import httpx

from syncd.backend.calls import Call, refusal_from_error
from syncd.backend.errors import BackendError, Refused, Unauthorized, Unreachable

__all__ = ["Attempts", "RetryPolicy"]

T = TypeVar("T")


@attrs.frozen
class RetryPolicy:
    """How often and how patiently a call is tried again."""

    max_attempts: int = 4
    """One call then holds its caller up for some 2 s of waits, besides the time the server takes."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0
    """Also bounds what the server may ask for: a web request should fail rather than hang."""


class Attempts(Generic[T]):
    """One call on its way: told of every answer or failure, it says how long to wait or that all is done."""

    def __init__(self, call: Call[T], policy: RetryPolicy, rng: random.Random) -> None:
        self._call = call
        self._policy = policy
        self._rng = rng
        self._num_attempts = 0
        self._results: list[T] = []

    @property
    def result(self) -> T:
        """What the call returns, once `answered` returned None."""
        return self._results[0]

    def answered(self, response: httpx.Response) -> float | None:
        """Take an answer: None when it is the result, else seconds to wait before the next attempt.

        Raises:
            BackendError: it is final.
        """
        error = self._read(response)
        if error is None:
            return None
        is_retryable = response.status_code >= 500 or response.status_code == 429
        is_retryable |= isinstance(error, Refused) and error.retryable
        after_ms = error.after_ms if isinstance(error, Refused) else None
        return self._wait_s(error, is_retryable=is_retryable, floor_s=(after_ms or 0) / 1000)

    def failed(self, failure: httpx.HTTPError) -> float:
        """Take a failure to get an answer; return seconds to wait before the next attempt.

        Raises:
            Unreachable: it was the last one.
        """
        error = Unreachable(f"{type(failure).__name__}: {failure}".rstrip(": "))
        return self._wait_s(error, is_retryable=isinstance(failure, httpx.TransportError))

    def _wait_s(self, error: BackendError, *, is_retryable: bool, floor_s: float = 0.0) -> float:
        self._num_attempts += 1
        policy = self._policy
        if not is_retryable or self._num_attempts >= policy.max_attempts:
            raise error
        ceiling = policy.first_wait_s * 2.0 ** (self._num_attempts - 1)
        return min(policy.longest_wait_s, floor_s + self._rng.uniform(0.5, 1.0) * ceiling)

    def _read(self, response: httpx.Response) -> BackendError | None:
        """Read the answer: keep the result and return None, or return the error it stands for."""
        status = response.status_code
        answer = _json_object(response)
        try:
            if status == 200:
                self._results = [self._call.read(answer)]
                return None
            refusal = refusal_from_error(answer["error"], status)
        except (KeyError, TypeError, ValueError, AttributeError):
            text = f"Status {status} and no answer of syncd: is this the right address?"
            return Unreachable(text)
        if status == 401:
            return Unauthorized(refusal.code, refusal.message, status=status)
        return refusal


def _json_object(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
