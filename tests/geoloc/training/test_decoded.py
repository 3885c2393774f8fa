import dataclasses
import errno
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset

from geoloc.batches import PairDataset, batches
from geoloc.errors import GeolocError, ImageError
from geoloc.pairs import Pair
from geoloc.spec import INTERPOLATIONS, EncoderSpec
from geoloc.training import decoded
from geoloc.training.decoded import Decoded, decode_pairs, decode_photos, nothing_decoded


@pytest.fixture
def few(places: list[Pair], tmp_path: Path) -> list[Pair]:
    """Three places in files of the test's own."""
    pairs = []
    for pair in places[:3]:
        street, satellite = (tmp_path / path.name for path in (pair.street, pair.satellite))
        street.write_bytes(pair.street.read_bytes())
        satellite.write_bytes(pair.satellite.read_bytes())
        pairs.append(dataclasses.replace(pair, street=street, satellite=satellite))
    return pairs


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """The pairs whose street views were decoded, as they are."""
    seen: list[Pair] = []
    read = decoded.read_pair_street

    def counted(pair: Pair) -> object:
        seen.append(pair)
        return read(pair)

    monkeypatch.setattr(decoded, "read_pair_street", counted)
    return seen


def test_equals_the_images_to_an_8_bit_step(
    places: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path
) -> None:
    """Two batches and a rest of pairs; half a step in 255, by the deviation they are divided by."""
    pairs, done = (places * 3)[:130], list[tuple[int, int]]()
    made = decode_pairs(pairs, tiny_spec, 0.0, tmp_path, report=lambda *now: done.append(now))
    assert done == [(64, 130), (128, 130), (130, 130)]
    assert made.canvases.shape == (130, 4, 48, 128)
    assert made.tiles.shape == (130, 48, 48, 3)
    parts = list(made.tensors(tiny_spec))
    assert [len(street) for street, _ in parts] == [64, 64, 2]
    street, tiles = (torch.cat(views) for views in zip(*parts, strict=True))
    plain, step = PairDataset(pairs, tiny_spec), 0.5 / 255 / min(tiny_spec.std) + 1e-5
    for row in (0, 63, 64, 129):
        want_street, want_tile = plain[row]
        assert (street[row] - want_street).abs().max() <= step
        assert torch.equal(street[row, 3], want_street[3])
        assert (tiles[row] - want_tile).abs().max() <= step


def test_tiles_are_made_smaller_as_the_spec_says(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path
) -> None:
    """To the bit what evaluation sees, by either interpolation."""
    for interpolation in INTERPOLATIONS:
        spec = dataclasses.replace(tiny_spec, interpolation=interpolation, satellite_px=20)
        tiles = next(decode_pairs(few, spec, 0.0, tmp_path).tensors(spec))[1]
        want = torch.stack([PairDataset(few, spec)[row][1] for row in range(3)])
        assert torch.allclose(tiles, want, atol=1e-5), interpolation


def test_tiles_reach_beyond_the_footprint(few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path) -> None:
    """As far as asked where the image does: its pixels are those of the whole image here."""
    spec = dataclasses.replace(tiny_spec, footprint_m=24.0, satellite_px=24)
    whole = np.asarray(Image.open(few[1].satellite))
    for spare_m, left in ((6.0, 6), (12.0, 0), (50.0, 0)):
        tiles = decode_pairs(few, spec, spare_m, tmp_path / "decoded").tiles
        assert (tiles[1] == whole[left : 48 - left, left : 48 - left]).all()


def test_pairs_of_several_footprints_fit_together(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path
) -> None:
    """There is as much to spare as the smallest image has: tables joined may differ."""
    spec = dataclasses.replace(tiny_spec, footprint_m=24.0, satellite_px=24)
    mixed = [few[0], dataclasses.replace(few[1], footprint_m=36.0)]
    assert decode_pairs(mixed, spec, 99.0, tmp_path / "a").tiles.shape == (2, 36, 36, 3)
    unknown = [few[0], dataclasses.replace(few[1], footprint_m=None)]
    assert decode_pairs(unknown, spec, 99.0, tmp_path / "b").tiles.shape == (2, 24, 24, 3)


