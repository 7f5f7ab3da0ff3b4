"""Pages as text: the description of the surface for people, and the first page.

Pure. Everything is escaped here, whatever it is; a page holds no script and points nowhere else.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ..connect.clients import Snippet
from ..records import Health, Model

Schema = Mapping[str, Any]


def page(title: str, style: str, body: str) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def index(
    url: str,
    version: str,
    health: Mapping[str, Health],
    models: Mapping[str, Model],
    told: Sequence[Snippet],
) -> str:
    """What is here and how to connect; `models` are by the names to ask for them."""
    backends = [
        (
            _code(name),
            f'<span class="{seen.state}">{seen.state}</span>',
            escape(seen.text),
        )
        for name, seen in health.items()
    ]
    listed = [
        (_code(name), escape(model.backend), escape(", ".join(sorted(model.abilities))))
        for name, model in models.items()
    ]
    connect = [f"# {each.about}\n{each.text}\n" for each in told]
    connect.append(f"# For others:\ncurl {url}/v1/models\nOLLAMA_HOST={url} ollama list")
    parts = [
        front(version),
        "<h2>Connect</h2>",
        f"<pre>{escape(chr(10).join(connect))}</pre>",
        "<h2>Backends</h2>",
        _table(("name", "state", ""), backends),
        f"<h2>Models ({len(models)})</h2>",
        _table(("id", "backend", "abilities"), listed),
    ]
    return "\n".join(parts)


def front(version: str) -> str:
    """What anybody may know."""
    return (
        f'<h1>codexgate <span class="soft">{escape(version)}</span></h1>\n<p><a href="/docs">The API</a></p>'
    )


def docs(url: str, document: Mapping[str, Any]) -> str:
    """Every route with its fields and a line to try it, and every schema."""
    info = document["info"]
    parts = [
        f'<h1>{escape(info["title"])} <span class="soft">{escape(info["version"])}</span></h1>',
        f'<p>{_prose(info["description"])}</p><p><a href="/openapi.json">openapi.json</a></p>',
    ]
    tagged: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            (tag,) = operation["tags"]
            tagged.setdefault(tag, []).append(_operation(url, method, path, operation, document))
    for tag in [each["name"] for each in document["tags"] if each["name"] in tagged]:
        parts += [f"<h2>{escape(tag)}</h2>", *tagged[tag]]
    parts.append("<h2>Schemas</h2>")
    for name, schema in document["components"]["schemas"].items():
        parts.append(f'<h3 id="{escape(name)}">{escape(name)}</h3>{_schema(schema)}')
    return "\n".join(parts)


def _operation(url: str, method: str, path: str, operation: Schema, document: Mapping[str, Any]) -> str:
    paths = [each["url"].rstrip("/") + path for each in operation.get("servers", [{"url": "/"}])]
    listed = "".join(
        f'<li><span class="method">{escape(method.upper())}</span>{_code(each)}</li>' for each in paths
    )
    parts = [f"<h3>{_prose(operation['summary'])}</h3>", f'<ul class="paths">{listed}</ul>']
    if "description" in operation:
        parts.append(f"<p>{_prose(operation['description'])}</p>")
    if "parameters" in operation:
        rows = [
            (
                _code(each["name"]),
                escape(each["in"]),
                _type(each["schema"]),
                _prose(each.get("description", "")),
            )
            for each in operation["parameters"]
        ]
        parts.append(_table(("parameter", "in", "type", ""), rows))
    body = operation.get("requestBody", {}).get("content", {})
    for media, content in body.items():
        parts.append(f"<p>Body: {_code(media)}, {_type(content['schema'])}</p>")
    parts.append(_answers(operation["responses"], document))
    parts.append(f"<pre>{escape(_curl(url, method, path, body))}</pre>")
    return "\n".join(parts)


def _answers(responses: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    good, bad = [], []
    for status, response in responses.items():
        if "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
            bad.append((_code(status), _prose(response["description"])))
            continue
        for media, content in response.get("content", {}).items():
            about = _prose(content["schema"].get("description", ""))
            good.append((_code(status), _code(media), _type(content["schema"]), about))
    errors = f"<details><summary>Errors</summary>{_table(('status', ''), bad)}</details>"
    return _table(("status", "answer", "type", ""), good) + errors


def _curl(url: str, method: str, path: str, body: Mapping[str, Any]) -> str:
    verb = {"get": "", "post": "" if body else "-X POST "}.get(method, f"-X {method.upper()} ")
    line = f"curl {verb}{url}{path.replace('{', '').replace('}', '')}"
    if "multipart/form-data" in body:
        return f"{line} -F purpose=user_data -F file=@notes.pdf"
    for content in body.values():
        told = json.dumps(content.get("example", {}))
        line += f" -H 'Content-Type: application/json' \\\n  -d '{told}'"
    return line


def _schema(schema: Schema) -> str:
    about = f"<p>{_prose(schema['description'])}</p>" if schema.get("description") else ""
    if "properties" not in schema:
        return f"{about}<p>{_type(schema)}</p>"
    required = schema.get("required", [])
    rows = [
        (
            _code(name) + ("" if name in required else ' <span class="soft">optional</span>'),
            _type(field),
            _prose(field.get("description", "")),
        )
        for name, field in schema["properties"].items()
    ]
    return about + _table(("field", "type", ""), rows)


def _type(schema: Schema) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "const" in schema or "enum" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return " or ".join(_code(json.dumps(value)) for value in values)
    if "anyOf" in schema and "properties" not in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if schema.get("properties"):
        fields = ", ".join(f"{_code(name)}: {_type(field)}" for name, field in schema["properties"].items())
        return f"object ({fields})"
    told = schema.get("type", "anything")
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if key in schema
    ]
    return escape(" ".join([str(told), *bounds]))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """`rows` are HTML already."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    return f"<table><tr>{''.join(f'<th>{escape(each)}</th>' for each in head)}</tr>{body}</table>"


def _prose(text: str) -> str:
    """What stands in backticks is code; it is all of Markdown that descriptions have."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
