"""The gate's description of its own surface: OpenAPI 3.1, made from the routes and the structs behind them.

Source: OpenAPI Specification 3.1.1. Pure: the routes are handed in. What a route does is told in
`operations`, what it takes is read off the structs (`bodies`), what it answers stands in `answers`.
"""

import re
from collections.abc import Mapping
from typing import Any

from ... import __version__
from ..guard import Policy
from . import mcp, ollama
from .answers import NAME, SCHEMAS, TEXT, ref
from .bodies import schemas
from .operation import JSON, OF_A_CHAT, Operation, Parameter
from .operations import BEFORE, OPERATIONS, operation, original

_ABOUT = """Routes under `/v1` are there under `/openai/v1` too, where an agent's activity is shown in the
answer's text; their `servers` say so. Routes under `/api` are Ollama's, with Ollama's errors.
Fields that are not described are passed over."""

_ALWAYS = {
    400: "The request cannot be read, or not be served as it is written.",
    403: "A web page asked that is not listed.",
    421: "The Host header is not one of ours.",
    500: "The gate itself failed.",
    503: "The gate is shutting down, or nothing that could answer is there.",
}
_WHEN = {
    401: "The API key is missing or wrong.",
    404: "It does not exist here.",
    405: "This cannot be done here as it was asked.",
    406: "The client does not take what this would be answered with.",
    409: "Something else holds it.",
    413: "The body is too large.",
    415: "The body is of another type.",
    429: "Too much is asked at once; come back after `Retry-After`.",
    502: "The backend answered with nonsense or an error.",
    504: "The backend took too long.",
    **_ALWAYS,
}
_HEADERS = {
    "X-Request-Id": {
        "description": "The client's own, if it is a good one.",
        "schema": TEXT,
        "required": True,
    },
    "OpenAI-Processing-Ms": {
        "description": "From head to head (milliseconds).",
        "schema": TEXT,
        "required": True,
    },
    "X-Codexgate-Overhead-Ms": {
        "description": "The gate's own part of that.",
        "schema": TEXT,
        "required": True,
    },
}


def describe(
    policies: Mapping[tuple[str, str], Policy], chats: tuple[str, ...], keyed: bool
) -> dict[str, Any]:
    """The description of these routes, by method and path.

    `chats`: the headers that name a chat; `keyed`: whether a key must be sent.
    """
    paths: dict[str, Any] = {}
    for (method, path), policy in sorted(policies.items(), key=lambda each: (each[0][1], each[0][0])):
        told = operation(method, path)
        if told is None or original(method, path, policies) != path:
            continue
        said = _operation(method, path, policy, told, chats, keyed)
        also = [before for before in BEFORE if original(method, before + path, policies) == path]
        if also:
            said["servers"] = [{"url": before} for before in ("/", *also)]
        paths.setdefault(path, {})[method.lower()] = said
    components = {
        "schemas": dict(sorted({**SCHEMAS, **ollama.SCHEMAS, **mcp.SCHEMAS, **schemas()}.items())),
        "responses": {
            f"{shape}{status}": _error(status, shape)
            for shape in ("Error", "OllamaError", "McpError")
            for status in sorted(_WHEN)
        },
        "headers": _HEADERS,
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "`codexgate key show` prints it."}
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "codexgate", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in OPERATIONS.values())],
        "paths": paths,
        "components": components,
    }


def _operation(
    method: str, path: str, policy: Policy, about: Operation, chats: tuple[str, ...], keyed: bool
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": _id(method, path),
        "tags": [about.tag],
        "summary": about.summary,
    }
    if about.about:
        said["description"] = about.about
    told = {each.name for each in about.parameters}
    parameters = [_in_path(name) for name in re.findall(r"\{(\w+)\}", path) if name not in told]
    parameters += [_parameter(each) for each in about.parameters]
    if about.parameters == OF_A_CHAT:
        which = "The chat that this goes on with."
        parameters += [_parameter(Parameter(name, "header", NAME, which)) for name in chats]
    if parameters:
        said["parameters"] = parameters
    if about.body:
        content = {media: {"schema": schema} for media, schema in about.body.items()}
        if about.example is not None:
            content[JSON]["example"] = about.example
        said["requestBody"] = {"required": True, "content": content}
    shape = "McpError" if path == "/mcp" else "OllamaError" if path.startswith("/api/") else "Error"
    said["responses"] = _responses(policy, about, keyed, shape)
    if keyed and not policy.open:
        said["security"] = [{"key": []}]
    return said


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _parameter(each: Parameter) -> dict[str, Any]:
    said = {"name": each.name, "in": each.place, "description": each.about, "schema": each.schema}
    return said | ({"required": True} if each.place == "path" else {})


def _responses(policy: Policy, about: Operation, keyed: bool, shape: str) -> dict[str, Any]:
    """`shape`: the name of what an error looks like."""
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
    responses: dict[str, Any] = {
        str(status): {
            "description": _WHEN.get(status, "As asked."),
            "headers": headers,
            "content": {media: {"schema": schema} for media, schema in content.items()},
        }
        for status, content in about.answers.items()
    }
    errors = {*_ALWAYS, *about.errors}
    errors |= {401} if keyed and not policy.open else set()
    errors |= {413, 415} if policy.body != "none" else set()
    for status in sorted(errors):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{shape}{status}"})
    return responses


def _error(status: int, shape: str) -> dict[str, Any]:
    return {"description": _WHEN[status], "content": {JSON: {"schema": ref(shape)}}}


def _id(method: str, path: str) -> str:
    """A name made of method and path: `postV1ChatCompletions`."""
    return method.lower() + "".join(word[:1].upper() + word[1:] for word in re.findall(r"\w+", path))
