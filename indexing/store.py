"""Rows to a segment: embeddings.h5, tiles.parquet and index.faiss, of one order."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from geoloc.spec import EncoderSpec
from indexing.blocks import write_blocks
from indexing.choose import Indexed, index_rows
from indexing.embeddings import Chunk, write_embeddings
from indexing.manifest import EMBEDDINGS, INDEX, TABLE
from indexing.table import Origins, write_table
from preprocessing.source import Bounds
from preprocessing.tiles import Grid


def write_segment(
    folder: Path, spec: EncoderSpec, grid: Grid, tiles: Origins, chunks: Iterable[Chunk], index: str
) -> tuple[Indexed, Bounds]:
    """Write the files of a segment, with their hashes, in a new folder: its index, and its bounds in degrees.

    chunks: the embeddings in the order of the tiles. index: a factory string, or auto.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_embeddings(folder / EMBEDDINGS, spec, len(tiles.ids), chunks)
    bounds = write_table(grid, tiles, folder / TABLE)
    indexed = index_rows(folder, spec, len(tiles.ids), index)
    for name in (TABLE, INDEX):
        write_blocks(folder / name)
    return indexed, bounds
