"""Schemas that nobody foresaw, and arguments that models really write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentdistill.interop.schemas import clean, foreign_tools, object_schema


def problems(schema: Any, **arguments: Any) -> list[str]:
    return foreign_tools([("t", "A tool.", schema)])["t"].problems(arguments)


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


# ---- what is shown --------------------------------------------------------------------------------------------------------


def test_names_become_words_that_differ_and_remember_what_they_were() -> None:
    names = ["a/b c", "a b/c", "9", "数", "", "x" * 200, "ok-1"]
    tools = foreign_tools((name, "", None) for name in names)
    assert list(tools) == ["a_b_c", "a_b_c_2", "t_9", "tool", "tool_2", "x" * 56, "ok-1"]
    assert [tool.name for tool in tools.values()] == names
    assert [tool.spec.name for tool in tools.values()] == list(tools)
    assert all(tool.spec.description for tool in tools.values())


@pytest.mark.parametrize(
    "schema", [None, True, [], "text", {}, {"type": "string"}, {"properties": []}, {"$ref": "#/nowhere"}, {"$ref": "http://x"}]
)
def test_a_schema_that_is_no_objects_takes_any_arguments(schema: Any) -> None:
    shown = object_schema(schema)
    assert (shown["type"], shown["properties"]) == ("object", {})
    assert problems(schema, anything=[{"x": None}]) == []


def test_references_are_put_in_their_places_and_titles_left_out() -> None:
    schema = {
        "title": "Arguments",
        "$defs": {"Point": {"title": "Point", "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}},
        "type": "object",
        "properties": {"title": {"type": "string", "title": "Title"}, "at": {"$ref": "#/$defs/Point", "description": "where"}},
    }
    assert object_schema(schema) == {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "at": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "description": "where"},
        },
    }
    assert problems(schema, at={"x": "1"}) == ["'at.x' must be integer, got \"1\""]


def test_a_pointer_with_escapes_is_followed() -> None:
    schema = {"definitions": {"a/b~c": {"type": "integer"}}, **of(x={"$ref": "#/definitions/a~1b~0c"})}
    assert problems(schema, x="no") != []


def test_a_recursive_schema_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "value": {"type": "integer"}}}
    schema = {"$defs": {"Node": node}, **of(head={"$ref": "#/$defs/Node"})}
    assert problems(schema, head={"next": {"anything": 1}, "value": 2}) == []
    assert problems(schema, head={"value": "2"}) != []
    assert object_schema({"$ref": "#"})["type"] == "object"


def test_a_schema_that_unfolds_without_end_is_cut_off() -> None:
    levels = 40
    definitions: dict[str, Any] = {
        f"L{level}": of(a={"$ref": f"#/$defs/L{level + 1}"}, b={"$ref": f"#/$defs/L{level + 1}"}) for level in range(levels)
    }
    definitions[f"L{levels}"] = {"type": "integer"}
    assert len(str(object_schema({"$defs": definitions, "$ref": "#/$defs/L0"}))) < 5_000_000


# ---- what is wrong -----------------------------------------------------------------------------------------------------------


ANY_OF = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "x"),
        ({"type": "integer"}, 3),
        ({"type": "integer"}, 3.0),
        ({"type": "integer"}, 10**30),
        ({"type": "number"}, 3),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": ["string", "null"]}, None),
        ({"type": "duration"}, "made up type"),
        (ANY_OF, None),
        ({"oneOf": [{"const": "a"}, {"type": "array", "items": {"type": "integer"}}]}, [1, 2]),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2),
        ({"enum": ["a", 1, None]}, None),
        ({"type": "array"}, [1, "x", None]),
        ({"type": "string", "minLength": 1, "maxLength": 2, "minimum": 99}, "ab"),
        ({"type": "array", "minItems": 1, "maxItems": "two"}, [1, 2, 3]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}),
        (True, {"a": [1]}),
        ({"type": "string", "pattern": "(((("}, "patterns are left to the tool"),
    ],
)
def test_what_fits_is_let_through(schema: Any, value: Any) -> None:
    assert problems(of(x=schema), x=value) == []


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": "string"}, 3, "'x' must be string, got 3"),
        ({"type": "integer"}, True, "'x' must be integer, got true"),
        ({"type": "integer"}, 3.5, "'x' must be integer, got 3.5"),
        ({"type": "number"}, "3", "'x' must be number, got \"3\""),
        ({"type": ["integer", "null"]}, "x", "'x' must be integer or null, got \"x\""),
        (ANY_OF, "x", "'x' must be integer or null, got \"x\""),
        ({"enum": ["a", "b"]}, "c", "'x' must be 'a' or 'b', got \"c\""),
        ({"const": 1}, True, "'x' must be 1, got true"),
        ({"type": "integer", "minimum": 1}, 0, "'x' must be integer >= 1, got 0"),
        ({"type": "number", "exclusiveMaximum": 1}, 1, "'x' must be number < 1, got 1"),
        ({"type": "string", "maxLength": 1}, "ab", "'x' must be string of length <= 1, got \"ab\""),
        ({"type": "array", "maxItems": 1}, [1, 2], "'x' must be array, got [1, 2]"),
        ({"type": "array", "items": {"type": "integer"}}, [1, "b"], "'x[1]' must be integer, got \"b\""),
        ({"allOf": [{"minimum": 1}]}, 0, "'x' must be anything >= 1, got 0"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": "b"}, "'x.a' must be integer, got \"b\""),
        ({"type": "string"}, ["y" * 100], "'x' must be string, got [\"" + "y" * 38 + "…"),
        ({}, [float("nan")], "'x[0]' must be a finite number, got nan"),
        ({"type": "number"}, float("inf"), "'x' must be a finite number, got inf"),
    ],
)
def test_what_does_not_fit_is_told_in_a_few_words(schema: Any, value: Any, told: str) -> None:
    assert problems(of(x=schema), x=value) == [told]


def test_missing_and_unknown_arguments_are_named_all_at_once() -> None:
    schema = {**of(city={"type": "string"}, days={"type": "integer"}), "required": ["city", "days", 7]}
    assert problems(schema, citty="x", days=1) == ["'city' is missing, expected string", "'citty' is not an argument, did you mean 'city'?"]
    assert problems({**of(), "additionalProperties": False}, zzz=1) == ["'zzz' is not an argument, arguments: none"]
    assert problems({**of(a={}), "additionalProperties": True}, b=1) == []
    nested = of(x={**of(a={"type": "integer"}), "required": ["a"]})
    assert problems(nested, x={}) == ["'x.a' is missing, expected integer"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "anyOf",
        "allOf",
        "oneOf",
        "enum",
        "const",
        "$ref",
        "minimum",
        "maxLength",
        "additionalProperties",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        JSON | st.sampled_from(["#", "#/properties", "integer"]),
        lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
        max_leaves=12,
    ),
    st.dictionaries(st.text(), JSON),
)
def test_no_schema_and_no_arguments_break_the_check(schema: Any, arguments: dict[str, Any]) -> None:
    assert all(isinstance(each, str) for each in problems(schema, **{"x": 1, **arguments}))


def test_halves_of_surrogate_pairs_become_question_marks() -> None:
    assert clean({"\ud800": ["a\udfff", 1, None]}) == {"?": ["a?", 1, None]}
