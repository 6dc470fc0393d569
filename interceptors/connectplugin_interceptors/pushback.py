"""What a failed server says about trying again: when, or that nobody should.

It has three spellings, in order of precision: `grpc-retry-pushback-ms` (gRPC A6), the error detail
`google.rpc.RetryInfo`, and HTTP's `retry-after`. A server may use several at once; the most precise
one then counts. One that is negative, cannot be understood, or is there twice forbids the retry,
whatever the others say: a server in trouble gets the benefit of the doubt.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from connectrpc.errors import ErrorDetail

from connectplugin_interceptors._gen.google.rpc.error_details_pb import RetryInfo
from connectplugin_interceptors.wire import PUSHBACK_HEADER, RETRY_AFTER_HEADER


@dataclass(frozen=True, slots=True)
class Pushback:
    """A server's word on trying again.

    Attributes:
        delay: Seconds to wait at least; None if the server did not say.
        forbidden: Whether it said not to try again, or said something that makes no sense.
    """

    delay: float | None = None
    forbidden: bool = False


NO_PUSHBACK: Final = Pushback()
FORBIDDEN: Final = Pushback(forbidden=True)


class HeaderValues(Protocol):
    """Headers by lower-case name: connectrpc's, pyqwest's, or anything of that shape."""

    def getall(self, key: str, /) -> Sequence[str]:
        """All values of a header; empty if it is not there."""
        ...


def parse_pushback(
    headers: HeaderValues | None, details: Iterable[ErrorDetail], wall_now: float
) -> Pushback:
    """Read a failed attempt's pushback.

    Args:
        headers: Of the response; a unary Connect call's trailers are among them as `trailer-*`,
            and are read too. None if no response came or nobody saw it.
        details: Of the error.
        wall_now: Seconds since 1970 by the wall clock: a `retry-after` may be a date. One that has
            passed means no wait.
    """
    found: list[float | None] = []
    if headers is not None:
        found += [_milliseconds(value) for value in _values(headers, PUSHBACK_HEADER)]
        if len(found) > 1:
            return FORBIDDEN
    infos = [_retry_info(detail) for detail in details if detail.type_name == _RETRY_INFO]
    if len(infos) > 1:
        return FORBIDDEN
    found += infos
    if headers is not None:
        retry_after = _values(headers, RETRY_AFTER_HEADER)
        if len(retry_after) > 1:
            return FORBIDDEN
        found += [_delay_or_date(value, wall_now) for value in retry_after]
    if not found:
        return NO_PUSHBACK
    if None in found:
        return FORBIDDEN
    return Pushback(found[0])


# Each parser below returns seconds, or None for what is negative or makes no sense. Ten digits of
# milliseconds are 115 days, and of seconds 317 years: a longer number is no time to wait.
_DIGITS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_RETRY_INFO: Final = "google.rpc.RetryInfo"
_LONGEST_SECONDS: Final = 9_999_999_999
_NANOS: Final = 1_000_000_000


def _values(headers: HeaderValues, name: str) -> list[str]:
    return [*headers.getall(name), *headers.getall(f"trailer-{name}")]


def _milliseconds(value: str) -> float | None:
    value = value.strip()
    return int(value) / 1000 if _DIGITS.fullmatch(value) else None


def _retry_info(detail: ErrorDetail) -> float | None:
    try:
        info = detail.value(RetryInfo)
    except Exception:  # noqa: BLE001  # whatever a decoder raises on what a peer has sent
        return None
    if info is None:
        return None
    delay = info.retry_delay
    if delay is None:
        return 0.0
    # A Duration's two parts must not differ in sign, so a negative one is negative altogether.
    if not (0 <= delay.seconds <= _LONGEST_SECONDS and 0 <= delay.nanos < _NANOS):
        return None
    return delay.seconds + delay.nanos / _NANOS


def _delay_or_date(value: str, wall_now: float) -> float | None:
    value = value.strip()
    if _DIGITS.fullmatch(value):
        return float(value)
    date = _http_date(value, wall_now)
    return None if date is None else max(0.0, date - wall_now)


# RFC 9110, 5.6.7: one form to write and two that are obsolete, but must be understood. Not parsed
# with strptime, which reads the names of days and months in the process's locale.
_MONTH: Final = r"(?P<month>[A-Z][a-z]{2})"
_DATES: Final = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"[A-Z][a-z]{{2}}, (?P<day>\d{{2}}) {_MONTH} (?P<year>\d{{4}}) (?P<time>\S+) GMT",
        rf"[A-Z][a-z]{{5,8}}, (?P<day>\d{{2}})-{_MONTH}-(?P<year>\d{{2}}) (?P<time>\S+) GMT",
        rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ \d]\d) (?P<time>\S+) (?P<year>\d{{4}})",
    )
)
_TIME: Final = re.compile(r"(\d{2}):(\d{2}):(\d{2})", re.ASCII)
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
_LEAP_SECOND: Final = 60


def _http_date(text: str, wall_now: float) -> float | None:
    """Seconds since 1970, or None."""
    for form in _DATES:
        date = form.fullmatch(text)
        if date is not None:
            break
    else:
        return None
    time = _TIME.fullmatch(date["time"])
    if time is None or date["month"] not in _MONTHS:
        return None
    hour, minute, second = (int(part) for part in time.groups())
    leap = 1 if second == _LEAP_SECOND else 0
    month = _MONTHS.index(date["month"]) + 1
    try:
        year = _full_year(date["year"], wall_now)
        moment = datetime(year, month, int(date["day"]), hour, minute, second - leap, tzinfo=UTC)
    except (ValueError, OverflowError):  # there is no 31st of February
        return None
    return moment.timestamp() + leap


def _full_year(digits: str, wall_now: float) -> int:
    """Two digits mean a year that is at most 50 years ahead (RFC 9110), or up to 49 back."""
    if len(digits) > 2:  # noqa: PLR2004  # the two that the sentence above is about
        return int(digits)
    latest = datetime.fromtimestamp(wall_now, UTC).year + 50
    return latest - (latest - int(digits)) % 100
