"""What one route does, takes and answers: the words that the tables of routes are written in."""

from typing import Any

import msgspec

from ..context import MEMORY
from .answers import NAME, TEXT, Schema, ref

JSON, EVENTS, LINES = "application/json", "text/event-stream", "application/x-ndjson"
BYTES = "application/octet-stream"


class Parameter(msgspec.Struct, frozen=True):
    """Something that a request says outside its body."""

    name: str
    place: str
    """`query`, `header`, or `path` where more is asked of it than to be there."""
    schema: Schema
    about: str = ""


class Operation(msgspec.Struct, frozen=True):
    """One route, for its callers."""

    tag: str
    summary: str
    answers: dict[int, dict[str, Schema]]
    """By status and media type; errors are apart."""
    about: str = ""
    body: dict[str, Schema] = {}
    """By media type; empty when there is none."""
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    """Statuses of errors beside those that any route of its kind has."""
    example: dict[str, Any] | None = None
    """A body to try it with."""


def ok(name: str) -> dict[int, dict[str, Schema]]:
    """One JSON object."""
    return {200: {JSON: ref(name)}}


def streamed(name: str, events: Schema) -> dict[int, dict[str, Schema]]:
    """A JSON object, or the events of a stream."""
    return {200: {JSON: ref(name), EVENTS: events}}


def lines(name: str) -> dict[int, dict[str, Schema]]:
    """An answer of Ollama's: whole, or one line after the other."""
    each = {"anyOf": [ref(name), ref("OllamaError")], "description": "Each line of the stream."}
    return {200: {JSON: ref(name), LINES: each}}


def events(*schemas: str, end: str = "", names: Schema | None = None) -> Schema:
    """One event of a stream; its data is JSON of one of `schemas`, and of the last maybe `end`."""
    held = {"anyOf": [ref(name) for name in schemas]}
    data: Schema = TEXT | {"contentMediaType": JSON, "contentSchema": held}
    fields = {"data": {"anyOf": [{"const": end}, data]} if end else data}
    return {
        "type": "object",
        "description": "Each event of the stream.",
        "properties": fields | ({"event": names} if names else {}),
        "required": ["data", *(["event"] if names else [])],
    }


def asked(name: str) -> dict[str, Schema]:
    """A body of JSON."""
    return {JSON: ref(name)}


MODEL_ERRORS = (404, 429, 502, 503, 504)
"""Of routes that hold a model: it is not there, or what runs it fails."""
OF_A_CHAT = (
    Parameter(
        "X-Codexgate-Activity",
        "header",
        {"enum": ["content", "reasoning", "off"]},
        "Where an agent's work is shown.",
    ),
    Parameter(MEMORY, "header", NAME, "The namespace whose memories are put before the question."),
)
"""What every route that answers a chat may be told in headers."""
