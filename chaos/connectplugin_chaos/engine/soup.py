"""Faults by chance, all from the seed: which, where, when, for how long."""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from connectplugin_chaos.scenario.model import Happening, Soup

_Dice = random.Random
Ingredient = Callable[[_Dice], Mapping[str, Any]]


def _plain(**arguments: Any) -> Ingredient:
    return lambda _: arguments


def _streamed(dice: _Dice) -> Mapping[str, Any]:
    return {"stream": dice.choice(("upstream", "downstream", "both"))}


def _latency(dice: _Dice) -> Mapping[str, Any]:
    return {"delay": dice.uniform(0.05, 0.8), "jitter": 0.02, **_streamed(dice)}


def _reset(dice: _Dice) -> Mapping[str, Any]:
    return {"after_execution": dice.random() < 0.5}  # noqa: PLR2004  # a coin


def _app_error(dice: _Dice) -> Mapping[str, Any]:
    return {
        "code": dice.choice(("unavailable", "internal", "unknown")),
        "p": dice.uniform(0.2, 1.0),
        "seed": dice.randrange(1000),
    }


def _app_delay(dice: _Dice) -> Mapping[str, Any]:
    return {"delay": dice.uniform(0.1, 1.0), "p": dice.uniform(0.1, 0.5)}


MENU: Final[Mapping[str, tuple[str, Ingredient]]] = {
    "freeze": ("p", _streamed),
    "latency": ("p", _latency),
    "blackhole": ("p", _streamed),
    "down": ("p", _plain()),
    "flap": ("p", _plain(period=0.4, duty=0.5)),
    "reset": ("p", _reset),
    "truncate": ("p", _plain(size=400)),
    "slice": ("p", _plain(size=64, delay=0.002)),
    "bandwidth": ("p", _plain(rate=2)),
    "kill": ("s", _plain()),
    "stop": ("s", _plain()),
    "app_error": ("s", _app_error),
    "app_delay": ("s", _app_delay),
    "slow_service": ("s", _plain(factor=4.0)),
}
"""What may be in it: the verb's places (`p` or `s`), and its arguments."""


def stir(soup: Soup, seed: int, servers: int) -> tuple[Happening, ...]:
    """The happenings of a run; the same seed gives the same.

    Each server has its own sequence of faults, on its proxy or on itself, one after another: what
    undoes one must not find another in its place.

    Args:
        soup: From when to when, and of what.
        seed: Any number.
        servers: How many there are.
    """
    dice = random.Random(seed)  # noqa: S311  # reproducible
    verbs = soup.verbs or tuple(MENU)
    found: list[Happening] = []
    for number in range(1, servers + 1):
        at = soup.begin + dice.expovariate(1 / soup.pause)
        while (until := at + dice.uniform(soup.shortest, soup.longest)) <= soup.end:
            verb = dice.choice(verbs)
            letter, arguments = MENU[verb]
            name = f"{verb} {len(found) // 2 + 1}"
            found.append(
                Happening(
                    at=at,
                    fault=verb,
                    name=name,
                    places=(f"{letter}{number}",),
                    arguments=arguments(dice),
                )
            )
            found.append(Happening(at=until, heal=name, name=name))
            # A server needs a moment to come back before it is broken again.
            at = until + 0.5 + dice.expovariate(1 / soup.pause)
    return tuple(sorted(found, key=lambda happening: happening.at))
