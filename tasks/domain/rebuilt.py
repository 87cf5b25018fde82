"""Frozen dataclasses as JSON values and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints


def plain(value: Any) -> Any:
    """What `dataclasses.asdict` gives, which copies each leaf of a year of partitions; nothing here is changed later."""
    if is_dataclass(value):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def rebuilt(kind: Any, value: Any) -> Any:
    """A value of a type from JSON; fields that are not there get their defaults."""
    origin, args = get_origin(kind), get_args(kind)
    if value is None:
        return None
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: rebuilt(hints[f.name], value[f.name]) for f in fields(kind) if f.name in value})
    if origin is tuple:
        inner = args[0] if len(args) == 2 and args[1] is Ellipsis else None
        return tuple(rebuilt(inner or args[i], item) for i, item in enumerate(value))
    if origin is dict:
        return {key: rebuilt(args[1], item) for key, item in value.items()}
    if args and type(None) in args:
        return rebuilt(next(arg for arg in args if arg is not type(None)), value)
    return value
