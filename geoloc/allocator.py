"""Memory that one batch after another needs is kept, not given back to the kernel in between."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names for them
KEPT_BYTES, LARGEST_BYTES = 64 << 20, 32 << 20


def hold_memory() -> bool:
    """Have glibc keep freed blocks of up to LARGEST_BYTES for the next who asks; False where there is none.

    Else it maps every tensor anew, and the kernel zeroes it page by page: a megabyte for each tile of the
    shipped model, a third of its forward pass on a processor.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_BYTES) and mallopt(TRIM_THRESHOLD, KEPT_BYTES))
