"""What is refused of scanners, and when."""

import pytest

from syncd import App
from syncd.config import Config
from syncd.errors import ConfigError
from syncd.model.definitions_check import app_in_force


async def scan(after):
    yield "k", after


async def no_generator(after):
    return after


async def no_argument():
    yield "k", 1


@pytest.mark.parametrize(
    ("function", "text"), [(no_generator, "async generator"), (no_argument, r"\(after\)")]
)
def test_a_function_that_cannot_be_a_scanner_is_refused_at_once(function, text):
    orders = App().collection("orders")
    with pytest.raises(ConfigError, match=text):
        orders.scanner()(function)


def test_a_collection_has_one_scanner():
    orders = App().collection("orders")
    orders.scanner(page=10)(scan)
    with pytest.raises(ConfigError, match="twice"):
        orders.scanner()(scan)
    with pytest.raises(ConfigError, match="whole number"):
        orders.scanner(page="many")


@pytest.mark.parametrize("page", [0, 10_001])
def test_what_lies_between_settings_is_refused_before_the_start(page):
    app = App()

    async def count():
        return 1

    app.collection("a").count(count)
    app.collection("b", volatile=True).scanner()(scan)
    app.collection("c").scanner(page=page)(scan)
    app.collection("d", every="1h")
    app.collection("e", every="0.5s").scanner()(scan)
    with pytest.raises(ConfigError) as refusal:
        app_in_force(app.definition(), Config())
    told = str(refusal.value)
    assert "count needs a scanner" in told
    assert "volatile and scanner" in told
    assert "page of the scanner" in told
    assert "every needs a scanner" in told
    assert "every must be at least 1 s" in told
