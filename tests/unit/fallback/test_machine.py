"""Which failures a fallback is for; the whole of it."""

import pytest
from connectrpc.code import Code

from connectplugin_interceptors.errors import Delivery
from connectplugin_interceptors.fallback.machine import applies
from connectplugin_interceptors.outcome import Cause, Outcome, Verdict

STAYS = {Cause.ABORTED, Cause.UNAUTHENTICATED, Cause.BUSINESS, Cause.BUG, Cause.CANCELLED}
ANSWERED = {Cause.ABORTED, Cause.UNAUTHENTICATED, Cause.BUSINESS}
NEUTRAL = {Cause.THROTTLED, Cause.BUG, Cause.REJECTED, Cause.CANCELLED}


def verdict(cause: Cause, code: Code = Code.UNAVAILABLE) -> Verdict:
    outcome = Outcome.FAILURE
    if cause in ANSWERED:
        outcome = Outcome.ANSWERED
    elif cause in NEUTRAL:
        outcome = Outcome.NEUTRAL
    return Verdict(cause, outcome, Delivery.MAYBE, code)


@pytest.mark.parametrize("cause", Cause)
def test_by_default_it_is_for_refusals_and_for_what_was_given_up(cause: Cause) -> None:
    assert applies(None, None, verdict(cause)) == (cause not in STAYS)


@pytest.mark.parametrize("cause", Cause)
def test_codes_and_functions_decide_alone_but_for_cancellation(cause: Cause) -> None:
    asked = verdict(cause, Code.NOT_FOUND)
    stays = cause is Cause.CANCELLED
    assert applies(frozenset({Code.NOT_FOUND}), None, asked) != stays
    assert not applies(frozenset({Code.ABORTED}), None, asked)
    assert applies(bool, True, asked) != stays
    assert not applies(bool, False, asked)
