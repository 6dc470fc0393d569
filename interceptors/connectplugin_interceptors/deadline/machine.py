"""Which deadline rules: pure arithmetic on one clock's seconds.

What if a result comes late? Nothing here keeps state: a deadline is computed when a call or an
attempt begins, and whoever arms a timer with it decides what late means.
"""

from connectplugin_interceptors.deadline.config import DeadlinePolicy


def call_deadline(  # the sources of a deadline, each by name
    policy: DeadlinePolicy | None,
    *,
    now: float,
    timeout: float | None,
    caller: float | None,
    inherited: float | None,
    streams_responses: bool,
) -> float | None:
    """The deadline of a call that begins now; None if nothing limits it.

    Args:
        policy: The limits in force.
        now: Seconds of the clock that all deadlines are told in.
        timeout: Seconds that the caller gave by an option.
        caller: The deadline that the caller gave with the call itself.
        inherited: The deadline of the inbound call whose handler makes this one.
        streams_responses: Whether the call may have any number of responses.
    """
    deadline = caller
    if timeout is not None:
        deadline = _earlier(deadline, now + timeout)
    if inherited is not None:
        deadline = _earlier(deadline, inherited)
    if policy is not None:
        limit = policy.stream_total if streams_responses else policy.total
        if limit is not None:
            deadline = _earlier(deadline, now + limit)
    return deadline


def attempt_deadline(
    policy: DeadlinePolicy | None, *, now: float, call: float | None
) -> float | None:
    """The deadline of an attempt that begins now, within its call's."""
    if policy is None or policy.attempt is None:
        return call
    return _earlier(call, now + policy.attempt)


def _earlier(a: float | None, b: float) -> float:
    return b if a is None or b < a else a
