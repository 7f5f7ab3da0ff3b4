"""OpenAI's published description as a judge of what leaves a gate under `/v1` and `/openai/v1`.

Every JSON answer and every event of a stream is held against the schema that the description has
for its route (`tests/description/published.json`, made by `tests/description/prune.py`). Fields beside the
described ones are allowed, as OpenAI allows them to itself.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jsonschema_rs
import msgspec
from aiohttp import web
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from codexgate.core import Core
from codexgate.server import app as server
from codexgate.server.app import Listen

DESCRIPTION = Path(__file__).parent.parent / "description" / "published.json"
JSON, EVENTS = "application/json", "text/event-stream"
SHOWN = 5
"""Mismatches that are told of one gate."""

Schema = Mapping[str, Any]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


ERROR = _ref("ErrorResponse")
BESIDE: dict[tuple[str, str, str], Schema] = {
    # The description has no schema for what the SDKs (openai-python 3.54) expect there.
    ("post", "/completions", EVENTS): _ref("CreateCompletionResponse"),
    ("get", "/responses/{}", EVENTS): _ref("ResponseStreamEvent"),
    ("delete", "/responses/{}", JSON): {
        "type": "object",
        "properties": {"id": {"type": "string"}, "object": {"const": "response"}, "deleted": {"const": True}},
        "required": ["id", "object", "deleted"],
    },
}
"""What the description leaves out and the official SDKs read."""

OURS = ("/approvals",)
"""Routes of ours beside OpenAI's."""


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


class Exclusion(NamedTuple):
    """A place where the description says less than OpenAI's own service and SDKs do."""

    schema: str
    path: tuple[str, ...]
    becomes: Callable[[Schema], Schema]
    reason: str


EXCLUSIONS = (
    Exclusion(
        "Embedding",
        ("properties", "embedding"),
        lambda floats: {"anyOf": [floats, {"type": "string"}]},
        "with `encoding_format: base64`, which the SDKs ask for by default, a vector is a string",
    ),
    Exclusion(
        "CreateCompletionResponse",
        ("properties", "choices", "items", "properties", "finish_reason"),
        _or_null,
        "the description has no schema of its own for chunks; only the last of them has a reason",
    ),
    Exclusion(
        "ResponseErrorCode",
        ("enum",),
        lambda codes: [*codes, "context_length_exceeded"],  # type: ignore[arg-type,return-value]
        "OpenAI's service says so and clients act on it: Codex compacts its history",
    ),
    Exclusion(
        "OpenAIFile",
        ("properties", "purpose"),
        lambda purpose: {"anyOf": [purpose, {"enum": ["evals"]}]},
        "an upload may be for `evals` (the description's and openai-python's FilePurpose)",
    ),
    Exclusion(
        "ListFilesResponse",
        ("properties", "first_id"),
        _or_null,
        "an empty list has no first file",
    ),
    Exclusion("ListFilesResponse", ("properties", "last_id"), _or_null, "an empty list has no last file"),
    Exclusion(
        "Response",
        ("allOf", "2", "properties", "usage"),
        _or_null,
        "nothing is counted yet in `response.created`; Optional in openai-python",
    ),
    Exclusion(
        "ModelResponseProperties",
        ("properties", "user"),
        _or_null,
        "OpenAI sends null when the request named no user; Optional in openai-python",
    ),
)
"""Everything else that leaves the gate under OpenAI's paths is as the description says."""


