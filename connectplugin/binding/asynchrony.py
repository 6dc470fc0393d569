"""Whether a callable is asynchronous, and behind which wrappers its definition is."""

import functools
import inspect
from collections.abc import Awaitable
from typing import Any

from connectplugin.binding.annotations import Of, read, scope_of, signature


def plain_function(function: Any) -> Any:
    """The function behind a method, a partial, or an object with `__call__`."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func  # pyright: ignore[reportUnknownMemberType]  # of anything
        elif inspect.ismethod(function):
            function = function.__func__
        elif not inspect.isroutine(function) and inspect.ismethod(
            call := getattr(function, "__call__", None)  # noqa: B004  # it is looked into
        ):
            function = call
        else:
            return function


def problem(function: Any, *, yields: bool) -> tuple[str, str] | None:
    """What is wrong with how a handler is defined, and what would be right.

    Args:
        function: The handler, however it is wrapped: a decorator that uses `functools.wraps` is
            looked through.
        yields: Whether it answers with a stream.

    Returns:
        Both texts, or None if nothing is wrong, or nothing can be told.
    """
    plain = plain_function(function)
    wrapped = inspect.unwrap(plain)
    is_coroutine = any(map(inspect.iscoroutinefunction, (function, plain, wrapped)))
    is_generator = any(map(inspect.isasyncgenfunction, (function, plain, wrapped)))
    if yields:
        if is_coroutine and not is_generator:
            return (
                "is `async def` without `yield`, so that calling it gives a coroutine",
                "Write `yield` in it, or `def` and return an async iterator.",
            )
        if inspect.isgeneratorfunction(wrapped):
            return "is a synchronous generator", "Write `async def`."
        return None  # a plain function may return an async iterator
    if is_coroutine or _says_awaitable(wrapped):
        return None
    if is_generator:
        return "is an async generator", "Write `return` instead of `yield`: it answers once."
    return "is synchronous", "Write `async def`."


def _says_awaitable(function: Any) -> bool:
    try:
        annotation = signature(function).return_annotation
    except (TypeError, ValueError):
        return False
    shape = read(annotation, scope_of(function, None, {}))
    return isinstance(shape, Of) and issubclass(shape.type, Awaitable)
