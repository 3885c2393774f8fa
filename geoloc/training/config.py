"""Configuration: frozen dataclasses read from TOML and `--set key=value`; an unknown key is an error."""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from geoloc.errors import DataError

Config = TypeVar("Config")


def read_config(base: Config, file: Path | None, settings: Sequence[str]) -> Config:
    """`base` with a TOML file's values over it, and `a.b=value` settings over both.

    Values are TOML; a bare word is taken for a string. Whether they go together is asked once all are known.
    Raises DataError for a file that cannot be read, a key that is not there, a value of the wrong type, and
    what the config raises.
    """
    values = {} if file is None else _parse_file(file)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise DataError(f"--set {setting!r} lacks '='; write --set key=value.")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        values = over(values, value)
    return _merge(base, values, "")


def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both, table by table; where both have a value the one above."""
    nested = {
        key: over(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return {**below, **above, **nested}


def _parse_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        raise DataError(f"{file} is no readable TOML: {cause}.") from cause


def _merge(base: Config, values: dict[str, Any], prefix: str) -> Config:
    kinds = typing.get_type_hints(type(base))
    known = {field.name for field in dataclasses.fields(base)}  # type: ignore[arg-type]
    changes = {}
    for key, value in values.items():
        if key not in known:
            choices = ", ".join(sorted(prefix + name for name in known))
            raise DataError(f"There is no setting {prefix + key!r}; there are {choices}.")
        current = getattr(base, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise DataError(f"{prefix + key} is a table of settings; set one of its keys.")
            changes[key] = _merge(current, value, f"{prefix}{key}.")
        else:
            changes[key] = _typed(prefix + key, kinds[key], value)
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]


def _typed(key: str, kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin is tuple:
        parts = typing.get_args(kind)
        if parts[-1] is Ellipsis and isinstance(value, list):
            parts = (parts[0],) * len(value)
        if isinstance(value, list) and len(value) == len(parts):
            return tuple(_typed(key, part, item) for part, item in zip(parts, value, strict=True))
    elif origin is types.UnionType or origin is typing.Union:
        return _typed(key, next(part for part in typing.get_args(kind) if part is not type(None)), value)
    elif origin is typing.Literal:
        if value in typing.get_args(kind):
            return value
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif type(value) is kind:
        return value
    name = getattr(kind, "__name__", None) if origin is None else None
    wanted = (
        "one of " + ", ".join(map(str, typing.get_args(kind))) if origin is typing.Literal else name or kind
    )
    raise DataError(f"{key} should be {wanted}, is {value!r}.")
