import asyncio

pytest_plugins = ["connectplugin.testing"]


def pytest_configure() -> None:
    """Say that there is no event loop, before looptime asks for one around each synchronous test.

    Asked first, asyncio would make a loop that nobody closes, and some later test would fail for
    the `ResourceWarning`.
    """
    asyncio.set_event_loop(None)
