"""The values that would kill toxiproxy, or do nothing, cannot be made."""

from collections.abc import Callable

import pytest

from connectplugin_chaos.toxiproxy.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    Slicer,
    Timeout,
    Toxic,
    ToxicError,
    attributes,
)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Slicer(average_size=0), "Slicer.average_size is 0; .*kills"),
        (lambda: Slicer(average_size=8, size_variation=8), "size_variation is 8; .*0 to 7.*kills"),
        (lambda: Bandwidth(rate=0), "Bandwidth.rate is 0; .*kills"),
        (lambda: Bandwidth(rate=-1), "Bandwidth.rate is -1"),
        (lambda: Latency(latency=-1), "Latency.latency is -1"),
        (lambda: Latency(latency=10, jitter=11), "Latency.jitter is 11"),
        (lambda: Latency(latency=True), "Latency.latency is True; it must be a whole number"),
        (lambda: Timeout(timeout=2**40), "Timeout.timeout"),
        (lambda: LimitData(bytes=-5), "LimitData.bytes is -5"),
    ],
)
def test_refuses_what_kills_the_server(make: Callable[[], Toxic], told: str) -> None:
    with pytest.raises(ToxicError, match=told):
        make()


def test_attributes_are_those_of_the_api() -> None:
    assert attributes(Slicer(average_size=8, size_variation=4, delay=100)) == {
        "average_size": 8,
        "size_variation": 4,
        "delay": 100,
    }
    assert attributes(Latency(5)) == {"latency": 5, "jitter": 0}
