"""How long a server works on a call."""

from dataclasses import dataclass

from connectplugin_interceptors import validation


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerDeadlinePolicy:
    """Honour the deadline that a client sends, and set one where it sends none.

    What has expired before its handler starts is dropped (`deadline_exceeded`, marked as not
    processed); a handler that runs into the deadline is cancelled. Outbound calls that the handler
    makes through a `ClientStack` inherit what is left.

    Attributes:
        maximum: Seconds that the handler of a call with one response (unary, client stream) gets at
            most, whatever the client asks for; None: as long as the client says. Default 30, the
            default total of our clients. Streams of responses get what the client says only.
        request: Seconds within which a request must have arrived that comes with no deadline of its
            client's, before its handler starts; None: no bound. Default 30. A client that sends its
            request a byte at a time would hold a slot of the bulkhead meanwhile.

    Raises:
        ConfigError: A limit is not positive.
    """

    maximum: float | None = 30.0
    request: float | None = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for field in ("maximum", "request"):
            validation.number(self, field, minimum=0.001, optional=True, unit="seconds")
