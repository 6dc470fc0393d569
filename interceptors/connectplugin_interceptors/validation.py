"""Checks that all configurations share; each raises a `ConfigError` that tells what is right."""

import math
from typing import Any, TypeGuard

from connectplugin_interceptors.errors import ConfigError


def describe(owner: object, field: str) -> str:
    """`RetryPolicy.max_attempts`."""
    return f"{type(owner).__name__}.{field}"


def number(  # each names one bound
    owner: object,
    field: str,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    optional: bool = False,
    unit: str = "",
) -> None:
    """Refuse what is not a finite number within bounds (`above` is exclusive)."""
    value: Any = getattr(owner, field)
    if value is None and optional:
        return
    wanted = _wanted(minimum, above, maximum, optional=optional, unit=unit)
    if not is_number(value):
        msg = f"{describe(owner, field)} is {value!r}; it must be {wanted}"
        raise ConfigError(msg)
    if (
        (minimum is not None and value < minimum)
        or (above is not None and value <= above)
        or (maximum is not None and value > maximum)
    ):
        msg = f"{describe(owner, field)} is {value!r}; it must be {wanted}"
        raise ConfigError(msg)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; a bool is none."""
    return not isinstance(value, bool) and isinstance(value, int | float) and _finite(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def integer(
    owner: object,
    field: str,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    optional: bool = False,
) -> None:
    """Refuse what is not an int within bounds (both inclusive)."""
    value: Any = getattr(owner, field)
    if value is None and optional:
        return
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or (minimum is not None and value < minimum)
        or (maximum is not None and value > maximum)
    ):
        wanted = _wanted(minimum, None, maximum, optional=optional, unit="", kind="a whole number")
        msg = f"{describe(owner, field)} is {value!r}; it must be {wanted}"
        raise ConfigError(msg)


def instance(owner: object, field: str, kind: type, *, optional: bool = False) -> None:
    """Refuse what is not of a type."""
    instances(owner, field, (kind,), optional=optional)


def instances(
    owner: object, field: str, kinds: tuple[type, ...], *, optional: bool = False
) -> None:
    """Refuse what is of none of some types."""
    value: Any = getattr(owner, field)
    if (value is None and optional) or isinstance(value, kinds):
        return
    wanted = " or ".join([*(kind.__name__ for kind in kinds), *(["None"] if optional else [])])
    msg = f"{describe(owner, field)} is {value!r}; it must be {wanted}"
    raise ConfigError(msg)


def _wanted(
    minimum: float | None,
    above: float | None,
    maximum: float | None,
    *,
    optional: bool,
    unit: str,
    kind: str = "a finite number",
) -> str:
    text = kind + (f" of {unit}" if unit else "")
    bounds: list[str] = []
    if minimum is not None:
        bounds.append(f">= {minimum:g}")
    if above is not None:
        bounds.append(f"> {above:g}")
    if maximum is not None:
        bounds.append(f"<= {maximum:g}")
    if bounds:
        text += " " + " and ".join(bounds)
    return text + (", or None" if optional else "")
