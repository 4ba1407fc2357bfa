"""The open pages: the API's description matches the application, and static files are those meant and no other."""

import json
import re
from html.parser import HTMLParser

import jsonschema
import pytest

from syncd.config import Address
from syncd.http.openapi import openapi_document
from syncd.http.static_files import load_static_files
from syncd.ports import Identity
from tests.integration.http_fakes import World, make_config

DOCUMENT = openapi_document("0.0.0")
OPERATIONS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


@pytest.fixture
def folder(tmp_path):
    """A folder of pages with everything beside it that must not be served."""
    pages = tmp_path / "static"
    (pages / "img").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (pages / "index.html").write_text("<!doctype html>demo")
    (pages / "demo.js").write_text("export {}")
    (pages / "img" / "a.svg").write_text("<svg/>")
    (pages / ".env").write_text("secret")
    (pages / ".hidden.txt").write_text("secret")
    (pages / "run.py").write_text("secret")
    (pages / "link.txt").symlink_to(tmp_path / "secret.txt")
    return pages


@pytest.fixture
def world(folder):
    return World(make_config(), folder)


# ------------------------------------------------------------------------------------------------ description


def test_every_route_is_described_and_nothing_else(world):
    routes = {
        (re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in world.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }
    assert {(path, method) for path, method, _ in OPERATIONS} == routes


def resolver(schema):
    return {**schema, "components": DOCUMENT["components"]}


def media_of(operation):
    contents = [answer["content"] for answer in operation["responses"].values()]
    if "requestBody" in operation:
        contents.append(operation["requestBody"]["content"])
    return [media for content in contents for media in content.values()]


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=lambda x: str(x)[:30])
def test_every_example_is_valid_by_its_shape(path, method, operation):
    validator = jsonschema.Draft202012Validator
    for media in media_of(operation):
        validator.check_schema(media["schema"])
        if "example" in media:
            validator(resolver(media["schema"])).validate(media["example"])


def test_operations_are_named_once_and_references_lead_somewhere():
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)):
        assert name in DOCUMENT["components"]["schemas"]


def test_keyed_routes_are_described_as_keyed():
    for path, _, operation in OPERATIONS:
        is_keyed = path.startswith(("/api/", "/metrics"))
        assert (operation.get("security") == []) == (not is_keyed)
        assert ("401" in operation["responses"]) == is_keyed
        assert ("default" in operation["responses"]) == is_keyed


def checked(status, answer, path, method="get"):
    """Check a real answer against the description."""
    operation = DOCUMENT["paths"][path][method]
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(resolver(schema)).validate(answer)


