"""The plugins of the harness's servers, as hosts and servers declare them."""

from typing import Protocol

from connectplugin import ConnectPlugin
from connectplugin_chaos._gen.chaos_target.v1.target_connect import NeighbourService, TargetService


class TargetInterface(Protocol):
    """What a `ConnectPlugin` wants to see; the harness calls the generated client."""

    async def read(self, op: int, key: str) -> str:
        """Of the service."""
        ...


class NeighbourInterface(Protocol):
    """Likewise."""

    async def peek(self, op: int, key: str) -> str:
        """Of the service."""
        ...


target_plugin = ConnectPlugin("chaos-target", TargetInterface, service=TargetService)
neighbour_plugin = ConnectPlugin("chaos-neighbour", NeighbourInterface, service=NeighbourService)
