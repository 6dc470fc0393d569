"""`package.Service/Method` and `package.Service/*`: how methods are named in configurations."""

from connectplugin_interceptors.errors import ConfigError


def check_pattern(pattern: str, where: str = "for_method") -> None:
    """Refuse what is neither `package.Service/Method` nor `package.Service/*`.

    Args:
        pattern: What was given.
        where: To whom, for the error.
    """
    service, slash, method = pattern.partition("/")
    if (
        not slash
        or not service
        or not method
        or "/" in method
        or ("*" in pattern and method != "*")
    ):
        msg = (
            f"{where} got {pattern!r}; it takes 'package.Service/Method' for one method or "
            "'package.Service/*' for all of a service"
        )
        raise ConfigError(msg)


def matches(pattern: str, method: str) -> bool:
    """Whether a method, as `package.Service/Method`, is one that the pattern names."""
    if pattern.endswith("/*"):
        return method.startswith(pattern[:-1])
    return pattern == method
