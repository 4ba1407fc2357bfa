"""Write clients/js/src/wire/messages.ts and codes.ts from protocol/messages.toml and codes.toml.

With --check nothing is written and the exit code says whether something would be.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PROTOCOL = ROOT / "protocol"
WIRE = ROOT / "clients" / "js" / "src" / "wire"

_HEAD = "// Written by `make protocol` from protocol/{source}. Do not edit.\n"
_TYPES = {
    "str": "string",
    "uint": "number",
    "bool": "boolean",
    "any": "unknown",
    "map": "Record<string, unknown>",
    "list": "unknown[]",
}


def _interface_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _field_type(field: dict[str, Any]) -> str:
    if "items" in field:
        items = str(field["items"])
        return f"{_TYPES.get(items) or _interface_name(items)}[]"
    kind = str(field["type"])
    return _TYPES.get(kind) or _interface_name(kind)


def _limit(field: dict[str, Any]) -> str:
    units = {"str": " bytes", "list": " items", "map": " keys", "uint": ""}
    return f" At most {field['max']}{units[str(field['type'])]}." if "max" in field else ""


def _interface(name: str, fields: dict[str, Any], doc: str) -> list[str]:
    """Return the lines of one interface; an optional field may be absent or null, as SPEC section 2 says."""
    lines = [f"/** {doc} */"]
    if "_body" in fields:
        return [*lines, f"export type {name} = {_interface_name(str(fields['_body']))};", ""]
    if not fields:
        return [*lines, f"export type {name} = Record<string, never>;", ""]
    lines.append(f"export interface {name} {{")
    for key, field in fields.items():
        lines.append(f"  /** {field['doc']}{_limit(field)} */")
        if field["required"]:
            lines.append(f"  {key}: {_field_type(field)};")
        else:
            lines.append(f"  {key}?: {_field_type(field)} | null | undefined;")
    return [*lines, "}", ""]


def _table(name: str, side: str, kinds: dict[str, Any], doc: str) -> list[str]:
    rows = [f"  {kind}: {side}{_interface_name(kind)};" for kind in kinds]
    return [f"/** {doc} */", f"export interface {name} {{", *rows, "}", ""]


def messages_text(toml: dict[str, Any]) -> str:
    """Return the text of messages.ts."""
    lines = [_HEAD.format(source="messages.toml")]
    lines += ["/** Version of the protocol, told in `hello`. */"]
    lines += [f"export const PROTOCOL_VERSION = {toml['version']};", ""]
    lines += ["/** The WebSocket subprotocol. */"]
    lines += [f'export const SUBPROTOCOL = "{toml["subprotocol"]}";', ""]
    for name, fields in toml["shapes"].items():
        lines += _interface(_interface_name(name), fields, f"Shape `{name}` within messages.")
    for side in ("client", "server"):
        for kind, fields in toml[side].items():
            name = side.capitalize() + _interface_name(kind)
            lines += _interface(name, fields, f"Body of the {side}'s `{kind}`.")
    lines += _table(
        "ClientBodies", "Client", toml["client"], "Bodies of what a client sends, by type."
    )
    lines += _table(
        "ServerBodies", "Server", toml["server"], "Bodies of what a server sends, by type."
    )
    return "\n".join(lines)


def _constants(name: str, rows: dict[str, str], doc: str, kind: str) -> list[str]:
    lines = [f"/** {doc} */", f"export const {name} = {{"]
    lines += [f"  {key}: {value}," for key, value in rows.items()]
    lines += ["} as const;", "", f"/** One of `{name}`. */"]
    return [*lines, f"export type {kind} = (typeof {name})[keyof typeof {name}];", ""]


def codes_text(toml: dict[str, Any]) -> str:
    """Return the text of codes.ts."""
    close = {name: str(entry["code"]) for name, entry in toml["close"].items()}
    lines = [_HEAD.format(source="codes.toml")]
    doc = "Close codes: 4000-4499 reconnect, 4500-4999 stop."
    lines += _constants("CLOSE_CODES", close, doc, "CloseCode")
    for part, name, doc in (
        ("errors", "ErrorCode", "Codes of `error.code`; a newer server may send others."),
        ("rejections", "RejectionCode", "Codes of `outcome.error.code` that are the server's own."),
        ("reasons", "Reason", "Codes of `unsubscribed.code` and `reset.code`."),
    ):
        union = "".join(f'\n  | "{code}"' for code in toml[part])
        lines += [f"/** {doc} */", f"export type {name} ={union};", ""]
    return "\n".join(lines)


def files() -> dict[Path, str]:
    """Return what each generated file should hold."""
    messages = tomllib.loads((PROTOCOL / "messages.toml").read_text())
    codes = tomllib.loads((PROTOCOL / "codes.toml").read_text())
    return {WIRE / "messages.ts": messages_text(messages), WIRE / "codes.ts": codes_text(codes)}


def main() -> int:
    """Write both files, or with --check only compare."""
    is_same = True
    for path, new in files().items():
        if not path.exists() or path.read_text() != new:
            is_same = False
            if "--check" not in sys.argv:
                path.write_text(new)
    return int("--check" in sys.argv and not is_same)


if __name__ == "__main__":
    sys.exit(main())
