"""Between a user's Protocol and a generated Connect service: the match, the facade, the adapter."""

from connectplugin.binding.adapter import make_adapter
from connectplugin.binding.difference import Difference, PluginDefinitionError
from connectplugin.binding.facade import Facade, make_facade
from connectplugin.binding.implementation import check_implementation, check_service
from connectplugin.binding.match import match_interface
from connectplugin.binding.members import interface_class
from connectplugin.binding.schema import Schema, read_schema

__all__ = (
    "Difference",
    "Facade",
    "PluginDefinitionError",
    "Schema",
    "check_implementation",
    "check_service",
    "interface_class",
    "make_adapter",
    "make_facade",
    "match_interface",
    "read_schema",
)