@settings(deadline=None, max_examples=200)
@given(st.integers(8, 512), st.floats(-90, 89), st.floats(0.5, 180))
def test_taller_canvases_keep_their_rows(h: int, low: float, span: float) -> None:
    """Half as much again each way at most, never past the zenith, rows as high as they were."""
    spec = EncoderSpec("test_resnet", 2, False, 8, 4, (h, 128), (low, min(90.0, low + span)), 48, True, 48)
    taller = decoded.taller(spec)
    rows, (bottom, top) = taller.street_hw[0], taller.street_elevation_deg
    assert h <= rows <= 1.5 * h
    assert (rows - h) % 2 == 0
    assert -90 <= bottom <= spec.street_elevation_deg[0]
    assert spec.street_elevation_deg[1] <= top <= 90
    row_deg = (spec.street_elevation_deg[1] - low) / h
    assert (top - bottom) / rows == pytest.approx(row_deg)


def test_what_is_done_is_not_done_again(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path, reads: list[Pair]
) -> None:
    first = decode_pairs(few, tiny_spec, 0.0, tmp_path / "decoded")
    read = len(reads)
    again = decode_pairs(few, tiny_spec, 0.0, tmp_path / "decoded")
    assert read >= 3
    assert len(reads) == read
    assert isinstance(again, Decoded)
    assert (again.canvases == first.canvases).all()
    assert not again.tiles.flags.writeable


