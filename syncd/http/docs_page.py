"""`/docs`: the OpenAPI document as one plain page, without a script and without anything loaded from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

__all__ = ["STYLE", "render_docs"]

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { padding: .75rem; overflow-x: auto; border: 1px solid #8884; border-radius: 6px; }
section { border-top: 1px solid #8884; margin-top: 2rem; }
h2 { font-size: 1.15rem; }
h2 b { display: inline-block; min-width: 3.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8883; }
.open { font-weight: normal; font-size: .85rem; opacity: .7; }
""".strip()

_Node = dict[str, Any]


def render_docs(document: _Node) -> str:
    """Return the page. Every text of the document is escaped."""
    info = document["info"]
    sections = [
        _operation(document, path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = document["components"]["schemas"]
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>syncd HTTP API</title><style>{STYLE}</style></head><body>",
            f"<h1>syncd HTTP API {_esc(info['version'])}</h1><p>{_prose(info['description'])}</p>",
            "<p>Send <code>Authorization: Bearer KEY</code>. The same as JSON: ",
            '<a href="/openapi.json">openapi.json</a>.</p>',
            *sections,
            "<section><h1>Shapes</h1>",
            *(_shape(name, schema) for name, schema in shapes.items()),
            "</section></body></html>",
        )
    )


def _operation(document: _Node, path: str, method: str, operation: _Node) -> str:
    is_open = operation.get("security") == []
    note = '<span class="open">no key needed</span>' if is_open else ""
    parts = [
        f'<section id="{_esc(operation["operationId"])}"><h2><b>{_esc(method.upper())}</b> ',
        f"<code>{_esc(path)}</code> {note}</h2><p>{_prose(operation['summary'])} ",
        f"{_prose(operation.get('description', ''))}</p>",
        _parameters(operation.get("parameters", [])),
    ]
    if "requestBody" in operation:
        parts.append(_body(document, operation["requestBody"]["content"]))
    parts.append(_answers(operation["responses"]))
    return "".join(parts) + "</section>"


def _parameters(parameters: list[_Node]) -> str:
    rows = [
        (
            f"<code>{_esc(item['name'])}</code>",
            item["in"] + (", required" if item["required"] else ""),
            _prose(item.get("description", "")),
        )
        for item in parameters
    ]
    return _table(("Parameter", "Where", "Meaning"), rows) if rows else ""


def _body(document: _Node, content: _Node) -> str:
    media = content["application/json"]
    name = _name_of(media["schema"])
    schema = document["components"]["schemas"][name]
    return f"<h3>Body</h3>{_fields(schema)}<pre>{_example(media['example'])}</pre>"


def _answers(responses: _Node) -> str:
    rows = []
    for status, answer in responses.items():
        media = answer["content"].get("application/json", {})
        example = media.get("example")
        shown = "" if example is None else f"<pre>{_example(example)}</pre>"
        rows.append((_esc(status), _prose(answer["description"]), shown))
    return "<h3>Answers</h3>" + _table(("Status", "Meaning", "Example"), rows)


def _shape(name: str, schema: _Node) -> str:
    return f'<h2 id="shape-{_esc(name)}"><code>{_esc(name)}</code></h2>{_fields(schema)}'


def _fields(schema: _Node) -> str:
    properties = schema.get("properties")
    if not properties:
        return (
            f"<p><code>{_esc(_type_of(schema))}</code> {_prose(schema.get('description', ''))}</p>"
        )
    required = schema.get("required", [])
    rows = [
        (
            f"<code>{_esc(field)}</code>{'' if field in required else ' (optional)'}",
            _type_link(item),
            _prose(item.get("description", "")),
        )
        for field, item in properties.items()
    ]
    return _table(("Field", "Type", "Meaning"), rows)


def _type_link(schema: _Node) -> str:
    if "$ref" in schema:
        name = _esc(_name_of(schema))
        return f'<a href="#shape-{name}">{name}</a>'
    return _esc(_type_of(schema))


def _type_of(schema: _Node) -> str:
    if "$ref" in schema:
        return _name_of(schema)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices and "type" not in schema:
        return " or ".join(_type_of(item) for item in choices)
    if schema.get("type") == "array":
        return f"list of {_type_of(schema['items'])}"
    if "enum" in schema:
        return " | ".join(schema["enum"])
    return str(schema.get("type", schema.get("const", "any")))


def _name_of(schema: _Node) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    heads = "".join(f"<th>{title}</th>" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{heads}</tr>{lines}</table>"


def _example(value: object) -> str:
    return _esc(json.dumps(value, indent=2))


def _prose(text: str) -> str:
    """Escape a text and show what stands between backticks as code."""
    parts = _esc(text).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))


def _esc(text: object) -> str:
    return html.escape(str(text))
