"""Puts the chaos scenarios into the package of a wheel; they stand beside it in the repository.

A mapping in pyproject.toml would do the same to editable installs, where a folder of the package's
name in site-packages blinds type checkers.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ScenariosInWheel(BuildHookInterface[Any]):
    """Called by hatchling for each wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folder, unless the wheel is one of an editable install."""
        if version == "standard":
            build_data["force_include"]["chaos/scenarios"] = "connectplugin_chaos/scenarios"
