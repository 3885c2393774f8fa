"""Rows to a segment: embeddings.h5, tiles.parquet and index.faiss, of one order."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from geoloc.spec import EncoderSpec
from indexing.choose import Indexed, index_rows
from indexing.embeddings import Chunk, write_embeddings
from indexing.manifest import EMBEDDINGS, TABLE
from indexing.table import Origins, make_table, write_table
from preprocessing.tiles import Grid

Bounds = tuple[float, float, float, float]


def write_segment(
    folder: Path, spec: EncoderSpec, grid: Grid, tiles: Origins, chunks: Iterable[Chunk], index: str
) -> tuple[Indexed, Bounds]:
    """Write the files of a segment, in a new folder: its index, and its bounds in degrees.

    chunks: the embeddings in the order of the tiles. index: a factory string, or auto.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_embeddings(folder / EMBEDDINGS, spec, len(tiles.ids), chunks)
    table = make_table(grid, tiles)
    write_table(table, folder / TABLE)
    west, south, east, north = table.total_bounds.tolist()
    return index_rows(folder, spec, len(tiles.ids), index), (west, south, east, north)
