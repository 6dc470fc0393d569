"""What becomes of an error that a handler let out: a pure function of a few facts.

What if the error comes late, or the caller is gone? Nothing is kept here; the answer is the same.
"""

import enum
from typing import Final


class Masking(enum.Enum):
    """What a client is told."""

    PASS = "pass"  # noqa: S105  # no password
    """The error as it is: it was raised for the client to read."""

    INTERNAL = "internal"
    """`internal` and a reference id: a bug, whose text belongs in the log."""

    OUTBOUND = "outbound"
    """The code of a failed outbound call without its text, which names inner hosts."""

    UNAVAILABLE = "unavailable"
    """`unavailable` without text: an outbound call that was cut off."""


_KEPT: Final = frozenset({"unavailable", "deadline_exceeded", "resource_exhausted", "aborted"})
"""Codes that tell a client how to behave, and mean here what they mean one tier further down."""

_BROKEN: Final = frozenset({"internal", "unknown", "data_loss", "unauthenticated"})
"""Codes that say that the tier below, or this server's dealings with it, are broken.

`unauthenticated` is among them: passed on, it would make the client renew credentials that nobody
has refused."""


def mask(code: str | None, *, outbound: bool, has_cause: bool) -> Masking:
    """Decide what becomes of an error.

    Args:
        code: The Connect code, by its name on the wire; None if the error is no `ConnectError`.
        outbound: Whether the error came out of a call that the handler made.
        has_cause: Whether it was raised from another error. connectrpc does that when a transport
            fails, with the transport's text as its own.
    """
    if code is None:
        return Masking.INTERNAL
    if not outbound:
        return Masking.OUTBOUND if code == "unavailable" and has_cause else Masking.PASS
    if code in _KEPT:
        return Masking.OUTBOUND
    if code in _BROKEN:
        return Masking.INTERNAL
    if code == "canceled":
        # With a cause it is this very request that was cancelled, by its client or a deadline.
        return Masking.PASS if has_cause else Masking.UNAVAILABLE
    # not_found, invalid_argument, ...: an answer of the application, which the handler hands on.
    return Masking.PASS
