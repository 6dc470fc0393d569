"""Which deadline a handler gets: arithmetic on seconds.

What if the call is late already? `limit` is then not positive, and the shell drops the call before
its handler starts. Nothing is kept, so nothing can come twice.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """How long the call may take from now on.

    Attributes:
        seconds: None for no limit; not positive for a call that is late already.
        own_timer: Whether nobody else enforces it. connectrpc arms a timer of its own from the
            client's header, and a second one would cost without deciding anything.
    """

    seconds: float | None
    own_timer: bool


def limit(*, asked: float | None, maximum: float | None, streams_responses: bool) -> Limit:
    """The time that a call gets.

    Args:
        asked: Seconds left by the client's header; None if it has none.
        maximum: Seconds that the server allows for calls with one response; None for no bound.
        streams_responses: Whether the call may have any number of responses.
    """
    if streams_responses or maximum is None:
        return Limit(asked, own_timer=False)
    if asked is None or asked > maximum:
        return Limit(maximum, own_timer=True)
    return Limit(asked, own_timer=False)
