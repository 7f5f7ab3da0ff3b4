"""Make `published.json` from OpenAI's published description of its API.

`python -m tests.description.prune OPENAPI.json` keeps the answers of the routes that we have too, and
of the schemas what decides whether an answer is well formed. Three habits of that document are put
into words that every JSON Schema validator understands:

- `nullable: true` (OpenAPI 3.0) becomes a type or a choice with `null`;
- a union with a `discriminator` becomes one condition for each value of it, so that an output item
  which says what it is must be that, and not just anything of the union;
- `oneOf` becomes `anyOf`: its branches overlap (a message of the short form is one of the long form).
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGET = HERE / "published.json"

ROUTES = {
    "/models": ["get"],
    "/models/{model}": ["get"],
    "/chat/completions": ["post"],
    "/completions": ["post"],
    "/embeddings": ["post"],
    "/files": ["get", "post"],
    "/files/{file_id}": ["get", "delete"],
    "/responses": ["post"],
    "/responses/{response_id}": ["get"],
    "/responses/{response_id}/cancel": ["post"],
    "/responses/{response_id}/input_items": ["get"],
    "/responses/input_tokens": ["post"],
    "/conversations": ["post"],
    "/conversations/{conversation_id}": ["get", "post", "delete"],
    "/conversations/{conversation_id}/items": ["get", "post"],
    "/conversations/{conversation_id}/items/{item_id}": ["get", "delete"],
}
ERROR = "#/components/schemas/ErrorResponse"

KEYWORDS = frozenset(
    "$ref type enum const anyOf oneOf allOf properties required items additionalProperties propertyNames "
    "pattern minimum maximum minLength maxLength minItems maxItems maxProperties".split()
)
"""What an answer can fail; the rest is there for people and for generators of clients."""


class Pruner:
    """Copies schemas out of one document, and remembers which others they lead to."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = schemas
        self.kept: dict[str, Any] = {}

    def keep(self, ref: str) -> None:
        """Copy the schema that `ref` names, and all that it leads to."""
        name = ref.removeprefix("#/components/schemas/")
        if name not in self.kept:
            self.kept[name] = {}
            self.kept[name] = self.copy(self._schemas[name], name)

    def copy(self, schema: Any, name: str = "") -> Any:
        """`schema` without what no answer can fail; `name` is what `$recursiveRef` leads back to."""
        if not isinstance(schema, dict):
            return schema
        if "$recursiveRef" in schema:
            return {"$ref": f"#/components/schemas/{name}"}
        pruned = {key: self._value(key, value, name) for key, value in schema.items() if key in KEYWORDS}
        if "oneOf" in pruned:
            pruned["anyOf"] = pruned.pop("oneOf")
        if "$ref" in pruned:
            self.keep(pruned["$ref"])
        if "discriminator" in schema and "anyOf" in pruned:
            pruned = self._conditions(pruned, schema["discriminator"]["propertyName"])
        return _nullable(pruned) if schema.get("nullable") else pruned

    def _value(self, key: str, value: Any, name: str) -> Any:
        if key == "properties":
            return {field: self.copy(schema, name) for field, schema in value.items()}
        if key in ("anyOf", "oneOf", "allOf"):
            return [self.copy(schema, name) for schema in value]
        return self.copy(value, name)

    def _conditions(self, union: dict[str, Any], field: str) -> dict[str, Any]:
        """A union that is decided by `field`; unchanged if a branch leaves the field open."""
        branches = union.get("anyOf", [])
        by_value: dict[str, list[Any]] = {}
        for branch in branches:
            values = self._values(branch, field)
            if not values:
                return union
            for value in sorted(values):
                by_value.setdefault(value, []).append(branch)
        conditions = [
            {
                "if": {"properties": {field: {"const": value}}, "required": [field]},
                "then": choice[0] if len(choice) == 1 else {"anyOf": choice},
            }
            for value, choice in by_value.items()
        ]
        known = {"type": "object", "properties": {field: {"enum": list(by_value)}}, "required": [field]}
        return {**known, "allOf": conditions}

    def _values(self, schema: dict[str, Any], field: str) -> set[str]:
        """What `field` must be in objects of `schema`; empty when it may be absent or anything."""
        schema = self._target(schema)
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices:
            found = [self._values(choice, field) for choice in choices]
            return {value for values in found for value in values} if all(found) else set()
        parts = [schema, *map(self._target, schema.get("allOf", []))]
        if not any(field in part.get("required", []) for part in parts):
            return set()
        return {
            value for part in parts for value in part.get("properties", {}).get(field, {}).get("enum", [])
        }

    def _target(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in schema:
            return schema
        target: dict[str, Any] = self._schemas[schema["$ref"].rpartition("/")[2]]
        return target


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str) and not schema.keys() & {"anyOf", "allOf"}:
        nullable = schema | {"type": [schema["type"], "null"]}
        return nullable | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})
    return {"anyOf": [schema, {"type": "null"}]}


def prune(document: dict[str, Any], routes: dict[str, list[str]] = ROUTES) -> dict[str, Any]:
    """The part of `document` that the answers of `routes` are held against."""
    pruner = Pruner(document["components"]["schemas"])
    pruner.keep(ERROR)
    paths: dict[str, Any] = {}
    for path, methods in routes.items():
        for method in methods:
            content = document["paths"][path][method]["responses"]["200"]["content"]
            paths.setdefault(path, {})[method] = {
                media: pruner.copy(described["schema"]) for media, described in content.items()
            }
    return {
        "info": {key: document["info"][key] for key in ("title", "version")},
        "paths": paths,
        "components": {"schemas": dict(sorted(pruner.kept.items()))},
    }


def text(pruned: dict[str, Any]) -> str:
    """One line for each route and schema, so that a newer version can be compared with this one."""

    def lines(members: dict[str, Any]) -> str:
        return ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members.items())

    schemas = lines(pruned["components"]["schemas"])
    return (
        f'{{"info": {json.dumps(pruned["info"])},\n"paths": {{\n{lines(pruned["paths"])}\n}},\n'
        f'"components": {{"schemas": {{\n{schemas}\n}}}}}}\n'
    )


if __name__ == "__main__":
    document = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    TARGET.write_text(text(prune(document)), "utf-8")
