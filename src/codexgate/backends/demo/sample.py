"""A value that satisfies a JSON Schema, the same one each time.

Covers what people put into tools and response formats: types, enum, const, object, array,
bounds, `anyOf`/`oneOf`/`allOf`, local `$ref`. Anything else falls back on the type. Pure.
"""

import math
import re
from typing import Any

Schema = dict[str, Any]

MAX_DEPTH = 12
"""Of nested schemas: a recursive one ends here instead of never."""


def sample(schema: Schema, text: str = "demo") -> Any:
    """Return a value for `schema`; free strings are `text`."""
    return _value(schema, schema, text, 0)


def _value(schema: Any, root: Schema, text: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return _value(_resolve(str(schema["$ref"]), root), root, text, depth + 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _value(schema[key][0], root, text, depth + 1)
    if schema.get("allOf"):
        merged: Schema = {}
        for part in schema["allOf"]:
            merged |= part
        return _value(merged, root, text, depth + 1)
    return _typed(schema, root, text, depth)


def _typed(schema: Schema, root: Schema, text: str, depth: int) -> Any:
    match _type(schema):
        case "object":
            wanted = schema.get("properties", {})
            return {name: _value(inner, root, text, depth + 1) for name, inner in wanted.items()}
        case "array":
            count = max(1, int(schema.get("minItems", 1)))
            return [_value(schema.get("items", {}), root, text, depth + 1) for _ in range(count)]
        case "string":
            least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
            return text.ljust(least, ".")[:most]
        case "integer":
            return int(_number(schema, text))
        case "number":
            return _number(schema, text)
        case "boolean":
            return True
        case _:
            return None


def _type(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "string"
    return str(kind)


def _number(schema: Schema, text: str) -> float:
    """The first number in `text`, as a model would take it from there, or one that is allowed."""
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
    most = schema.get("maximum", schema.get("exclusiveMaximum", math.inf) - ("exclusiveMaximum" in schema))
    named = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
    return next((number for number in (*named, 1.0) if least <= number <= most), float(least))


def _resolve(ref: str, root: Schema) -> Any:
    """Follow a local reference, `#/$defs/X` (RFC 6901); anything else is an empty schema."""
    found: Any = root
    for step in ref.removeprefix("#").strip("/").split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if key:
            found = found.get(key, {}) if isinstance(found, dict) else {}
    return found
