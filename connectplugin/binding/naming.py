"""How names of a `.proto` are spelled in a Protocol.

- A method is the RPC's name in snake_case: `Get` is `get`, `GetHTTPUrl` is `get_http_url`.
- A name that Python keeps for itself gets an underscore: `Import` is `import_`, `Try` is `try_`. So
  do the few that the generated client needs (`desc`, `execute_unary`, `execute_client_stream`,
  `execute_server_stream`, `execute_bidi_stream`). A name that begins with `_` or `pb_` gets `pb_`
  in front. Case counts: `None` is `none`, which Python leaves free.
- A parameter is the field's own name in the generated message, spelled as in the `.proto`, with an
  underscore where it would be a keyword or a method of every message: `from` is `from_`, `self` is
  `self_`, `getHTTPUrl` stays `getHTTPUrl`.

These are the names of the generated code too, and none begins with an underscore; what this package
adds to a dispensed object always does, so nothing can clash.
"""

import difflib
import keyword
import re
from collections.abc import Iterable
from typing import Final

_WORD_BOUNDARY: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[^_])(?=[A-Z][a-z])")

# `keyword.kwlist`, fixed: what a service is called must not depend on the Python that runs it.
_KEYWORDS: Final = frozenset(word for word in keyword.kwlist if not word.startswith("_"))

_RESERVED: Final = _KEYWORDS | {
    "desc",
    "execute_unary",
    "execute_client_stream",
    "execute_server_stream",
    "execute_bidi_stream",
}


def method_name(rpc: str) -> str:
    """What the RPC of that name is called in Python.

    >>> [method_name(name) for name in ("Get", "GetHTTPUrl", "Import", "None", "_Hidden")]
    ['get', 'get_http_url', 'import_', 'none', 'pb__hidden']
    """
    name = _WORD_BOUNDARY.sub("_", rpc).lower()
    if name.rstrip("_") in _RESERVED:
        name += "_"
    if name.startswith(("_", "pb_")):
        name = f"pb_{name}"
    return name


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that the author of `name` may have meant, best first.

    >>> nearest("http_url", ["getHTTPUrl", "http_URL", "key"])
    ['http_URL']
    """
    candidates = list(known)
    plain = _plain(name)
    same = [candidate for candidate in candidates if _plain(candidate) == plain]
    if same:
        return same
    return difflib.get_close_matches(name, candidates, n=3, cutoff=0.6)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
