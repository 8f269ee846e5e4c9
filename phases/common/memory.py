"""How a training process takes memory from the system."""
from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep what it frees, and take it from there.

    glibc returns large freed blocks to the system, which hands them out again page by page, each filled with zeros. A
    training step needs the same memory as the last one; results/speed.md has what that gains.
    """
    # other systems have other allocators; an older glibc takes no threshold above 32 MB
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and (mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25)):
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
