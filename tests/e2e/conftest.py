"""A browser for all tests of this folder, a node for each."""

import pytest

from tests.e2e.browser import Browser
from tests.e2e.nodes import Backend, Node


@pytest.fixture(scope="session")
def chromium():
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    yield chromium
    chromium.close_pages()


@pytest.fixture(scope="module")
def module_node(request, tmp_path_factory):
    arguments = getattr(request.module, "NODE_ARGUMENTS", ())
    with Node(tmp_path_factory.mktemp("node"), arguments=arguments) as server:
        yield server


@pytest.fixture
def standing_node(module_node):
    """One for the tests of a module that do not mind what others left there: starting one costs a second."""
    if not module_node.is_running:
        module_node.start()
    return module_node


@pytest.fixture
def node(tmp_path):
    with Node(tmp_path) as server:
        server.start()
        yield server


@pytest.fixture
def publisher(node):
    with node.publisher() as publisher:
        yield publisher


@pytest.fixture
def backend(node):
    """Return a function that starts a `Backend` for a channel."""
    with node.publisher() as publisher:
        yield lambda channel="demo:lobby": Backend(publisher, channel)
