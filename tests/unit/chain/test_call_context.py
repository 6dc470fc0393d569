"""`CallContext` is made without `RequestContext.__init__`, which is slow: it must not differ."""

from typing import Any

from connectrpc.request import RequestContext

from connectplugin_interceptors.clock import SystemClock
from tests.contract.standalone import METHOD, call_context


def test_it_has_every_attribute_that_connectrpc_gives_to_a_context() -> None:
    own = call_context(SystemClock())
    theirs: RequestContext[Any, Any] = RequestContext(
        method=METHOD, http_method="POST", request_headers=own.request_headers, timeout_ms=None
    )
    assert vars(theirs).keys() - vars(own).keys() == set()


def test_it_tells_what_its_source_tells() -> None:
    own = call_context(SystemClock())
    source = RequestContext[Any, Any](
        method=METHOD,
        http_method="GET",
        request_headers=own.request_headers,
        server_address="peer:80",
    )
    made = type(own)(source, own.request_headers, own.call, own.attempt, None)
    for name in (
        "method",
        "http_method",
        "request_headers",
        "server_address",
        "client_address",
        "timeout_ms",
    ):
        assert getattr(made, name) == getattr(source, name), name
    assert not made.response_headers
    assert not made.response_trailers
