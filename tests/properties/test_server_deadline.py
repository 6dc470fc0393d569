"""The server's bound on a call: who enforces it, and that a client cannot ask for more."""

from hypothesis import given
from hypothesis import strategies as st

from connectplugin_interceptors.server.deadline.machine import Limit, limit

seconds = st.floats(-10.0, 1e6)
maybe = st.none() | seconds


@given(maybe, maybe)
def test_a_stream_of_responses_has_the_clients_limit_only(
    asked: float | None, maximum: float | None
) -> None:
    assert limit(asked=asked, maximum=maximum, streams_responses=True) == Limit(
        asked, own_timer=False
    )


@given(maybe)
def test_without_a_maximum_the_client_decides(asked: float | None) -> None:
    assert limit(asked=asked, maximum=None, streams_responses=False) == Limit(
        asked, own_timer=False
    )


@given(maybe, seconds)
def test_the_lesser_rules_and_a_timer_is_armed_only_for_the_servers_own(
    asked: float | None, maximum: float
) -> None:
    given_limit = limit(asked=asked, maximum=maximum, streams_responses=False)
    if asked is None:
        assert given_limit == Limit(maximum, own_timer=True)
    else:
        assert given_limit.seconds == min(asked, maximum)
        assert given_limit.own_timer == (maximum < asked)
