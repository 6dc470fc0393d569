"""Which deadline rules: pure arithmetic on one clock's seconds.

What if a result comes late? Nothing here keeps state: a deadline is computed when a call or an
attempt begins, and whoever arms a timer with it decides what late means.
"""


def call_deadline(
    now: float,
    limit: float | None,
    timeout: float | None,
    caller: float | None,
    inherited: float | None,
) -> float | None:
    """The deadline of a call that begins now; None if nothing limits it.

    Args:
        now: Seconds of the clock that all deadlines are told in.
        limit: Seconds that the policy gives to such a call.
        timeout: Seconds that the caller gave by an option.
        caller: The deadline that the caller gave with the call itself.
        inherited: The deadline of the inbound call whose handler makes this one.
    """
    deadline = caller
    if inherited is not None and (deadline is None or inherited < deadline):
        deadline = inherited
    if timeout is not None and (limit is None or timeout < limit):
        limit = timeout
    if limit is not None and (deadline is None or now + limit < deadline):
        deadline = now + limit
    return deadline


def attempt_deadline(now: float, limit: float | None, call: float | None) -> float | None:
    """The deadline of an attempt that begins now, and may take so long, within its call's."""
    if limit is None or (call is not None and call < now + limit):
        return call
    return now + limit
