"""Puts into the package of a wheel what stands beside it in the repository.

The chaos scenarios, and the pinned module of the toxiproxy.

A mapping in pyproject.toml would do the same to editable installs, where a folder of the package's
name in site-packages blinds type checkers.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WhatStandsBeside(BuildHookInterface[Any]):
    """Called by hatchling for each wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add it, unless the wheel is one of an editable install."""
        if version == "standard":
            build_data["force_include"] |= {
                "chaos/scenarios": "connectplugin_chaos/scenarios",
                "tools/toxiproxy": "connectplugin_chaos/toxiproxy/pinned",
            }