@pytest.mark.parametrize("change", ["file", "heading", "hfov", "footprint", "spec", "fewer"])
def test_whatever_changes_the_bytes_is_decoded_anew(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path, change: str
) -> None:
    before = decode_pairs(few, tiny_spec, 0.0, tmp_path / "decoded")
    pairs, spec = few, tiny_spec
    if change == "file":
        Image.fromarray(np.zeros((32, 128, 3), np.uint8)).save(few[0].street)
        stat = few[0].street.stat()
        os.utime(few[0].street, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    elif change == "heading":
        pairs = [dataclasses.replace(few[0], heading_deg=90.0), *few[1:]]
    elif change == "hfov":
        pairs = [dataclasses.replace(few[0], hfov_deg=180.0), *few[1:]]
    elif change == "footprint":
        pairs = [dataclasses.replace(pair, footprint_m=96.0) for pair in few]
    elif change == "spec":
        spec = dataclasses.replace(tiny_spec, street_elevation_deg=(-30.0, 30.0))
    else:
        pairs = few[:2]
    after = decode_pairs(pairs, spec, 0.0, tmp_path / "decoded")
    assert len(list((tmp_path / "decoded").iterdir())) == 2
    fresh = decode_pairs(pairs, spec, 0.0, tmp_path / "fresh")
    assert np.array_equal(after.canvases, fresh.canvases)
    assert np.array_equal(after.tiles, fresh.tiles)
    if change not in ("spare", "fewer"):
        same = np.array_equal(after.canvases, before.canvases) and np.array_equal(after.tiles, before.tiles)
        assert not same


def test_what_the_encoders_are_changes_nothing(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path
) -> None:
    for changes in ({}, {"weights_sha256": "0" * 64}, {"channels": 48, "backbone": "test_convnext"}):
        spec = dataclasses.replace(tiny_spec, **changes)  # type: ignore[arg-type]
        decode_pairs(few, spec, 0.0, tmp_path / "decoded")
    assert len(list((tmp_path / "decoded").iterdir())) == 1


def test_what_was_left_unfinished_is_begun_anew(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "decoded"

    def stopped(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_pairs(few, tiny_spec, 0.0, folder, report=stopped)
    assert not list(folder.iterdir())
    whole = decode_pairs(few, tiny_spec, 0.0, tmp_path / "whole")
    (key,) = (path.name for path in (tmp_path / "whole").iterdir())
    for left in (f"{key}.part", "of-another-spec.part"):  # by a process that was killed
        (folder / left).mkdir()
        (folder / left / "canvases.npy").write_bytes(b"half a file")
    made = decode_pairs(few, tiny_spec, 0.0, folder)
    assert [path.name for path in folder.iterdir()] == [key]
    assert sorted(path.name for path in (folder / key).iterdir()) == ["canvases.npy", "tiles.npy"]
    assert np.array_equal(made.canvases, whole.canvases)
    assert np.array_equal(made.canvases, decode_pairs(few, tiny_spec, 0.0, tmp_path / "fresh").canvases)


@pytest.mark.parametrize("damage", ["garbage", "short", "other", "gone"])
def test_what_is_damaged_is_decoded_anew(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path, damage: str
) -> None:
    fresh = np.array(decode_pairs(few, tiny_spec, 0.0, tmp_path).tiles)
    (kept,) = tmp_path.glob("*/tiles.npy")
    if damage == "garbage":
        kept.write_bytes(b"garbage")
    elif damage == "short":
        os.truncate(kept, kept.stat().st_size // 2)
    elif damage == "other":
        np.save(kept, fresh[:2])
    else:
        kept.unlink()
    assert np.array_equal(decode_pairs(few, tiny_spec, 0.0, tmp_path).tiles, fresh)
    assert len(list(tmp_path.glob("*/*.npy"))) == 2


class Deadly(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Its third image ends the process that decodes it, as the system does for want of memory."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1), torch.zeros(1)


def test_a_decoder_that_is_killed_is_named() -> None:
    with pytest.raises(GeolocError, match=r"decodes images was ended from outside.*workers=0"):
        list(batches(Deadly(), [range(2), range(2, 4)], 1))


class Told(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Its images say what the process that decodes them does when Ctrl-C is pressed."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        return torch.tensor([ignored]), torch.zeros(1)


def test_ctrl_c_is_heard_by_the_first_process_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    ((ignored, _),) = batches(Told(), [range(2)], 1)
    assert ignored.all() and signal.getsignal(signal.SIGINT) == before


def test_of_two_at_once_one_decodes(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path, reads: list[Pair]
) -> None:
    """The other waits in its thread, with a lock of its own as a process has, and takes what is there."""
    folder = tmp_path / "decoded"
    decode_pairs(few, tiny_spec, 0.0, tmp_path / "alone")
    once = len(reads)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: decode_pairs(few, tiny_spec, 0.0, folder), range(2)))
    assert len(reads) == 2 * once
    assert np.array_equal(made[0].tiles, made[1].tiles)


def test_a_full_disk_is_an_error_at_once(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is decoded, and not as a crash of the memory map later."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decoded, "_new", full)
    with pytest.raises(GeolocError, match="disk is full"):
        decode_pairs(few, tiny_spec, 0.0, tmp_path / "decoded")
    assert not [path for path in (tmp_path / "decoded").iterdir() if path.suffix != ".part"]


def test_room_is_taken_when_a_file_is_made(tmp_path: Path) -> None:
    array = decoded._new(tmp_path / "x.npy", (3, 1_000_003))
    assert (tmp_path / "x.npy").stat().st_blocks * 512 >= 3_000_009
    assert array.shape == (3, 1_000_003)
    array[1, 5] = 7
    array.flush()
    assert np.load(tmp_path / "x.npy").sum() == 7


def test_a_folder_that_cannot_be_written_is_named(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GeolocError, match="file cannot be written"):
        decode_pairs(few, tiny_spec, 0.0, tmp_path / "file")


@pytest.mark.parametrize("view", ["street", "satellite"])
@pytest.mark.parametrize("number", [0, 2])
def test_a_broken_image_is_named_and_nothing_is_kept(
    few: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path, view: str, number: int
) -> None:
    broken: Path = getattr(few[number], view)
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=broken.name):
        decode_pairs(few, tiny_spec, 0.0, tmp_path / "decoded")
    assert not [path for path in tmp_path.glob("decoded/*") if path.suffix != ".part"]


def test_photos_are_the_canvases_of_pairs(places: list[Pair], tiny_spec: EncoderSpec, tmp_path: Path) -> None:
    """Of 4:1, and without a word in the file: panoramas that look north, as the pairs say."""
    photos = decode_photos([pair.street for pair in places[:3]], tiny_spec)
    paired = decode_pairs(places[:3], tiny_spec, 0.0, tmp_path)
    assert np.array_equal(photos, paired.canvases)
    nothing = nothing_decoded(tiny_spec, 0.0)
    assert nothing.canvases.shape[1:] == photos.shape[1:]
    assert nothing.tiles.shape[1:] == paired.tiles.shape[1:]
