"""For tests of plugins and hosts: `pytest_plugins = ["connectplugin.testing"]` in `conftest.py`."""

from connectplugin_interceptors.testing import (
    LoopClock,
    RecordingListener,
    VirtualTime,
    virtual_time,
)

__all__ = ("LoopClock", "RecordingListener", "VirtualTime", "virtual_time")
