"""Makes interfaces out of text, for annotations that a type checker would not have."""

from typing import Any, Protocol


def interface(method: str, **names: Any) -> Any:
    """A Protocol called Wrong with one method, as its text says."""
    namespace: dict[str, Any] = {"Protocol": Protocol, "__name__": __name__, **names}
    exec(f"class Wrong(Protocol):\n    {method}", namespace)  # noqa: S102
    return namespace["Wrong"]
