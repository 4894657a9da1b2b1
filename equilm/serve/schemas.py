"""The action on JSON Schema: names, enums and descriptions are swapped, so that answers swapped back fit it."""

from collections.abc import Callable
from typing import Any

from .refusals import refused

Change = Callable[[str], str]
IsFixed = Callable[[str], bool]

_NAMED = ("properties", "$defs", "definitions", "dependentSchemas")  # name -> schema
_VALUES = ("enum", "const", "default", "example", "examples", "required", "dependentRequired", "propertyOrdering")
_STRUCTURE = ("type", "format", "$schema", "$id", "contentEncoding", "contentMediaType")
_PATTERNS = ("pattern", "patternProperties")


def map_values(value: Any, change: Change) -> Any:
    """A JSON value with all of its strings changed, names too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [map_values(item, change) for item in value]
    if isinstance(value, dict):
        return {change(name): map_values(item, change) for name, item in value.items()}
    return value


def map_schema(schema: Any, change: Change, is_fixed: IsFixed, param: str) -> Any:
    """A schema whose language is the swapped one: if ``s`` fits the schema, ``g·s`` fits ``g·schema``, lengths aside.

    Args:
        schema: a JSON Schema.
        change: what acts on each string.
        is_fixed: whether all elements leave a string as it is.
        param: where the schema stands in the request.

    Raises:
        GatewayError: for a pattern that the group does not leave as it is: a swapped pattern means something else.
    """
    if isinstance(schema, list):
        return [map_schema(item, change, is_fixed, param) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _map_keyword(key, value, change, is_fixed, f"{param}.{key}") for key, value in schema.items()}


def _map_keyword(key: str, value: Any, change: Change, is_fixed: IsFixed, param: str) -> Any:
    if key in _NAMED and isinstance(value, dict):
        return {change(name): map_schema(item, change, is_fixed, param) for name, item in value.items()}
    if key in _PATTERNS:
        return _map_pattern(value, change, is_fixed, param)
    if key in _STRUCTURE:
        return value
    if key in _VALUES:
        return map_values(value, change)
    if isinstance(value, str):
        return change(value)
    return map_schema(value, change, is_fixed, param)


def _map_pattern(value: Any, change: Change, is_fixed: IsFixed, param: str) -> Any:
    """Of ``pattern``, a text, or of ``patternProperties``, an object of schemas by pattern."""
    if not isinstance(value, str | dict):
        raise refused(param, f"{param} is no pattern: expected a text, or an object of schemas by pattern.")
    if not all(map(is_fixed, [value] if isinstance(value, str) else value)):
        raise refused(
            param, f"{param} names words of the axes: swapped words could not be told to fit it. Use an enum instead."
        )
    if isinstance(value, str):
        return value
    return {name: map_schema(item, change, is_fixed, param) for name, item in value.items()}
