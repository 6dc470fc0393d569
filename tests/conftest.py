import asyncio
import signal

pytest_plugins = ["connectplugin.testing"]


def pytest_configure() -> None:
    """Undo what the surroundings could change.

    Say that there is no event loop, before looptime asks for one around each synchronous test.

    Asked first, asyncio would make a loop that nobody closes, and some later test would fail for
    the `ResourceWarning`.
    """
    asyncio.set_event_loop(None)
    # A shell starts what it runs in the background with SIGINT ignored, and that is inherited: the
    # programs that are tested here would be deaf to Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
