"""Runs a program that must not outlive the harness: `python leash.py PARENT_PID PROGRAM ARGS...`.

Started as a script without the site packages, so it costs some 15 ms. The kernel kills the program
when its parent is gone, however that came about (SIGKILL included). Linux; elsewhere the harness's
own clean-up must do.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, and become the program."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit("leash: the kernel refused PR_SET_PDEATHSIG")
    # The parent may have gone before the kernel was asked.
    if os.getppid() != parent:
        sys.exit("leash: the parent is gone")
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  # becoming another program is the purpose


if __name__ == "__main__":
    main()
