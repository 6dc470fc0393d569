"""Pushback in its three spellings; what is unclear forbids the retry."""

import locale
import time

import pytest
from connectrpc.errors import ErrorDetail
from connectrpc.request import Headers
from protobuf.wkt import Any as AnyMessage
from protobuf.wkt import Duration
from pyqwest import Headers as HTTPHeaders

from connectplugin_interceptors._gen.google.rpc.error_details_pb import ErrorInfo, RetryInfo
from connectplugin_interceptors.pushback import FORBIDDEN, NO_PUSHBACK, Pushback, parse_pushback

NOW = 784111777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110."""


def of_headers(*headers: tuple[str, str], now: float = NOW) -> Pushback:
    return parse_pushback(HTTPHeaders(headers), (), now)


def of_details(*details: ErrorDetail) -> Pushback:
    return parse_pushback(None, details, NOW)


def retry_info(seconds: int, nanos: int = 0) -> ErrorDetail:
    return ErrorDetail(RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos)))


def test_nothing_said_is_no_pushback() -> None:
    assert parse_pushback(None, (), NOW) is NO_PUSHBACK
    assert of_headers(("content-type", "application/json")) is NO_PUSHBACK
    assert of_details(ErrorDetail(ErrorInfo(reason="X"))) is NO_PUSHBACK
    assert Pushback(None, forbidden=False) == NO_PUSHBACK


@pytest.mark.parametrize("prefix", ["", "trailer-"])
@pytest.mark.parametrize(
    ("value", "delay"), [("0", 0.0), ("250", 0.25), (" 1000 ", 1.0), ("9999999999", 9_999_999.999)]
)
def test_milliseconds_of_the_grpc_header(prefix: str, value: str, delay: float) -> None:
    assert of_headers((f"{prefix}grpc-retry-pushback-ms", value)) == Pushback(delay)
    connect = Headers([(f"{prefix}Grpc-Retry-Pushback-Ms", value)])
    assert parse_pushback(connect, (), NOW) == Pushback(delay)


NOT_A_NUMBER = [
    "-1",
    "-0",
    "+1",
    "",
    " ",
    "soon",
    "1.5",
    "1e3",
    "1e400",
    "NaN",
    "inf",
    "0x10",
    "1_000",
    "١٢",
    "9" * 99,
    "9" * 5000,
    "1, 2",
    "1 2",
]


@pytest.mark.parametrize("value", NOT_A_NUMBER)
@pytest.mark.parametrize("name", ["grpc-retry-pushback-ms", "retry-after", "trailer-retry-after"])
def test_negative_and_unparsable_values_forbid(name: str, value: str) -> None:
    assert parse_pushback(Headers([(name, value)]), (), NOW) == FORBIDDEN


@pytest.mark.parametrize("name", ["grpc-retry-pushback-ms", "retry-after"])
def test_a_repeated_header_forbids_even_if_both_agree(name: str) -> None:
    assert of_headers((name, "1"), (name, "1")) == FORBIDDEN
    assert of_headers((name, "1"), (f"trailer-{name}", "1")) == FORBIDDEN


@pytest.mark.parametrize(
    ("detail", "delay"),
    [
        (retry_info(0), 0.0),
        (retry_info(2, 500_000_000), 2.5),
        (ErrorDetail(RetryInfo()), 0.0),
        (ErrorDetail(AnyMessage(type_url="google.rpc.RetryInfo")), 0.0),
    ],
)
def test_the_delay_of_a_retry_info_detail(detail: ErrorDetail, delay: float) -> None:
    assert of_details(ErrorDetail(ErrorInfo(reason="X")), detail) == Pushback(delay)
    on_the_wire = ErrorDetail(
        AnyMessage(type_url=f"type.googleapis.com/{detail.type_name}", value=detail.message_bytes)
    )
    assert of_details(on_the_wire) == Pushback(delay)


@pytest.mark.parametrize(
    "detail",
    [
        retry_info(-1),
        retry_info(0, -1),
        retry_info(1, -1),
        retry_info(1, 1_000_000_000),
        retry_info(10**12),
        ErrorDetail(
            AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff")
        ),
        ErrorDetail(
            AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\x0a\x05\x08")
        ),
    ],
)
def test_a_negative_or_broken_retry_info_forbids(detail: ErrorDetail) -> None:
    assert of_details(detail) == FORBIDDEN


def test_two_retry_infos_forbid() -> None:
    assert of_details(retry_info(1), retry_info(1)) == FORBIDDEN


@pytest.mark.parametrize("prefix", ["", "trailer-"])
@pytest.mark.parametrize(
    ("value", "delay"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun Nov  6 08:49:47 1994", 10.0),
        ("Mon Nov 07 08:49:37 1994", 86_400.0),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 23.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        # RFC 9110: two digits that seem to be more than 50 years ahead are of the last century.
        ("Sunday, 06-Nov-45 08:49:47 GMT", 0.0),
        ("Sunday, 06-Nov-44 08:49:37 GMT", 1_577_923_200.0),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(prefix: str, value: str, delay: float) -> None:
    assert of_headers((f"{prefix}retry-after", value)) == Pushback(delay)


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 31 Feb 1994 08:49:47 GMT",
        "Sun, 06 Nov 1994 25:49:47 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:47 GMT",
        "Sun, 06 Nov 1994 08:49:47",
        "Sun, 06 Nov 1994 08:49:47 CET",
        "Sun, 06 Nov 1994 08:49:47 +0100",
        "Sun, 06 Nov 1994 8:49 GMT",
        "Son, 06 Okt 1994 08:49:47 GMT",
        "1994-11-06T08:49:47Z",
        "06 Nov 1994",
        "Sun, 06 Nov 99999 08:49:47 GMT",
    ],
)
def test_a_date_of_no_known_form_forbids(value: str) -> None:
    assert of_headers(("retry-after", value)) == FORBIDDEN


def test_a_date_means_the_same_in_every_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    for zone in ("Asia/Tokyo", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert of_headers(("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")) == Pushback(10.0)
    monkeypatch.undo()
    time.tzset()


def test_a_date_does_not_depend_on_the_locale() -> None:
    before = locale.setlocale(locale.LC_TIME)
    for name in ("de_DE.UTF-8", "C"):
        try:
            locale.setlocale(locale.LC_TIME, name)
        except locale.Error:
            continue
        assert of_headers(("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")) == Pushback(10.0)
    locale.setlocale(locale.LC_TIME, before)


def test_of_several_spellings_the_most_precise_counts() -> None:
    everything = HTTPHeaders([("grpc-retry-pushback-ms", "150"), ("retry-after", "1")])
    assert parse_pushback(everything, [retry_info(0, 200_000_000)], NOW) == Pushback(0.15)
    rounded = HTTPHeaders([("retry-after", "1")])
    assert parse_pushback(rounded, [retry_info(0, 200_000_000)], NOW) == Pushback(0.2)


@pytest.mark.parametrize(
    ("headers", "details"),
    [
        ([("grpc-retry-pushback-ms", "-1"), ("retry-after", "1")], [retry_info(1)]),
        ([("grpc-retry-pushback-ms", "1"), ("retry-after", "soon")], [retry_info(1)]),
        ([("grpc-retry-pushback-ms", "1"), ("retry-after", "1")], [retry_info(-1)]),
    ],
)
def test_one_spelling_that_forbids_overrules_the_others(
    headers: list[tuple[str, str]], details: list[ErrorDetail]
) -> None:
    assert parse_pushback(HTTPHeaders(headers), details, NOW) == FORBIDDEN
