"""The arms by name."""

from typing import Final

from connectplugin_chaos.scenario.nodes import nearest

BASELINES: Final = ("none", "naive", "textbook", "goref")
"""What others do."""

LAYERS: Final = (
    "budget", "retry", "breaker", "balance", "outlier", "deadline", "shed", "limiter",
)  # fmt: skip
"""What our stack can go without: `stack-budget`."""

ADDITIONS: Final = ("hedge", "throttle", "adaptive", "ready")
"""What our stack has, but not by default: `stack+hedge`; each with its own defaults."""

SABOTAGES: Final = ("idempotency", "budget", "header")
"""What is broken in our stack on purpose, to see that it is noticed: `stack!idempotency`."""


def check_arm(name: str) -> str | None:
    """What is wrong with an arm's name; None if nothing is."""
    base, minus, layer = name.partition("-")
    if minus and base == "stack":
        return None if layer in LAYERS else f"no layer {layer!r}{nearest(layer, LAYERS)}"
    base, plus, added = name.partition("+")
    if plus and base == "stack":
        known = added in ADDITIONS
        return None if known else f"no addition {added!r}{nearest(added, ADDITIONS)}"
    base, bang, broken = name.partition("!")
    if bang and base == "stack":
        known = broken in SABOTAGES
        return None if known else f"no sabotage {broken!r}{nearest(broken, SABOTAGES)}"
    known = name in (*BASELINES, "stack")
    return None if known else f"no arm {name!r}{nearest(name, (*BASELINES, 'stack'))}"
