"""The formats there are, how one is told from another, and who reads which."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Literal, TextIO

from . import chats, objects, rows, text
from .elements import elements
from .items import Item, lines

Format = Literal["codexgate", "mem0", "chatgpt", "claude", "server-memory", "csv", "markdown", "text"]

HEAD = 64 * 1024
"""Characters of the beginning of a file that tell its format."""

SHAPES: dict[Format, objects.Shape] = {
    "codexgate": objects.of_export,
    "mem0": objects.of_mem0,
    "chatgpt": chats.of_chatgpt,
    "claude": chats.of_claude,
    "server-memory": objects.of_graph,
}
TEXTS: dict[Format, Callable[[TextIO, str], Iterator[Item]]] = {
    "csv": rows.read_rows,
    "markdown": text.read_markdown,
    "text": text.read_text,
}

MARKDOWN = frozenset({".md", ".markdown", ".mdown", ".mdx", ".mkd"})
LINES = frozenset({".jsonl", ".ndjson"})
OBJECTS = frozenset({".json"})
TABLES = frozenset({".csv", ".tsv"})
PROSE = frozenset({".txt", ".text", ".rst", ".adoc", ".asciidoc", ".org"})
DOCUMENTS = MARKDOWN | LINES | OBJECTS | TABLES | PROSE | {""}
"""How files end that somebody wrote to be read, or exported; the others in a folder are passed by."""

# The first key that is somebody's own; in another's text its quotes would be escaped.
_SIGN = re.compile(
    r'"(?:(?P<chatgpt>mapping"\s*:\s*\{)|(?P<claude>chat_messages"\s*:\s*\[)'
    r'|(?P<graph>type"\s*:\s*"(?:entity|relation)")|(?P<mem0>memory"\s*:\s*")|(?P<codexgate>content"\s*:))'
)
_NAMES: dict[str, Format] = {
    "chatgpt": "chatgpt",
    "claude": "claude",
    "graph": "server-memory",
    "mem0": "mem0",
    "codexgate": "codexgate",
}
_OBJECTS = re.compile(r"\s*(?:\{|\[\s*\{)")
_ARRAY = re.compile(r'\s*(?:\[|\{[^\[{]*"(?:results|memories)"\s*:\s*\[)')
_SPREAD = re.compile(r"\s*\{[^\S\n]*\n")
"""An object that is written over several lines."""
_MARKED = re.compile(r"^(?:#{1,6} \S|```)", re.MULTILINE)


def detect(head: str, name: str) -> Format | None:
    """The format of a text that begins with `head`, in a file called `name`.

    `None`: JSON or a table, but of nobody who is known here.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in MARKDOWN:
        return "markdown"
    if not head.strip():
        return "text"
    if suffix in LINES:
        return _of_objects(head) or "codexgate"
    if suffix in OBJECTS or _OBJECTS.match(head):
        return _of_objects(head)
    if rows.delimiter(io.StringIO(head, newline="").readline()):
        return "csv"
    if suffix in TABLES:
        return None
    return "markdown" if not suffix and _MARKED.search(head) else "text"


def _of_objects(head: str) -> Format | None:
    found = _SIGN.search(head)
    return _NAMES[found.lastgroup] if found and found.lastgroup else None


def read(stream: TextIO, path: str, format: Format, head: str) -> Iterator[Item]:
    """What `stream` holds, a text in `format` that begins with `head`.

    A draft's namespace is empty where the file names none.
    """
    if format not in SHAPES:
        return TEXTS[format](stream, path)
    array = _ARRAY.match(head) is not None
    spread = _SPREAD.match(head) is not None and PurePath(path).suffix.lower() not in LINES
    found = elements(stream, array=array) if array or spread else lines(stream)
    return objects.read_objects(found, path, SHAPES[format])
