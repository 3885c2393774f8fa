"""What is read of a file with its blocks' hashes is what was written, or an error."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geoloc.errors import GalleryError
from indexing.blocks import BLOCK, CheckedFile, check_span, has_blocks, write_blocks

SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77]


def made(folder, size):
    content = np.random.default_rng(size).bytes(size)
    (folder / "f").write_bytes(content)
    write_blocks(folder / "f")
    return folder / "f", content


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("size", SIZES)
def test_any_part_is_what_a_plain_file_gives(tmp_path, size):
    path, content = made(tmp_path, size)
    rng, plain = np.random.default_rng(0), io.BytesIO(content)
    assert has_blocks(path)
    with CheckedFile(path) as file:
        assert file.read() == content
        for start, length in rng.integers(0, size + 9, (30, 2)).tolist():
            assert file.seek(start) == plain.seek(start)
            assert file.read(length) == plain.read(length) and file.tell() == plain.tell()
        assert file.seek(0, io.SEEK_END) == size and file.read(5) == b""


def test_a_damaged_block_is_refused_and_the_others_are_read(tmp_path):
    path, content = made(tmp_path, 3 * BLOCK + 77)
    flip(path, BLOCK + 5)
    with CheckedFile(path) as file:
        assert file.read(BLOCK) == content[:BLOCK]
        with pytest.raises(GalleryError, match="is damaged"):
            file.read(1)
        file.seek(2 * BLOCK)
        assert file.read() == content[2 * BLOCK :]
    check_span(path, 0, BLOCK)
    check_span(path, 2 * BLOCK, len(content))
    with pytest.raises(GalleryError, match="is damaged"):
        check_span(path, BLOCK, 2 * BLOCK)


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c[:BLOCK], lambda c: c + b"x" * BLOCK])
def test_a_file_of_another_length_is_refused(tmp_path, change):
    path, content = made(tmp_path, 2 * BLOCK)
    with CheckedFile(path) as before:
        path.write_bytes(change(content))
        with pytest.raises(GalleryError):
            before.read()
            CheckedFile(path).read()
            check_span(path, 0, 2 * BLOCK)


def test_no_flipped_byte_of_a_table_gives_another_table(tmp_path):
    """Of pyarrow's own page checksums this is not true: they leave out the footer."""
    table = pa.table({"id": np.arange(40), "lon": np.linspace(24, 25, 40), "source": ["a.tif", "b.tif"] * 20})
    pq.write_table(table, tmp_path / "f", row_group_size=20)
    write_blocks(tmp_path / "f")
    for at in range((tmp_path / "f").stat().st_size):
        flip(tmp_path / "f", at)
        with pytest.raises(GalleryError, match="is damaged"), CheckedFile(tmp_path / "f") as file:
            pq.ParquetFile(file).read()
        flip(tmp_path / "f", at)
    with CheckedFile(tmp_path / "f") as file:
        assert pq.ParquetFile(file).read().equals(table)
