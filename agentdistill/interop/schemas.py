"""From a stranger's JSON schema to a tool that a model is told of, and from a model's arguments to what is wrong with them.

A schema of a foreign tool can be anything: nested, with references, ``anyOf``, no properties at all, or not even an object. What is shown
is always the schema of an object, without references; what is checked is what a model can be told in a few words (missing, unknown, types,
choices, bounds). Whatever the check does not know is left to the foreign tool itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import JsonValue

from agentdistill.env.schema import describe
from agentdistill.types import ToolSpec

_SHOWN = 40
"""Characters of a wrong value that are quoted back."""
_DEEPEST = 32
"""Levels of nesting that are looked at: of schemas and of values."""
_LARGEST = 20_000
"""Parts of one schema, references followed: one that unfolds without end is cut off there."""
_WORD = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class ForeignTool:
    """A tool of another world."""

    name: str
    """Over there."""
    spec: ToolSpec
    """As the model is told of it."""
    fixed: Mapping[str, JsonValue] = field(default_factory=dict)
    """Arguments that are always these, and that the model is not told of."""

    def problems(self, arguments: Mapping[str, JsonValue]) -> list[str]:
        """What is wrong with the arguments, in words for the model; empty where nothing is known to be."""
        return list(_object(self.spec.parameters, dict(arguments), "", 0))


def foreign_tools(declared: Iterable[tuple[str, str, Any]]) -> dict[str, ForeignTool]:
    """Tools by the name that the model calls them by, in the order declared.

    Args:
        declared: (name, description, JSON schema of the arguments) of each. A name is made one of letters, digits, ``_`` and ``-``, and
            numbered where it is taken; a missing description becomes the name's words; a schema that is no object's takes any arguments.
    """
    tools: dict[str, ForeignTool] = {}
    for name, description, schema in declared:
        shown = _free_name(name, tools)
        text = " ".join(description.split()) or f"{name}: no description."
        tools[shown] = ForeignTool(name=name, spec=ToolSpec(name=shown, description=text, parameters=object_schema(schema)))
    return tools


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    plain = _WORD.sub("_", name).strip("_-")[:56] or "tool"
    plain = plain if plain[0].isalpha() else f"t_{plain}"
    number, free = 1, plain
    while free in taken:
        number += 1
        free = f"{plain}_{number}"
    return free


def object_schema(schema: Any) -> dict[str, JsonValue]:
    """The schema of an object, whatever was declared: references put in their places, titles left out.

    A recursive type becomes one of anything at its second level.
    """
    flat = _Flattener(schema).flat(schema, ())
    if not isinstance(flat, dict):
        return {"type": "object", "properties": {}}
    kept = {key: value for key, value in flat.items() if key not in ("$defs", "definitions", "$schema", "$id")}
    properties = kept.get("properties")
    return {**kept, "type": "object", "properties": properties if isinstance(properties, dict) else {}}


class _Flattener:
    def __init__(self, root: Any) -> None:
        self.root, self.left = root, _LARGEST

    def flat(self, schema: Any, path: tuple[str, ...], depth: int = 0) -> Any:
        """Without references; ``path`` has those that are being followed."""
        self.left -= 1
        if depth > _DEEPEST or self.left < 0:
            return {}
        if isinstance(schema, list):
            return [self.flat(item, path, depth + 1) for item in schema]
        if not isinstance(schema, dict):
            return schema
        reference = schema.get("$ref")
        if isinstance(reference, str):
            target = {} if reference in path else self.flat(_find(self.root, reference), (*path, reference), depth + 1)
            rest = {key: value for key, value in schema.items() if key not in ("$ref", "title")}
            return {**target, **rest} if isinstance(target, dict) else rest
        return {key: self._part(key, value, path, depth) for key, value in schema.items() if key != "title" or not isinstance(value, str)}

    def _part(self, key: str, value: Any, path: tuple[str, ...], depth: int) -> Any:
        if key in _VERBATIM:
            return value
        if key == "properties" and isinstance(value, dict):
            return {name: self.flat(child, path, depth + 1) for name, child in value.items()}
        return self.flat(value, path, depth + 1)


_VERBATIM = ("default", "const", "enum", "required", "examples", "$defs", "definitions")
"""Values, and not schemas; or left out at the end."""


def _find(root: Any, reference: str) -> Any:
    """Where a reference inside the document points; anything, where it points nowhere."""
    found = root
    for part in reference.removeprefix("#").strip("/").split("/") if reference.startswith("#") and reference != "#" else ():
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or part not in found:
            return {}
        found = found[part]
    return found if reference.startswith("#") else {}


# ---- arguments ----------------------------------------------------------------------------------------------------------


def clean(value: Any) -> Any:
    """A value that every JSON parser takes: halves of surrogate pairs, which models do write, become question marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return value


