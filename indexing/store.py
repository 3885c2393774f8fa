"""Rows to a segment: embeddings.h5, tiles.parquet and index.faiss, of one order."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss

from geoloc.spec import EncoderSpec
from indexing.choose import choose_factory
from indexing.embeddings import Chunk, write_embeddings
from indexing.faiss_index import fill_index
from indexing.manifest import EMBEDDINGS, INDEX, TABLE
from indexing.table import Origins, make_table
from preprocessing.tiles import Grid

Bounds = tuple[float, float, float, float]


def write_segment(
    folder: Path,
    spec: EncoderSpec,
    grid: Grid,
    tiles: Origins,
    chunks: Callable[[], Iterator[Chunk]],
    index: str,
) -> tuple[str, Bounds]:
    """Write the files of a segment, in a new folder: its factory string, and its bounds in degrees.

    chunks: the embeddings in the order of the tiles, from the start at each call. index: a FAISS factory
    string, or auto.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = len(tiles.ids)
    write_embeddings(folder / EMBEDDINGS, spec, rows, chunks())
    table = make_table(grid, tiles)
    table.to_parquet(folder / TABLE, index=False)
    factory = choose_factory(rows)[0] if index == "auto" else index
    filled = fill_index(factory, spec.dim, rows, lambda: (embeddings for _, embeddings in chunks()))
    faiss.write_index(filled, str(folder / INDEX))
    west, south, east, north = table.total_bounds.tolist()
    return factory, (west, south, east, north)
