"""A value that satisfies a JSON Schema, the same one each time.

Covers what people put into tools and response formats: types, enum, const, object, array,
bounds, `anyOf`/`oneOf`/`allOf`, local `$ref`. Anything else falls back on the type. Pure.
"""

import math
import re
from itertools import islice
from typing import Any

import msgspec

Schema = dict[str, Any]

MAX_DEPTH = 12
"""Of nested schemas: a recursive one ends here instead of never."""
SIZE = 65_536
"""Characters that a sample may have, about: a small schema can ask for a huge value."""
EACH = 32
"""Of them, what each value is taken for beside its text."""
EXACT = 2**53
"""Whole numbers below it are themselves as floats."""


def sample(schema: Schema, text: str = "demo") -> Any:
    """Return a value for `schema`; free strings are `text`. One that would be huge is cut short."""
    return _Sampler(schema, text).value(schema, 0)


class _Sampler:
    def __init__(self, root: Schema, text: str) -> None:
        self._root = root
        self._text = text
        self._left = SIZE

    def value(self, schema: Any, depth: int) -> Any:
        if not self._afford(EACH) or depth > MAX_DEPTH or not isinstance(schema, dict):
            return None
        if "const" in schema:
            return self._given(schema["const"])
        if schema.get("enum"):
            return self._given(schema["enum"][0])
        if "$ref" in schema:
            return self.value(_resolve(str(schema["$ref"]), self._root), depth + 1)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.value(schema[key][0], depth + 1)
        if schema.get("allOf"):
            merged: Schema = {}
            for part in islice(schema["allOf"], SIZE // EACH):
                merged |= part
            return self.value(merged, depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: Schema, depth: int) -> Any:
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
                text = self._text.ljust(min(least, SIZE), ".")[:most]
                return text if self._afford(len(text)) else ""
            case "integer" | "number":
                return _number(schema, self._text)
            case "boolean":
                return True
            case _:
                return None

    def _object(self, schema: Schema, depth: int) -> Schema:
        """What is required of it, as a model would; all of it where nothing is."""
        wanted, required = schema.get("properties", {}), schema.get("required")
        made: Schema = {}
        for name in required if required and isinstance(required, list) else wanted:
            if not self._afford(len(name)):
                break
            made[name] = self.value(wanted.get(name, {}), depth + 1)
        return made

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        made: list[Any] = []
        while len(made) < max(1, int(schema.get("minItems", 1))) and self._left > 0:
            made.append(self.value(schema.get("items", {}), depth + 1))
        return made

    def _given(self, value: Any) -> Any:
        return value if self._afford(len(msgspec.json.encode(value))) else None

    def _afford(self, size: int) -> bool:
        self._left -= size
        return self._left >= 0


def _type(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "string"
    return str(kind)


def _number(schema: Schema, text: str) -> int | float:
    """The first number in `text`, as a model would take it from there, or one that is allowed.

    A whole one is written as such: Codex calls its counts `number`, and refuses `1.0`.
    """
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
    most = schema.get("maximum", schema.get("exclusiveMaximum", math.inf) - ("exclusiveMaximum" in schema))
    named = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
    if _type(schema) == "integer":
        least, named = (
            math.ceil(least),
            [float(math.trunc(number)) for number in named if abs(number) < EXACT],
        )
    found = next((number for number in (*named, 1.0) if least <= number <= most), float(least))
    return int(found) if found.is_integer() and abs(found) < EXACT else found


def _resolve(ref: str, root: Schema) -> Any:
    """Follow a local reference, `#/$defs/X` (RFC 6901); anything else is an empty schema."""
    found: Any = root
    for step in ref[:SIZE].removeprefix("#").strip("/").split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if key:
            found = found.get(key, {}) if isinstance(found, dict) else {}
    return found
