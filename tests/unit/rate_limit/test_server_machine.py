"""What a refused client is told: never too early, and about an address, not a port."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectplugin_interceptors.server.rate_limit.machine import Hint, address_key, hint


@given(st.floats(1e-9, 1e6))
def test_each_unit_is_the_least_that_is_not_too_early(wait: float) -> None:
    told = hint(wait)
    for units, of_a_second in (
        (told.seconds, 1),
        (told.milliseconds, 1_000),
        (told.nanoseconds, 1_000_000_000),
    ):
        assert units >= 1
        # A float has no more than 53 bits: of a long wait, the last nanoseconds are noise.
        assert Fraction(units, of_a_second) >= Fraction(wait) * (1 - Fraction(1, 2**52))
        if units > 1:
            assert Fraction(units - 1, of_a_second) < Fraction(wait) * (1 + Fraction(1, 2**52))


def test_what_is_whole_stays_so() -> None:
    assert hint(2.0) == Hint(2, 2_000, 2_000_000_000)
    assert hint(1.25) == Hint(2, 1_250, 1_250_000_000)


def test_a_moment_is_not_at_once() -> None:
    assert hint(1e-9) == Hint(1, 1, 1)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.7:51234", "10.0.0.7"),
        ("[2001:db8::1]:443", "[2001:db8::1]"),
        ("in-process:0", None),
        (None, None),
    ],
)
def test_the_key_of_an_address_has_no_port(address: str | None, key: str | None) -> None:
    assert address_key(address) == key
