"""When an endpoint is worse than its peers, and for how long it then gets no traffic."""

from dataclasses import dataclass

from connectplugin_interceptors import validation


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierEjectionPolicy:
    """Endpoints that do much worse than their peers are left out for a while (gRPC A50).

    At the end of each interval two rules look at the calls that ended in it. An endpoint is ejected
    for `base_ejection` seconds times the number of its ejections, which is forgotten one by one
    with each interval that it is not ejected. Its connections stay. Runs of consecutive failures
    are the circuit breaker's business, which acts within the interval.

    Attributes:
        interval: Seconds between looks. Default 10.
        base_ejection: Seconds. Default 30.
        max_ejection: Seconds, of the longest. Default 300.
        max_ejected: Share of the endpoints that may be out at a time. Default 0.1, but always at
            least one endpoint.
        success_rate_stdevs: An endpoint is an outlier if its success rate is more than so many
            standard deviations below the mean. Default 1.9; None turns the rule off.
        success_rate_hosts: The rule needs so many endpoints with enough calls. Default 5.
        success_rate_calls: What is enough. Default 100.
        failure_share: An endpoint is an outlier if so large a share of its calls has failed.
            Default 0.85; None turns the rule off.
        failure_hosts: That rule needs so many endpoints with enough calls. Default 5.
        failure_calls: What is enough. Default 50.

    Raises:
        ConfigError: A field is out of its bounds.
    """

    interval: float = 10.0
    base_ejection: float = 30.0
    max_ejection: float = 300.0
    max_ejected: float = 0.1
    success_rate_stdevs: float | None = 1.9
    success_rate_hosts: int = 5
    success_rate_calls: int = 100
    failure_share: float | None = 0.85
    failure_hosts: int = 5
    failure_calls: int = 50

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.number(self, "interval", above=0, unit="seconds")
        validation.number(self, "base_ejection", above=0, unit="seconds")
        validation.number(self, "max_ejection", minimum=self.base_ejection, unit="seconds")
        validation.number(self, "max_ejected", above=0, maximum=1)
        validation.number(self, "success_rate_stdevs", minimum=0, optional=True)
        validation.number(self, "failure_share", above=0, maximum=1, optional=True)
        # An endpoint alone, or without calls, cannot be told from its peers.
        for field in ("success_rate_hosts", "failure_hosts"):
            validation.integer(self, field, minimum=2)
        for field in ("success_rate_calls", "failure_calls"):
            validation.integer(self, field, minimum=1)
