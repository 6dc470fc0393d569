"""The receipts of payments: one store for all servers of a run, as a service has one database."""

import os
from pathlib import Path
from typing import Final

RECEIPTS: Final = "receipts"
"""The name of the folder, beside the ledgers."""


class Receipts:
    """What was answered first for each key; it outlives every server.

    Args:
        folder: A file for each key; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def claim(self, key: str, receipt: str) -> tuple[bool, str]:
        """The receipt of a key, and whether it is this one: then the payment has taken effect.

        Args:
            key: Of the payment; a name that a file can have.
            receipt: For it, unless there is one.
        """
        own = self._folder / f".{receipt}.{os.getpid()}"
        own.write_text(receipt)
        there = self._folder / key
        try:
            # The content is there with the name: nobody can read half a receipt.
            os.link(own, there)
        except FileExistsError:
            return False, there.read_text()
        finally:
            own.unlink()
        return True, receipt
