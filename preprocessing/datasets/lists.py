"""The text lists that datasets come with."""

from pathlib import Path

from geoloc.errors import DataError

MAX_BYTES = 256 * 2**20


def read_list(path: Path, remedy: str) -> str:
    """The text of a list in UTF-8, with or without a byte order mark. Raises DataError, ending in remedy."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is no list of at most {MAX_BYTES >> 20} MiB; {remedy}.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise DataError(f"{path} cannot be read; {remedy}.") from cause
    if not text.strip():
        raise DataError(f"{path} is empty; {remedy}.")
    return text
