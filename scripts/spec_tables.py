"""Write the tables of protocol/SPEC.md from messages.toml and codes.toml.

A table stands between `<!-- table NAME -->` and `<!-- end -->`. NAME is `shapes.position`, `client.hello`,
`server.event`, `codes.errors`, `codes.rejections`, `codes.reasons` or `codes.close`. With --check nothing is written and the exit code says
whether something would be.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

PROTOCOL = Path(__file__).parent.parent / "protocol"
SPEC = PROTOCOL / "SPEC.md"

_BLOCK = re.compile(r"<!-- table (?P<name>[a-z_.]+) -->\n.*?<!-- end -->", re.DOTALL)
_LIMIT_UNITS = {"str": "bytes", "list": "items", "map": "keys", "uint": "at most"}


def _type(field: dict[str, Any]) -> str:
    kind = str(field["type"])
    return f"list of {field['items']}" if "items" in field else kind


def _limit(field: dict[str, Any]) -> str:
    if "max" not in field:
        return ""
    unit = _LIMIT_UNITS[str(field["type"])]
    return f"{unit} {field['max']}" if unit == "at most" else f"{field['max']} {unit}"


def fields_table(fields: dict[str, Any]) -> list[str]:
    """Return the rows of one message's or shape's table."""
    if "_body" in fields:
        return [f"The body is one `{fields['_body']}`."]
    if not fields:
        return ["The body is an empty map."]
    rows = ["| field | type | | limit | meaning |", "|---|---|---|---|---|"]
    for name, field in fields.items():
        need = "required" if field["required"] else "optional"
        rows.append(f"| `{name}` | {_type(field)} | {need} | {_limit(field)} | {field['doc']} |")
    return rows


def errors_table(errors: dict[str, Any]) -> list[str]:
    """Return the rows of the table of error codes."""
    rows = ["| code | retryable | meaning |", "|---|---|---|"]
    for code, entry in errors.items():
        rows.append(f"| `{code}` | {'yes' if entry['retryable'] else 'no'} | {entry['text']} |")
    return rows


def reasons_table(reasons: dict[str, Any]) -> list[str]:
    """Return the rows of a table of codes that only have a meaning."""
    rows = ["| code | meaning |", "|---|---|"]
    return rows + [f"| `{code}` | {entry['text']} |" for code, entry in reasons.items()]


def close_table(close: dict[str, Any]) -> list[str]:
    """Return the rows of the table of close codes."""
    rows = ["| close code | name | client | meaning |", "|---|---|---|---|"]
    for name, entry in close.items():
        duty = "stop" if 4500 <= entry["code"] <= 4999 else "reconnect"
        rows.append(f"| {entry['code']} | `{name}` | {duty} | {entry['text']} |")
    return rows


def table(name: str) -> str:
    """Return the table of that name."""
    messages = tomllib.loads((PROTOCOL / "messages.toml").read_text())
    codes = tomllib.loads((PROTOCOL / "codes.toml").read_text())
    part, _, key = name.partition(".")
    if part == "codes":
        write = {
            "errors": errors_table,
            "rejections": reasons_table,
            "reasons": reasons_table,
            "close": close_table,
        }[key]
        return "\n".join(write(codes[key]))
    return "\n".join(fields_table(messages[part][key]))


def names_in(spec: str) -> list[str]:
    """Return the names of all tables the document asks for, in order."""
    return [match["name"] for match in _BLOCK.finditer(spec)]


def rendered(spec: str) -> str:
    """Return the document with every table written anew."""
    return _BLOCK.sub(
        lambda match: f"<!-- table {match['name']} -->\n{table(match['name'])}\n<!-- end -->", spec
    )


def main() -> int:
    """Write SPEC.md, or with --check only compare."""
    old = SPEC.read_text()
    new = rendered(old)
    if "--check" in sys.argv:
        return int(old != new)
    SPEC.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