def _check(schema: Any, value: Any, path: str, depth: int) -> Iterator[str]:
    """Problems of ``value``, which is called ``path``."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path!r} must be a finite number, got {value}"
    if depth > _DEEPEST:
        return
    schema = schema if isinstance(schema, dict) else {}
    for part in _list(schema.get("allOf")):
        yield from _check(part, value, path, depth + 1)
    options = [*_list(schema.get("anyOf")), *_list(schema.get("oneOf"))]
    if options and all(any(_check(option, value, path, depth + 1)) for option in options):
        yield _wrong(path, {"anyOf": options}, value)
        return
    if not _fits_type(schema.get("type"), value) or not _chosen(schema, value) or not _within(schema, value):
        yield _wrong(path, schema, value)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check(schema.get("items"), item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, dict):
        yield from _object(schema, value, path, depth)


def _object(schema: Mapping[str, Any], value: dict[str, Any], path: str, depth: int) -> Iterator[str]:
    properties = schema.get("properties")
    known: dict[str, Any] = properties if isinstance(properties, dict) else {}
    for name in _list(schema.get("required")):
        if isinstance(name, str) and name not in value:
            yield f"{_join(path, name)!r} is missing, expected {describe(known.get(name))}"
    more = schema.get("additionalProperties", not known)
    for name, item in value.items():
        if name in known:
            yield from _check(known[name], item, _join(path, name), depth + 1)
        elif more is False:
            yield _unexpected(_join(path, name), name, known)
        else:
            yield from _check(more, item, _join(path, name), depth + 1)


def _unexpected(path: str, name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"arguments: {', '.join(known) or 'none'}"
    return f"{path[:_SHOWN]!r} is not an argument, {hint}"


def _wrong(path: str, schema: Mapping[str, Any], value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"{path!r} must be {describe(_words(schema))}, got {text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…'}"


def _words(schema: Mapping[str, Any]) -> dict[str, Any]:
    """As :func:`describe` knows it: a list of types is a choice."""
    kinds = schema.get("type")
    options = [{"type": kind} for kind in kinds] if isinstance(kinds, list) else schema.get("anyOf")
    rest = {key: value for key, value in schema.items() if key not in ("type", "anyOf") or not options}
    return {**rest, **({"anyOf": options} if isinstance(options, list) else {})}


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and _whole(value),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _whole(value: float) -> bool:
    return isinstance(value, int) or value.is_integer()


def _fits_type(kinds: Any, value: Any) -> bool:
    """Types that JSON schema does not know are left to the tool."""
    named = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)]
    return not named or any(_TYPES.get(kind, lambda _: True)(value) for kind in named)


def _chosen(schema: Mapping[str, Any], value: Any) -> bool:
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    return not isinstance(allowed, list) or any(type(each) is type(value) and each == value for each in allowed)


_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = (
    ("minimum", lambda value, bound: value >= bound),
    ("maximum", lambda value, bound: value <= bound),
    ("exclusiveMinimum", lambda value, bound: value > bound),
    ("exclusiveMaximum", lambda value, bound: value < bound),
    ("minLength", lambda value, bound: len(value) >= bound),
    ("maxLength", lambda value, bound: len(value) <= bound),
    ("minItems", lambda value, bound: len(value) >= bound),
    ("maxItems", lambda value, bound: len(value) <= bound),
)


def _within(schema: Mapping[str, Any], value: Any) -> bool:
    kind = "Length" if isinstance(value, str) else "Items" if isinstance(value, list) else "imum" if _TYPES["number"](value) else None
    return kind is None or all(
        holds(value, schema[name]) for name, holds in _BOUNDS if name.endswith(kind) and _TYPES["number"](schema.get(name))
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