@pytest.mark.parametrize(
    "path",
    [path.removeprefix("/api/") for path, method, _ in OPERATIONS if method == "post"],
)
async def test_the_example_of_every_post_is_accepted_and_answered_as_described(world, path):
    operation = DOCUMENT["paths"][f"/api/{path}"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    status, answer = await world.ask("POST", f"/api/{path}", example)
    assert status == 200
    checked(status, answer, f"/api/{path}", "post")


async def test_reads_and_refusals_are_answered_as_described(world):
    await world.ask("POST", "/api/publish", {"channel": "demo:a", "data": 1, "name": "n"})
    world.presence.members["demo:a"] = [{"member": "a", "states": [{"client": "c", "state": None}]}]
    queries = {
        "/api/channels": "",
        "/api/presence": "?channel=demo:a",
        "/api/history": "?channel=demo:a",
        "/api/info": "",
        "/api/entries": "?collection=orders&key=a",
        "/api/cache/stats": "",
        "/api/cache/config": "",
        "/api/audit": "?limit=5",
        "/api/rebuild": "",
        "/health/live": "",
        "/health/ready": "",
    }
    for path, query in queries.items():
        status, answer = await world.ask("GET", path + query)
        assert status == 200
        checked(status, answer, path)
    for path, key in (("/api/info", "wrong"), ("/api/history", "key-of-billing")):
        status, answer = await world.ask("GET", path, key=key)
        assert status >= 400
        checked(status, answer, path)


KEYED = [
    (path, method) for path, method, operation in OPERATIONS if "401" in operation["responses"]
]


@pytest.mark.parametrize("key", [None, "wrong", "token of a user"])
@pytest.mark.parametrize(("path", "method"), KEYED, ids=str)
async def test_whoever_may_not_ask_is_told_so_as_described(world, path, method, key):
    """An operator's route tells a user's token apart from a wrong key: 403, on each of them."""
    world.gateway.identities["token of a user"] = Identity("ann")
    status, answer = await world.ask(method.upper(), path.format(job="7", session="7"), key=key)
    assert status in (401, 403)
    checked(status, answer, path, method)


async def test_what_is_no_fault_of_one_route_is_described_with_all(world):
    """The wrong Host, and a fault of ours."""
    status, answer = await world.ask("GET", "/api/channels", Host="evil.example")
    assert status == 421
    checked("default", answer, "/api/channels")


async def test_the_description_is_served_as_json_and_as_a_page(world):
    status, served = await world.ask("GET", "/openapi.json", key=None)
    assert (status, served["openapi"], served["info"]["version"]) == (200, "3.1.0", "9.9.9")
    assert served["paths"] == json.loads(json.dumps(DOCUMENT["paths"]))


class Links(HTMLParser):
    """Notes what a page loads, and whether its tags are balanced."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.loads = []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)
        assert tag not in ("script", "link", "img", "iframe")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


async def test_the_page_of_the_description_is_complete_and_loads_nothing(world):
    response = await world.respond("GET", "/docs", key=None)
    page = await response.get_data(as_text=True)
    links = Links()
    links.feed(page)
    assert links.open == []
    assert all(link.startswith("#") or link == "/openapi.json" for link in links.loads)
    assert all(path in page for path in DOCUMENT["paths"])
    assert "'unsafe-inline'" not in response.headers["Content-Security-Policy"]
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert {link[1:] for link in links.loads if link.startswith("#")} <= anchors


# ------------------------------------------------------------------------------------------------ files


async def test_the_demo_has_the_board_at_the_root_and_every_node_the_channel_viewer(folder):
    (folder / "board").mkdir()
    (folder / "board" / "index.html").write_text("<!doctype html>board")
    for is_demo, root in ((False, "demo"), (True, "board")):
        world = World(make_config(), folder, is_demo=is_demo)
        for path, text in (("/", root), ("/channels", "demo")):
            response = await world.respond("GET", path, key=None)
            assert await response.get_data(as_text=True) == f"<!doctype html>{text}"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/static/index.html", "text/html; charset=utf-8"),
        ("/static/demo.js", "text/javascript; charset=utf-8"),
        ("/static/img/a.svg", "image/svg+xml"),
    ],
)
async def test_pages_are_served_with_type_policy_and_etag(world, path, kind):
    response = await world.respond("GET", path, key=None)
    assert (response.status_code, response.headers["Content-Type"]) == (200, kind)
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "connect-src 'self';" in policy
    etag = response.headers["ETag"]
    again = await world.respond("GET", path, key=None, If_None_Match=f'"other", {etag}')
    assert (again.status_code, await again.get_data()) == (304, b"")
    other = await world.respond("GET", path, key=None, If_None_Match='"other"')
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../secret.txt",
        "/static/..%2fsecret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/%2e%2e%2fsecret.txt",
        "/static/..%5csecret.txt",
        "/static/....//secret.txt",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/img/../../secret.txt",
        "/static/.env",
        "/static/.hidden.txt",
        "/static/run.py",
        "/static/link.txt",
        "/static/index.html%00.js",
        "/static/index.html/",
        "/static/INDEX.html",
        "/static/img",
        "/static/",
        "/static",
        "/secret.txt",
        "/docs/",
        "/%",
        "/static/%ff",
    ],
)
async def test_no_path_leads_out_of_the_pages(world, path):
    """A64: path traversal finds nothing, encoded or not."""
    response = await world.respond("GET", path, key=None)
    assert response.status_code == 404
    assert b"secret" not in await response.get_data()


def test_a_missing_folder_serves_nothing(tmp_path):
    assert load_static_files(None) == {}
    assert load_static_files(tmp_path / "nowhere") == {}


async def test_without_pages_the_front_door_is_a_404_that_says_so():
    status, answer = await World(make_config()).ask("GET", "/", key=None)
    assert (status, answer["error"]["code"]) == (404, "bad_request")


async def test_the_page_may_reach_another_port_only_when_the_api_has_one_of_its_own(folder):
    world = World(make_config(api_listen=Address(port=8401)), folder)
    policy = (await world.respond("GET", "/", key=None)).headers["Content-Security-Policy"]
    assert "connect-src 'self' ws: wss:" in policy
