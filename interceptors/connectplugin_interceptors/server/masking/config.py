"""How errors of a server's handlers are shown to clients."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskingPolicy:
    """Keep what a handler did not mean to say from leaving the server.

    - An unhandled exception reaches the client as `internal` with a reference id; the log has the
      traceback under the same id (logger `connectplugin.server`, level ERROR).
    - A failed outbound call of the handler keeps its code where that says how to behave, and loses
      its text, which names inner hosts.
    - A `ConnectError` that the handler raised itself passes as it is. One that is `unavailable` and
      raised *from* another error counts as outbound, since connectrpc raises transport failures so;
      raise it `from None` to have the text pass.

    Attributes:
        no_retry_after_outbound: Tell clients not to retry (`grpc-retry-pushback-ms: -1`) when the
            failure was an outbound call's: only the tier next to a fault retries, else three tiers
            of three attempts make 27 calls.
    """

    no_retry_after_outbound: bool = True
