"""Images without labels: imagery cut on a grid, folders of files, the train split of towns."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_imagery import LEFT, TOP, noise, write

from geoloc.errors import DataError, ImageError, ImageryError
from geoloc.spec import EncoderSpec
from geoloc.training.unlabelled import Unlabelled, square_px
from preprocessing.towns.table import write_table
from preprocessing.unlabelled import open_unlabelled


def read(images: Unlabelled) -> np.ndarray:
    return np.concatenate(list(images.read()))


def row(number: int, split: str, ortho: str = "ortho.tif") -> dict[str, object]:
    return {
        "id": number, "town_seed": number, "split": split, "street": f"{number}.jpg", "ortho": ortho,
        "lon": 9.0, "lat": 47.0, "heading_deg": 90.0, "hfov_deg": 360.0,
    }  # fmt: skip


def test_imagery_is_cut_where_its_grid_says(tiny_spec: EncoderSpec, tmp_path: Path) -> None:
    """At 1 m a pixel and 48 px for 48 m a square is 72 of the imagery's own pixels, every 24."""
    pixels = noise(200, 200)
    write(tmp_path / "a.tif", pixels)
    found = open_unlabelled(str(tmp_path), "satellite", tiny_spec)
    squares, side = read(found), square_px(tiny_spec)
    assert side == 72 and squares.shape[1:] == (side, side, 3)
    assert found.planned >= len(squares) >= 25
    xs, ys = (range(int(-edge % 24), 200 - side + 1, 24) for edge in (LEFT, side - TOP))
    for x in xs:
        for y in ys:
            want = pixels[:, y : y + side, x : x + side].transpose(1, 2, 0).astype(int)
            assert np.abs(squares - want).max(axis=(1, 2, 3)).min() <= 1, (x, y)
    assert len(read(open_unlabelled(str(tmp_path), "satellite", tiny_spec, 12.0))) > 3 * len(squares)
    with pytest.raises(ImageryError, match="stride of 0 m"):
        open_unlabelled(str(tmp_path), "satellite", tiny_spec, 0.0)
    with pytest.raises(ImageryError, match="no file or folder"):
        open_unlabelled(str(tmp_path / "none"), "satellite", tiny_spec)


def test_files_are_tiles_taken_whole(tiny_spec: EncoderSpec, tmp_path: Path) -> None:
    """Continued past their edges by their mirror image."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    (tmp_path / "deep").mkdir()
    Image.fromarray(pixels).save(tmp_path / "deep" / "b.png")
    Image.fromarray(pixels[::-1]).save(tmp_path / "a.PNG")
    squares = read(open_unlabelled(str(tmp_path), "satellite", tiny_spec))
    assert (squares[:, 12:60, 12:60] == np.stack([pixels[::-1], pixels])).all()
    assert (squares[1, 12:60, :12] == pixels[:, 12:0:-1]).all()
    (tmp_path / "c.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"c\.jpg"):
        read(open_unlabelled(str(tmp_path), "satellite", tiny_spec))


def test_towns_give_their_train_split(tiny_spec: EncoderSpec, tmp_path: Path) -> None:
    write(tmp_path / "ortho.tif", noise(120, 120))
    for number in range(3):
        Image.fromarray(np.full((32, 128, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.jpg")
    write_table(tmp_path / "street_views.parquet", [row(0, "train"), row(1, "val"), row(2, "train")])
    street = open_unlabelled(str(tmp_path), "street", tiny_spec)
    canvases = read(street)
    assert street.planned == len(canvases) == 2 and street.seeds == {0, 2}
    assert canvases[:, :3].max() <= 122 and canvases[1, :3].max() >= 118
    ortho = open_unlabelled(str(tmp_path), "satellite", tiny_spec)
    assert ortho.seeds == {0, 2} and len(read(ortho)) >= 4
    write_table(tmp_path / "street_views.parquet", [row(0, "train", "../elsewhere.tif")])
    with pytest.raises(DataError, match="no town has"):
        open_unlabelled(str(tmp_path), "satellite", tiny_spec)


def test_a_folder_without_photos(tiny_spec: EncoderSpec, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder of photos"):
        open_unlabelled(str(tmp_path), "street", tiny_spec)
    with pytest.raises(ImageryError, match="holds no"):
        open_unlabelled(str(tmp_path), "satellite", tiny_spec)
