"""The arms by name."""

from collections.abc import Collection
from typing import Final

from connectplugin_chaos.scenario.nodes import nearest
from connectplugin_chaos.scenario.variants import split

BASELINES: Final = ("none", "naive", "textbook", "goref")
"""What others do."""

LAYERS: Final = (
    "budget", "retry", "breaker", "balance", "outlier", "deadline", "shed", "limiter",
)  # fmt: skip
"""What our stack can go without: `stack-budget`."""

ADDITIONS: Final = ("hedge", "throttle", "adaptive", "ready")
"""What our stack has, but not by default: `stack+hedge`; each with its own defaults."""

SABOTAGES: Final = ("idempotency", "budget", "header", "generation")
"""What is broken in our stack on purpose, to see that it is noticed: `stack!idempotency`."""


def check_arm(name: str, variants: Collection[str] = ()) -> str | None:
    """What is wrong with an arm's name; None if nothing is.

    Args:
        name: Such as `stack`, `stack-budget`, `stack+hedge`, `naive+limited`.
        variants: What its scenario has, besides `ADDITIONS`.
    """
    plain, added = split(name)
    additions = (*ADDITIONS, *variants) if plain == "stack" else tuple(variants)
    if added and added not in additions:
        told = nearest(added, additions) if additions else "; the scenario has no variants"
        return f"no addition {added!r}{told}"
    base, minus, layer = plain.partition("-")
    if minus and base == "stack":
        return None if layer in LAYERS else f"no layer {layer!r}{nearest(layer, LAYERS)}"
    base, bang, broken = plain.partition("!")
    if bang and base == "stack":
        known = broken in SABOTAGES
        return None if known else f"no sabotage {broken!r}{nearest(broken, SABOTAGES)}"
    known = plain in (*BASELINES, "stack")
    return None if known else f"no arm {plain!r}{nearest(plain, (*BASELINES, 'stack'))}"
