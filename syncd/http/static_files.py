"""The demo page's files, read once at start and found by exact name: no path of a request ever reaches the file system."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs

__all__ = ["StaticFile", "load_static_files"]

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""Files of other kinds are not served."""

MAX_FILE_BYTES = 4_194_304
"""The pages are small; something larger lies here by mistake."""


@attrs.frozen
class StaticFile:
    """One file as it is answered."""

    content: bytes = attrs.field(repr=False)
    content_type: str
    etag: str


def load_static_files(folder: Path | None) -> dict[str, StaticFile]:
    """Return the files under `folder` by their path relative to it, with `/` between parts.

    Hidden files, symbolic links, unknown kinds and files above 4 MiB are left out. A missing folder is an empty one.
    """
    if folder is None or not folder.is_dir():
        return {}
    files: dict[str, StaticFile] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if _is_served(path, name):
            files[name] = _load(path)
    return files


def _is_served(path: Path, name: str) -> bool:
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    if is_hidden or path.is_symlink() or not path.is_file():
        return False
    return path.suffix in CONTENT_TYPES and path.stat().st_size <= MAX_FILE_BYTES


def _load(path: Path) -> StaticFile:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return StaticFile(content, CONTENT_TYPES[path.suffix], etag)
