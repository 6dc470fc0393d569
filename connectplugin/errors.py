"""What goes wrong between a host and a plugin before, or beside, a call.

```
PluginError
├─ HandshakeError                   the peer answered, and host and plugin do not fit
│  ├─ IncompatibleVersionError      no common version; says what each side offers
│  └─ MissingCapabilityError        it lacks what the host requires
└─ PluginUnavailableError           nobody answered at the address, or the peer has no such plugin
```
"""


class PluginError(Exception):
    """Base of these."""


class HandshakeError(PluginError):
    """Host and plugin do not fit together."""


class IncompatibleVersionError(HandshakeError):
    """There is no version that both sides speak."""


class MissingCapabilityError(HandshakeError):
    """The plugin lacks a capability that the host requires."""


class PluginUnavailableError(PluginError):
    """Nobody answers, or the peer does not serve the plugin."""
