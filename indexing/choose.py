"""Which index suits how many tiles."""

FLAT_BELOW = 20_000
"""Fewer rows than this are searched exactly."""

_MOST_BYTES = 2 << 30
_ID_BYTES = 8


def choose_factory(rows: int) -> tuple[str, str]:
    """The index for so many rows, and why: exact for few, else the longest codes that fit in 2 GiB."""
    if rows < FLAT_BELOW:
        return "Flat", f"{rows:,} tiles are few enough to be searched exactly"
    sizes = [size for size in (64, 32, 16) if rows * (size + _ID_BYTES) <= _MOST_BYTES] or [8]
    taken = rows * (sizes[0] + _ID_BYTES) / 2**20
    return f"Scan{sizes[0]}", f"{rows:,} tiles take {taken:,.0f} MiB of memory at {sizes[0]} bytes each"
