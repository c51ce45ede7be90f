"""What a program of ours sets for its own process before anything heavy is loaded; an import sets nothing.

Owns the allocator's thresholds and the behaviour of waiting threads. EHMFACES_TUNING=0 leaves all as it is;
variables that are set already stay.

Knows no model and no command.
"""

import ctypes
import os
import sys
from contextlib import suppress

# From malloc.h of the GNU C library.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 2**31 - 1

# Threads that spin while they wait take the processor from those that work.
VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "1"}


def tune_process() -> bool:
    """Set variables and thresholds; to be called before torch is imported.

    Freed memory is then kept for the next picture instead of going back to the system.

    Returns:
        Whether the allocator took the thresholds (only that of the GNU C library does).
    """
    if os.environ.get("EHMFACES_TUNING") == "0":
        return False
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    return keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let malloc reuse large blocks, which are otherwise mapped and cleared anew for every tensor."""
    if not sys.platform.startswith("linux"):
        return False
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - other C libraries lack it
        return all(library.mallopt(name, LARGEST) == 1 for name in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
    return False
