"""Objects by name, `module:attribute`, as command lines and scenario files spell them."""

import contextlib
import importlib
import os
import pkgutil
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterable
from types import FrameType, ModuleType
from typing import Any, Final

from connectplugin import ServeConfig
from connectplugin_chaos.scenario.nodes import ScenarioError, nearest

IMPORT_WITHIN: Final = 20.0
"""Seconds that a module has to be imported; one that serves when it is imported takes for ever."""


class TargetError(ScenarioError):
    """What was named is not there, or is something else; the text says what would be right."""


def locate(name: str, *, of: str) -> Any:
    """Import a module and get an attribute of it.

    The working directory is looked into first, then wherever Python looks.

    Args:
        name: `module:attribute`.
        of: What is named, for messages: `--target`.

    Raises:
        TargetError: There is no such thing.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute) or ":" in attribute:
        msg = f"{of} is {name!r}; it must be module:attribute, such as server:serve_config"
        raise TargetError(msg)
    module = _module(module_name, of)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_")]
            msg = f"{of} is {name!r}, but {module_name} has no {attribute!r}"
            raise TargetError(msg + nearest(part, public))
        found = getattr(found, part)
    return found


def serve_config(name: str) -> ServeConfig:
    """The `ServeConfig` of that name, or what a function of that name returns.

    Raises:
        TargetError: It is neither.
    """
    of = "--target"
    found = locate(name, of=of)
    if callable(found) and not isinstance(found, ServeConfig):
        try:
            with _limit(f"{of} is {name!r}, and calling it"):
                made = found()
        except TargetError:
            raise
        except Exception as error:
            msg = f"{of} is {name!r}, and calling it without arguments failed: {error!r}"
            raise TargetError(msg + _where(error)) from error
        told = f"which returned {_kind(made)}"
        found = made
    else:
        told = f"which is {_kind(found)}"
    if not isinstance(found, ServeConfig):
        msg = (
            f"{of} is {name!r}, {told}; it must be a ServeConfig, or a function that returns one"
            " and takes no arguments"
        )
        raise TargetError(msg)
    if found.sock is not None:
        msg = f"{of} is {name!r}, whose sock is set: each server gets a port of its own; use addr"
        raise TargetError(msg)
    return found


def _kind(value: object) -> str:
    if value is None:
        return "None"
    return repr(value) if isinstance(value, ModuleType) else f"of type {type(value).__name__}"


def _module(name: str, of: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109  # as sys.path spells it
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with _limit(f"{of} names the module {name}, and importing it"):
            return importlib.import_module(name)
    except TargetError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            msg = f"{of} names the module {name}, whose import failed: {error}{_where(error)}"
            raise TargetError(msg) from error
        there = sorted(module.name for module in pkgutil.iter_modules([here]))
        msg = f"{of} names the module {error.name!r}, which is neither in {here} nor on PYTHONPATH"
        raise TargetError(msg + _hint(error.name, there)) from None
    except Exception as error:
        msg = f"{of} names the module {name}, whose import failed: {error!r}{_where(error)}"
        raise TargetError(msg) from error


def _hint(name: str, there: Iterable[str]) -> str:
    known = list(there)
    return nearest(name, known) if known else ""


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


@contextlib.contextmanager
def _limit(what: str) -> Generator[None]:
    """Give up what takes too long; where that cannot be, let it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        msg = (
            f"{what} took more than {IMPORT_WITHIN:g} s: does it serve? What serves belongs behind"
            ' `if __name__ == "__main__":`'
        )
        raise TargetError(msg)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, IMPORT_WITHIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
