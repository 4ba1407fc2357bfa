"""Which application a command line names, and what is told when it cannot be had."""

import json
import sys
import tomllib
import types
from pathlib import Path

import pytest

from syncd.cli.app_target import load_app
from syncd.cli.main import main
from syncd.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "examples"
APPLICATIONS = [
    path for path in sorted(EXAMPLES.glob("*/app.py")) if "syncd import App" in path.read_text()
]

ONE = "from syncd import App\napp = App()\norders = app.collection('orders')\n"
TWO = ONE + "other = App()\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current directory; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in ("SYNCD_CONFIG", "SYNCD_API_KEY", "SYNCD_HMAC_SECRET", "SYNCD_LISTEN", "SYNCD_DB"):
        monkeypatch.delenv(name, raising=False)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(here, text, path="probe_app.py"):
    file = here / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    "target", ["probe_app:app", "probe_app", "probe_app.py", "probe_app.py:app", "./probe_app.py"]
)
def test_an_application_is_found_as_module_and_as_file(here, target):
    write(here, ONE)
    definition = load_app(target)
    assert set(definition.collections) == {"orders"}
    assert definition.name == target


def test_a_module_of_a_package_and_a_file_elsewhere_are_found(here):
    write(here, "", "probe_pkg/__init__.py")
    write(here, ONE, "probe_pkg/inner.py")
    assert load_app("probe_pkg.inner:app").collections
    write(here, "from probe_beside import app", "probe_dir/probe_main.py")
    write(here, ONE, "probe_dir/probe_beside.py")
    assert load_app("probe_dir/probe_main.py").collections


def test_a_file_called_like_a_module_in_use_replaces_nothing(here):
    write(here, ONE, "json.py")
    assert load_app("json.py").collections
    assert sys.modules["json"] is json


def test_of_several_applications_the_named_one_is_taken(here):
    write(here, TWO)
    assert load_app("probe_app.py:other").collections == {}


def test_one_application_under_two_names_is_one(here):
    write(here, ONE + "same = app\n")
    assert load_app("probe_app.py").collections


@pytest.mark.parametrize(
    ("text", "target", "told"),
    [
        (TWO, "probe_app", "say which: probe_app:app or probe_app:other"),
        ("x = 1", "probe_app.py", "there is no syncd.App in it; make one"),
        (ONE, "probe_app:nope", "there is no nope; the applications in it: app"),
        ("x = 1", "probe_app:nope", "the applications in it: none"),
        ("app = {}", "probe_app:app", "is a builtins.dict, not a syncd.App"),
        ("from syncd import App as app", "probe_app:app", "is the class itself"),
        (ONE, "probe_nowhere:app", "There is no module probe_nowhere; looked in"),
        (ONE, "probe_nowhere.deep:app", "There is no module probe_nowhere;"),
        (ONE, "nowhere.py:app", "nowhere.py: there is no such file"),
        (ONE, "probe-app:app", "is neither a module nor a Python file"),
        (ONE, "", "is neither a module nor a Python file"),
        (
            "import probe_missing",
            "probe_app",
            "ModuleNotFoundError: No module named 'probe_missing'",
        ),
        ("1/0", "probe_app:app", "ZeroDivisionError: division by zero"),
        ("def f(:\n", "probe_app.py", "SyntaxError"),
        ("raise SystemExit(1)", "probe_app", "left the program when it was imported"),
        (ONE + "app.collection('orders')", "probe_app", "collection orders is defined twice"),
        (ONE + "app.collection('x', tll=1)", "probe_app.py", "no option tll (did you mean ttl?)"),
    ],
)
def test_what_is_no_application_is_told_in_one_line(here, text, target, told):
    write(here, text)
    with pytest.raises(ConfigError) as failure:
        load_app(target)
    assert told in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("target", ["probe_app", "probe_app.py"])
@pytest.mark.parametrize(
    "line", ["1/0", "app.collection('orders')", "import json; json.loads('{')"]
)
def test_a_failing_import_is_told_with_the_applications_own_line(here, target, line):
    write(here, ONE + "\n" + line)
    with pytest.raises(ConfigError, match=r"probe_app\.py, line 5\)$"):
        load_app(target)