class Published:
    """The description, ready to judge."""

    def __init__(self) -> None:
        read = msgspec.json.decode(DESCRIPTION.read_bytes())
        self.components: dict[str, Any] = read["components"]
        for each in EXCLUSIONS:
            *way, last = each.path
            place: Any = self.components["schemas"][each.schema]
            for step in way:
                place = place[int(step) if isinstance(place, list) else step]
            place[last] = each.becomes(place[last])
        self._schemas: dict[tuple[str, str, str], Schema] = dict(BESIDE)
        for route, methods in read["paths"].items():
            for method, answers in methods.items():
                for media, schema in answers.items():
                    self._schemas[method, _blank(route), media] = schema
        self._judges: dict[str, jsonschema_rs.Validator] = {}

    def schema(self, method: str, route: str, media: str) -> Schema | None:
        """What an answer of `route` (without its base path) is; None when nothing is published."""
        return self._schemas.get((method.lower(), _blank(route), media))

    def mismatch(self, schema: Schema, value: Any) -> str:
        """What is wrong with `value`; empty when it is as described."""
        key = repr(schema)
        if key not in self._judges:
            self._judges[key] = jsonschema_rs.validator_for({**schema, "components": self.components})
        if self._judges[key].is_valid(value):
            return ""
        slow = Draft202012Validator({**schema, "components": self.components})  # it explains better
        error = best_match(slow.iter_errors(value))
        return f"{error.json_path}: {error.message}" if error else "refused without a reason"


@cache
def published() -> Published:
    """The one description of this process."""
    return Published()


class Watch:
    """Judges everything that the gates of one test answer."""

    def __init__(self) -> None:
        self.mismatches: list[str] = []
        self.judged = 0

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Look at a whole answer at once, and at a stream as it is written."""
        resource = request.match_info.route.resource
        path = resource.canonical if resource else request.path
        base = next((base for base in ("/openai/v1", "/v1") if path.startswith(f"{base}/")), None)
        if base is None:
            return
        route = path.removeprefix(base)
        if isinstance(response, web.Response):
            if isinstance(response.body, bytes) and response.content_type == JSON:
                self._judge(request.method, route, response.status, JSON, response.body)
        elif response.content_type == EVENTS:
            self._follow(request.method, route, response)

    def _follow(self, method: str, route: str, response: web.StreamResponse) -> None:
        pending = bytearray()

        def overhear(name: str) -> None:
            send = getattr(response, name)

            async def sent(data: bytes = b"") -> None:
                pending.extend(data)
                while (end := pending.find(b"\n\n")) >= 0:
                    self._frame(method, route, bytes(pending[:end]))
                    del pending[: end + 2]
                await send(data)

            setattr(response, name, sent)

        overhear("write")
        overhear("write_eof")

    def _frame(self, method: str, route: str, frame: bytes) -> None:
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
        data = fields.get(b"data")
        if data is None or data == b"[DONE]":
            return
        name = fields.get(b"event", b"").decode()
        self._judge(method, route, 200, EVENTS, data, name)

    def _judge(self, method: str, route: str, status: int, media: str, data: bytes, name: str = "") -> None:
        value = msgspec.json.decode(data)
        failed = status >= 400 or (media == EVENTS and value.keys() == {"error"})
        if route.startswith(OURS) and not failed:
            return
        schema = ERROR if failed else published().schema(method, route, media)
        self.judged += 1
        if schema is None:
            wrong = "nothing is published for this answer"
        elif name and value.get("type") != name:
            wrong = f"the event is called {name!r}"
        else:
            wrong = published().mismatch(schema, value)
        if wrong:
            self.mismatches.append(
                f"{method} {route} ({status} {media}) {wrong}\n  {data[:600].decode(errors='replace')}"
            )

    def verdict(self) -> None:
        """Fail if anything was not as described."""
        if self.mismatches:
            shown = "\n".join(self.mismatches[:SHOWN])
            raise AssertionError(
                f"{len(self.mismatches)} of {self.judged} answers are not as OpenAI describes them:\n{shown}"
            )


@contextmanager
def watched() -> Iterator[Watch]:
    """While this is entered, applications that are made are watched."""
    watch = Watch()
    make_app = server.make_app

    def make_watched(core: Core, listen: Listen) -> web.Application:
        app = make_app(core, listen)
        app.on_response_prepare.append(watch.on_prepare)
        return app

    with mock.patch.object(server, "make_app", make_watched):
        yield watch


def _blank(route: str) -> str:
    """A route without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", route)
