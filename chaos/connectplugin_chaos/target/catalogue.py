"""The plugins of a `ServeConfig`, and the methods that can be called."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectrpc.client import ConnectClient
from connectrpc.method import IdempotencyLevel, MethodInfo

from connectplugin import ConnectPlugin, ServeConfig
from connectplugin_chaos.scenario.nodes import nearest
from connectplugin_chaos.target.locate import TargetError, serve_config

if TYPE_CHECKING:
    from connectplugin.plugin import Plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of a plugin.

    Attributes:
        plugin: By which its client is dispensed.
        client_class: The generated one.
        info: Messages, shape, idempotency.
    """

    plugin: str
    client_class: type[ConnectClient]
    info: MethodInfo[Any, Any]

    @property
    def path(self) -> str:
        """`kv.v1.KVService/Put`."""
        return f"{self.info.service_name}/{self.info.name}"

    @property
    def idempotent(self) -> bool:
        """Whether its `.proto` says that it may be executed twice."""
        return self.info.idempotency_level is not IdempotencyLevel.UNKNOWN

    @property
    def changes(self) -> bool:
        """Whether it may have side effects."""
        return self.info.idempotency_level is not IdempotencyLevel.NO_SIDE_EFFECTS


class Catalogue:
    """What a server offers.

    Args:
        name: Of the `ServeConfig`, `module:attribute`.

    Attributes:
        name: As given.
        version: The newest application version, whose plugins are called.
        plugins: As they were declared.
        cookie: That the server wants to see in the handshake.

    Raises:
        TargetError: There is no such config, or it holds no `ConnectPlugin`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        config: ServeConfig = serve_config(name)
        self.cookie = config.magic_cookie
        self.version = max(config.plugin_sets)
        bound = config.plugin_sets[self.version].values()
        self.plugins: list[Plugin] = [each.plugin for each in bound]
        self.methods: list[Method] = []
        for each in self.plugins:
            plugin: Any = each
            if isinstance(plugin, ConnectPlugin):
                self.methods += [
                    Method(plugin=each.name, client_class=plugin.client_class, info=info)
                    for info in plugin.methods
                ]
        if not self.methods:
            msg = (
                f"--target is {name!r}, whose plugins are no ConnectPlugins: nothing can be called"
            )
            raise TargetError(msg)

    @property
    def paths(self) -> dict[str, str]:
        """The methods' paths by their names; of two of a name, the first's."""
        return {method.info.name: method.path for method in reversed(self.methods)}

    def find(self, name: str) -> Method | str:
        """A method by `Put`, `KVService/Put` or its full path; else what is wrong.

        `put`, as Python spells it, is understood too.
        """
        wanted = name.replace("_", "").lower()
        found = [method for method in self.methods if wanted in _spellings(method)]
        if not found:
            known = [method.info.name for method in self.methods]
            return f"the plugin has no method {name!r}{nearest(name, known)}"
        if len(found) > 1:
            paths = ", ".join(method.path for method in found)
            return f"{name!r} may be {paths}: name the service too"
        return found[0]


def _spellings(method: Method) -> set[str]:
    service = method.info.service_name.lower()
    own = method.info.name.lower()
    return {own, f"{service.rpartition('.')[2]}/{own}", f"{service}/{own}"}
