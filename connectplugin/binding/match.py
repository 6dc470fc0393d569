"""The match of an interface with a service: what each of its methods sends, and what it returns.

It is made once, when a plugin is declared. Every difference found is told, in one error.

What a method sends:

- Each parameter is a field of the request, by name (see `naming`) and type. Fields that no
  parameter names are left at their default. None leaves an `optional` field, a message or a member
  of a oneof unset, and a repeated field or a map empty.
- A single parameter annotated with the request message is that message.
- Where the RPC takes a stream, a single parameter is the async iterable of requests, or of the
  values of their one field.

What it returns is decided by its return annotation: see `values`.
"""

from typing import Any

from connectplugin.binding.difference import Difference, did_you_mean, refuse
from connectplugin.binding.members import Method, interface_class, methods_of
from connectplugin.binding.model import Match
from connectplugin.binding.naming import nearest
from connectplugin.binding.parameters import match_request
from connectplugin.binding.results import match_response
from connectplugin.binding.schema import Rpc, Schema


def match_interface(interface: Any, schema: Schema) -> dict[str, Match]:
    """Match every method of an interface with an RPC of the service, by name.

    The service may have more methods.

    Raises:
        PluginDefinitionError: It is no Protocol, or differs from the service; lists all
            differences.
    """
    protocol = interface_class(interface)
    differences: list[Difference] = []
    matches: dict[str, Match] = {}
    for method in methods_of(protocol, differences):
        rpc = schema.rpcs.get(method.name)
        if rpc is None:
            differences.append(_unknown_method(method, schema))
            continue
        found = _match_method(method, rpc, differences)
        if found is not None:
            matches[method.name] = found
    if not matches and not differences:
        differences.append(
            Difference(
                where=protocol.__name__,
                found="has no methods",
                expected=f"{schema.name} has {', '.join(schema.rpcs) or 'none either'}",
                remedy="Declare at least one.",
            )
        )
    refuse(f"{protocol.__name__} does not match {schema.name}", differences)
    return matches


def _match_method(method: Method, rpc: Rpc, differences: list[Difference]) -> Match | None:
    before = len(differences)

    def differ(parameter: str | None, found: str, expected: str, remedy: str) -> None:
        where = f"{method.name}()" + (f": parameter {parameter!r}" if parameter else "")
        differences.append(Difference(where, found, expected, remedy))

    request = match_request(method, rpc, differ)
    response = match_response(method, rpc, differ)
    if request is None or response is None or len(differences) > before:
        return None
    return Match(method, rpc, request, response)


def _unknown_method(method: Method, schema: Schema) -> Difference:
    return Difference(
        where=f"{method.name}()",
        found=f"the interface has `{method.written}`",
        expected=f"{schema.name} has no method of that name, but {', '.join(schema.rpcs)}",
        remedy=did_you_mean(nearest(method.name, schema.rpcs))
        or "Add it to the service, or leave it out here.",
    )
