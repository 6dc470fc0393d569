"""Whether a failure is one that the fallback is for: a function of what is known of it.

What if the failure is told late, or twice? Nothing is kept: the answer is the same.
"""

from typing import Any, Final

from connectplugin_interceptors.outcome import Cause, Outcome, Verdict

_NEVER: Final = frozenset({Cause.CANCELLED})
_NOBODY_GAVE_UP: Final = frozenset({Cause.BUG})


def applies(on: Any, error: Any, verdict: Verdict) -> bool:
    """Whether the fallback stands in.

    Args:
        on: `FallbackPolicy.on`: None, codes, or a function of the error.
        error: What the call has raised.
        verdict: What it means.
    """
    if verdict.cause in _NEVER:
        return False
    if on is None:
        return verdict.outcome is not Outcome.ANSWERED and verdict.cause not in _NOBODY_GAVE_UP
    if callable(on):
        return bool(on(error))
    return verdict.code in on
