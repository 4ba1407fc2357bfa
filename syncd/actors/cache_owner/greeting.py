"""Sessions that greet with clients they know: the store is asked once for all of a batch, one batch at a time. Owner of: who greets just now.

While an answer is on its way further greetings wait for it, so that a storm of them is few questions, however it is spread.
"""

from __future__ import annotations

from syncd.errors import SyncdError
from syncd.ports_collections import AddClients, LastMids
from syncd.ports_state import StateReader, StateStoreHandle

__all__ = ["Greeting"]


class Greeting:
    """Greetings of the batch at hand."""

    def __init__(self, store: StateStoreHandle) -> None:
        self._store = store
        self._waiting: list[AddClients] = []
        self._is_asking = False

    def greet(self, message: AddClients) -> None:
        """Have it answered with this batch."""
        self._waiting.append(message)

    def take(self) -> list[AddClients]:
        """Return those not asked for yet, for somebody else to answer."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def ask(self) -> None:
        """Ask the store once for all, unless it is asked already."""
        if not self._waiting or self._is_asking:
            return
        self._is_asking = True
        greetings = self.take()
        clients = [client for greeting in greetings for client in greeting.clients]

        def work(reader: StateReader) -> LastMids:
            return LastMids(reader.last_mids(clients), reader.era())

        def done(answer: LastMids | SyncdError) -> None:
            self._is_asking, start = False, 0
            for greeting in greetings:
                end = start + len(greeting.clients)
                if isinstance(answer, SyncdError):
                    greeting.done(answer)
                else:
                    greeting.done(LastMids(answer.mids[start:end], answer.era))
                start = end
            self.ask()

        self._store.read_state(work, done)
