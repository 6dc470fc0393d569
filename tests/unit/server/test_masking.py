"""What a client may read of a failure: the whole table."""

import pytest

from connectplugin_interceptors.server.masking.machine import Masking, mask

BUSINESS = [
    "invalid_argument",
    "not_found",
    "already_exists",
    "permission_denied",
    "failed_precondition",
    "out_of_range",
    "unimplemented",
]
BEHAVE = ["unavailable", "deadline_exceeded", "resource_exhausted", "aborted"]
BROKEN = ["internal", "unknown", "data_loss", "unauthenticated"]


@pytest.mark.parametrize("outbound", [False, True])
def test_what_is_no_connect_error_is_a_bug(outbound: bool) -> None:
    assert mask(None, outbound=outbound, has_cause=False) is Masking.INTERNAL


@pytest.mark.parametrize("code", [*BUSINESS, *BEHAVE, *BROKEN, "canceled"])
def test_what_the_handler_raises_itself_passes(code: str) -> None:
    assert mask(code, outbound=False, has_cause=False) is Masking.PASS
    expected = Masking.OUTBOUND if code == "unavailable" else Masking.PASS
    assert mask(code, outbound=False, has_cause=True) is expected


@pytest.mark.parametrize("has_cause", [False, True])
def test_outbound_failures_keep_what_tells_how_to_behave(has_cause: bool) -> None:
    for code in BEHAVE:
        assert mask(code, outbound=True, has_cause=has_cause) is Masking.OUTBOUND
    for code in BROKEN:
        assert mask(code, outbound=True, has_cause=has_cause) is Masking.INTERNAL
    for code in BUSINESS:
        assert mask(code, outbound=True, has_cause=has_cause) is Masking.PASS


def test_a_cancellation_is_the_requests_own_or_the_tier_belows() -> None:
    assert mask("canceled", outbound=True, has_cause=True) is Masking.PASS
    assert mask("canceled", outbound=True, has_cause=False) is Masking.UNAVAILABLE
