"""The other side of loopback, in a process of its own: uvicorn and a `grpc.aio` server.

Prints one line, `HTTP_PORT GRPC_PORT`, and ends when its standard input does.
"""

import asyncio
import contextlib
import importlib
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import uvicorn

from benchmarks.service import PAYLOAD, PayloadService
from kv.v1.kv_connect import KVServiceASGIApplication
from kv.v1.kv_pb import GetRequest, GetResponse


@contextlib.asynccontextmanager
async def running() -> AsyncGenerator[tuple[str, str]]:
    """Start the peer; gives the URL and the address of the gRPC server."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if process.stdin is None or process.stdout is None:
        msg = "asyncio made no pipes"
        raise RuntimeError(msg)
    try:
        line = (await process.stdout.readline()).decode()
        if not line:
            msg = "the server process has ended before it listened"
            raise RuntimeError(msg)
        http_port, grpc_port = line.split()
        yield f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"
    finally:
        process.stdin.close()
        await process.wait()


async def _serve() -> None:
    grpc: Any = importlib.import_module("grpc")  # it has no types
    grpc_server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        _get,
        request_deserializer=GetRequest.from_binary,
        response_serializer=GetResponse.to_binary,
    )
    service = grpc.method_handlers_generic_handler("kv.v1.KVService", {"Get": handler})
    grpc_server.add_generic_rpc_handlers((service,))
    grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()

    app: Any = KVServiceASGIApplication(PayloadService())
    server = uvicorn.Server(
        uvicorn.Config(app, http="httptools", log_level="warning", access_log=False)
    )
    # Listening already: who connects before uvicorn has started waits a moment. The protocol is
    # named, since asyncio turns TCP_NODELAY on only for sockets that name it: else 40 ms a call.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    print(listening.getsockname()[1], grpc_port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving
    await grpc_server.stop(None)


async def _get(request: GetRequest, context: Any) -> GetResponse:
    del request, context
    return GetResponse(value=PAYLOAD)


if __name__ == "__main__":
    asyncio.run(_serve())