def test_a_file_that_failed_can_be_loaded_once_it_is_mended(here):
    write(here, "1/0")
    with pytest.raises(ConfigError):
        load_app("probe_app.py")
    write(here, ONE)
    assert load_app("probe_app.py").collections


# ------------------------------------------------------------------------------------------------ commands


@pytest.fixture
def started(monkeypatch):
    """Stand in for the server; holds what it was started with."""
    calls = []
    server = types.ModuleType("syncd.server")
    server.serve = lambda config, app: calls.append((config, app)) or 0
    monkeypatch.setitem(sys.modules, "syncd.server", server)
    return calls


def test_the_application_reaches_the_node_in_force(here, started):
    write(here, ONE)
    (here / "syncd.toml").write_text("[collections.orders]\nmax_entries = 5\nwrite = 'anyone'")
    assert main(["serve", "probe_app:app"]) == 0
    ((_config, app),) = started
    orders = app.collections["orders"]
    assert (orders.max_entries, orders.write, orders.read) == (5, ("anyone",), ("anyone",))
    assert app.mutators.find("orders.put").is_built_in


def test_collections_of_the_configuration_need_no_application(here, started):
    (here / "syncd.toml").write_text("[collections.notes]\nwrite = 'anyone'")
    assert main(["serve"]) == 0
    assert main(["serve", "--insecure"]) == 0
    assert [set(app.collections) for _config, app in started] == [{"notes"}, {"notes"}]


@pytest.mark.parametrize("command", ["serve", "check"])
def test_an_application_that_cannot_be_is_a_usage_error(here, started, capsys, command):
    write(here, ONE + "app.collection('demo')\n")
    assert main([command, "probe_app:app"]) == 2
    assert "collection demo has the name of namespaces.demo" in capsys.readouterr().err
    assert main([command, "probe_nowhere"]) == 2
    assert "There is no module probe_nowhere" in capsys.readouterr().err
    assert started == []


def test_check_tells_what_is_in_force_of_an_application_and_stays_a_configuration(here, capsys):
    write(
        here,
        ONE + "@orders.loader\nasync def fetch(keys): ...\n@orders.mutator\ndef ship(tx): ...\n",
    )
    (here / "syncd.toml").write_text("[collections.orders]\nread = 'role:x'\nmax_bytes = 1000000")
    assert main(["check", "probe_app.py"]) == 0
    out = capsys.readouterr().out
    for line in (
        "# collection orders",
        '# read = ["role:x"]',
        "# max_bytes = 1000000",
        "# loader = fetch (takes lists)",
        "# ttl_s = not set",
        "# mutators: orders.ship",
    ):
        assert line in out.splitlines(), line
    assert tomllib.loads(out)["collections"]["orders"]["read"] == ["role:x"]


EVERYTHING = """
import syncd
app = syncd.App()
orders = app.collection("orders", every="6h")
@orders.loader
async def fetch(key): ...
@orders.scanner(page=500)
async def scan(after):
    yield "a", 1
@orders.count
async def count(): ...
@orders.warm
async def hottest(): ...
@app.on_commit("orders")
async def forward(change): ...
@orders.mutator
def ship(tx): ...
@app.authorizer
def allow(identity, action, target): ...
"""


def test_check_tells_of_everything_an_application_may_have(here, capsys):
    write(here, EVERYTHING)
    assert main(["check", "probe_app.py"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "# loader = fetch",
        "# scanner = scan (pages of 500)",
        "# count = count",
        "# every_s = 21600.0",
        "# warm = hottest",
        "# on_commit = forward",
    ):
        assert line in lines, line


@pytest.mark.parametrize("path", APPLICATIONS, ids=lambda path: path.parent.name)
def test_check_accepts_the_applications_of_the_examples(capsys, path):
    assert main(["check", str(path)]) == 0
    assert "# collection " in capsys.readouterr().out
