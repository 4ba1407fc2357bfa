"""Nodes as `syncd serve` starts them, and a service that publishes through their stops and starts."""

import threading

from syncd.backend import BackendError, Publisher
from syncd.testing.process import API_KEY, ServerProcess


class Backend:
    """A service that publishes its numbers one after the other, whatever happens to the node."""

    def __init__(self, publisher, channel):
        self.publisher = publisher
        self.channel = channel
        self.accepted = []
        self.wanted = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        number = 0
        while not self.wanted.wait(0.02):
            position = self._publish(number)
            if position is not None:
                self.accepted.append((position.offset, number))
                number += 1

    def _publish(self, number):
        try:
            return self.publisher.publish(self.channel, {"n": number}, uid=f"n-{number}")
        except BackendError:  # the node is away: try again under the same uid
            return None

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_error):
        self.wanted.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


class Node(ServerProcess):
    """A node as `syncd serve` starts it while nothing is configured."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    @property
    def is_running(self):
        """Whether it was started, and not killed since."""
        return self._process is not None and self.returncode is None

    def publisher(self):
        return Publisher(self.url, api_key=API_KEY)
