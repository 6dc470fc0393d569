"""What a method of an interface returns: its return annotation, as a response."""

from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any

from connectplugin.binding.annotations import Missing, Of, Shape, read, show
from connectplugin.binding.difference import Differ
from connectplugin.binding.members import Method
from connectplugin.binding.model import Value
from connectplugin.binding.schema import Rpc
from connectplugin.binding.values import STREAMS, content_of, value_of


def match_response(method: Method, rpc: Rpc, differ: Differ) -> Value | None:
    """Match a return annotation with the response; None if `differ` was told of something."""
    annotation: Any = method.signature.return_annotation
    shape = read(annotation, method.scope(rpc.types))
    right = right_signature(method, rpc)
    if isinstance(shape, Missing):
        differ(
            None,
            f"`{method.written}` has no return annotation",
            "it decides what of the response is returned",
            f"Write `{right}`.",
        )
        return None
    content = _streamed(shape, method) if rpc.receives_stream else _awaited(shape, method)
    if content is None:
        expected, hint = f"{rpc.info.name} answers with one message, which is awaited", ""
        if rpc.receives_stream:
            expected = f"{rpc.info.name} answers with a stream"
            hint = ", without `async`: the call itself is not awaited" if method.is_async else ""
        differ(None, f"is `{method.written}`", expected, f"Write `{right}`{hint}.")
        return None
    return value_of(
        content,
        rpc.info.output,
        rpc.response_fields,
        message_name=rpc.response_name,
        found=f"returns `{show(annotation)}`",
        right=right,
        differ=partial(differ, None),
    )


def right_signature(method: Method, rpc: Rpc) -> str:
    """The first line of a method that would match what the RPC returns."""
    parameters = ", ".join(["self", *method.signature.parameters])
    match list(rpc.response_fields.values()):
        case []:
            result = "None"
        case [field]:
            result = field.kind.text
        case _:
            result = rpc.info.output.__name__
    if rpc.receives_stream:
        return f"def {method.name}({parameters}) -> AsyncIterator[{result}]"
    return f"async def {method.name}({parameters}) -> {result}"


def _streamed(shape: Shape, method: Method) -> Shape | None:
    """What the stream that is returned holds; None if none is."""
    return None if method.is_async else content_of(shape)


def _awaited(shape: Shape, method: Method) -> Shape | None:
    """What is awaited; None if nothing is, or a stream."""
    if isinstance(shape, Of) and shape.type in STREAMS:
        return None
    if method.is_async:
        return shape
    match shape:
        # `def get(self) -> Awaitable[bytes]` says the same as `async def`.
        case Of(kind, (result,)) if kind is Awaitable:
            return result
        case Of(kind, (_, _, result)) if kind is Coroutine:
            return result
        case _:
            return None
