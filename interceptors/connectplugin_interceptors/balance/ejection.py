"""The end of an interval of outlier ejection: who is ejected, and everybody's new count."""

from collections.abc import Sequence

from connectplugin_interceptors.balance.endpoint import Endpoint
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy
from connectplugin_interceptors.outlier_ejection.machine import Tally, outliers


def end_interval(members: Sequence[Endpoint], policy: OutlierEjectionPolicy) -> Sequence[Endpoint]:
    """Count the outliers' ejections, forget one of each other's, and begin to count anew.

    Returns:
        The endpoints to eject, worst first.
    """
    tallies = [Tally(e, e.succeeded, e.failed) for e in members if e.ejected_until is None]
    found = outliers(policy, tallies, ejected=len(members) - len(tallies))
    for endpoint in members:
        endpoint.succeeded = endpoint.failed = 0
        if endpoint in found:
            endpoint.ejections += 1
        elif endpoint.ejected_until is None and endpoint.ejections:
            endpoint.ejections -= 1
    return found
