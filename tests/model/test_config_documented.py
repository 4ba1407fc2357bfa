"""docs/configuration.md tells every setting with its default, and its example works."""

import enum
import functools
import json
import re
from pathlib import Path

import attrs
import pytest

from syncd.config import (
    Address,
    AuthSettings,
    CollectionSettings,
    Config,
    Limits,
    Namespace,
    Timing,
)
from syncd.config_check import check_config
from tests.model.config_files import load_text, public_pem


@pytest.fixture
def load(tmp_path):
    return functools.partial(load_text, tmp_path)


def _documented(section):
    """Return the default column of one table of docs/configuration.md, by key."""
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = text.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))


def _told(value):
    if value is None:
        return "not set"
    if isinstance(value, Address):
        return f'`"{value.host}:{value.port}"`'
    if isinstance(value, enum.Enum):
        return f'`"{value.value}"`'
    if isinstance(value, float):
        return f"`{value:.12g}`"
    return f"`{json.dumps(value)}`"


@pytest.mark.parametrize(
    ("section", "defaults", "extra", "apart"),
    [
        (
            "server",
            Config(),
            set(),
            {"auth", "limits", "timing", "namespaces", "collections", "seat"},
        ),
        ("auth", AuthSettings(), {"hmac_secret_file"}, set()),
        ("namespaces.NAME", Namespace("x"), set(), {"name"}),
        ("collections.NAME", CollectionSettings("x"), set(), {"name"}),
        ("limits", Limits(), set(), set()),
        ("timing", Timing(), set(), set()),
    ],
)
def test_every_setting_is_documented_with_its_default(section, defaults, extra, apart):
    documented = _documented(section)
    settable = {field.name for field in attrs.fields(type(defaults))} - apart
    assert set(documented) == settable | extra
    for name in settable - {"algorithms"}:
        assert documented[name] == _told(getattr(defaults, name)), name


def test_the_documented_example_loads_and_can_work(load, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "2026-01.pem").write_text(public_pem())
    config = load(example)
    check_config(config)
    assert set(config.namespaces) == {"orders", "cursors"}
