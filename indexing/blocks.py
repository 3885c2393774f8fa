"""Files proved piece by piece: hashed in blocks, so that what is read is checked when it is read.

Of ten million tiles the table is 1.35 GB, and a query reads some hundred kB of it. Parquet's own checksums
are of its pages alone: a flipped byte in its footer moves a column or a bound, and nothing tells. So beside
the file lie the SHA-256 of its blocks, themselves hashed in the manifest: the chain holds to the last byte.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from geoloc.errors import GalleryError
from preprocessing.seekable import Seekable

SUFFIX = ".blocks"
"""What the file of a file's hashes is called beyond that file's own name."""

BLOCK = 1 << 16
_HASH = 32


def write_blocks(path: Path) -> None:
    """Write the hash of every block of a finished file beside it."""
    with path.open("rb") as file, _hashes(path).open("wb") as hashes:
        while block := file.read(BLOCK):
            hashes.write(hashlib.sha256(block).digest())


def has_blocks(path: Path) -> bool:
    """Whether a file's hashes lie beside it; those of older galleries are hashed whole instead."""
    return _hashes(path).is_file()


def check_span(path: Path, start: int, stop: int) -> None:
    """Raise GalleryError where a file is damaged from one byte to another."""
    with CheckedFile(path) as file:
        file.seek(start)
        piece = bytearray(BLOCK)
        while file.tell() < stop and file.readinto(piece):
            pass


class CheckedFile(Seekable):
    """A file that gives no byte of a block that is not the one that was published.

    Raises GalleryError for a block that is damaged, or gone.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path.stat().st_size)
        self._path = path
        self._hashes = _hashes(path).read_bytes()
        self._file = path.open("rb", buffering=0)

    def close(self) -> None:
        """Let the file go."""
        if not self.closed:
            self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; fewer at the end of the file."""
        wanted = memoryview(buffer).cast("B")
        start, stop = self._at, min(self._size, self._at + len(wanted))
        while self._at < stop:
            number, skipped = divmod(self._at, BLOCK)
            piece = memoryview(self._block(number))[skipped : skipped + stop - self._at]
            wanted[self._at - start : self._at - start + len(piece)] = piece
            self._at += len(piece)
        return self._at - start

    def _block(self, number: int) -> bytes:
        block = os.pread(self._file.fileno(), BLOCK, number * BLOCK)
        if hashlib.sha256(block).digest() != self._hashes[number * _HASH : (number + 1) * _HASH]:
            raise GalleryError(
                f"{self._path} is damaged: its bytes are not those published; "
                "take the gallery again from its source or build it again."
            )
        return block


def _hashes(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)
