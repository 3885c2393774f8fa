from pathlib import Path

import numpy as np
import pytest
import torch

from geoloc.embed import BATCH, Throughput, batch_size, compute_dtype, embed_pairs, embed_views
from geoloc.encoder import TwinEncoder
from geoloc.errors import ImageError, ModelError
from geoloc.lineup import View, line_up
from geoloc.pairs import Pair, PairTable, read_pair_street, read_pair_tile
from geoloc.tensors import street_tensor, tile_tensor


@pytest.fixture
def lineup(places: list[Pair]):
    return line_up(PairTable("made", "val", places))


def one_by_one(encoder: TwinEncoder, pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    spec = encoder.spec
    with torch.no_grad():
        streets = [encoder.embed_street(street_tensor(read_pair_street(p), spec)[None])[0] for p in pairs]
        tiles = [encoder.embed_satellite(tile_tensor(read_pair_tile(p, 48.0), spec)[None])[0] for p in pairs]
    return torch.stack(streets).numpy(), torch.stack(tiles).numpy()


def test_views_come_in_order_whatever_the_threads(tiny_encoder: TwinEncoder, places, lineup) -> None:
    """More than three batches, so that reading ahead turns around."""
    views = [lineup.queries[row % 48] for row in range(3 * BATCH + 5)]
    seen: list[tuple[int, int]] = []
    (found,), took = embed_views(
        tiny_encoder, views, "street", report=lambda done, total: seen.append((done, total))
    )
    streets, tiles = one_by_one(tiny_encoder, places)
    np.testing.assert_allclose(found, streets[np.arange(len(views)) % 48], atol=1e-5)
    assert seen == [(BATCH, 197), (2 * BATCH, 197), (3 * BATCH, 197), (197, 197)]
    assert took.images == 197 and took.wall_s >= took.forward_s > 0 and took.decode_s > 0
    (found,), _ = embed_views(tiny_encoder, lineup.gallery, "satellite")
    np.testing.assert_allclose(found, tiles, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_embeddings_do_not_depend_on_their_batch(
    tiny_encoder: TwinEncoder, lineup, monkeypatch, precision
) -> None:
    whole, small = [], []
    for found, most in ((whole, 48), (small, 5)):
        monkeypatch.setattr("geoloc.embed.batch_size", lambda *_, most=most: most)
        found += embed_views(tiny_encoder, lineup.queries, "street", precision=precision)[0]
    np.testing.assert_allclose(whole[0], small[0], atol=1e-6)


def test_batches_hold_fewer_of_larger_images_on_a_cpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [batch_size((side, side), cpu) for side in (64, 192, 384, 4096)] == [BATCH, BATCH, 16, 1]
    assert batch_size((384, 384), gpu) == BATCH


def test_every_change_sees_its_row(tiny_encoder: TwinEncoder, lineup) -> None:
    def blank_odd(row: int, canvas: torch.Tensor) -> torch.Tensor:
        return canvas * (row % 2 == 0)

    plain, blanked = embed_views(
        tiny_encoder, lineup.queries, "street", changes=[lambda _, canvas: canvas, blank_odd]
    )[0]
    np.testing.assert_array_equal(plain[::2], blanked[::2])
    assert not blanked[1::2].any() and plain[1::2].any(axis=1).all()


def test_pairs_at_hand_embed_as_their_files_do(tiny_encoder: TwinEncoder, places) -> None:
    spec = tiny_encoder.spec
    loaded = [
        (torch.stack([street_tensor(read_pair_street(p), spec) for p in some]),
         torch.stack([tile_tensor(read_pair_tile(p, 48.0), spec) for p in some]))
        for some in (places[:7], places[7:12])
    ]  # fmt: skip
    for ours, theirs in zip(
        embed_pairs(tiny_encoder, loaded), one_by_one(tiny_encoder, places[:12]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_bfloat16_stays_near(tiny_encoder: TwinEncoder, lineup) -> None:
    exact, quick = (
        embed_views(tiny_encoder, lineup.queries, "street", precision=precision)[0][0]
        for precision in ("float32", "bfloat16")
    )
    assert (1 - (exact * quick).sum(axis=1)).max() < 0.01
    assert (exact != quick).any()
    assert compute_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
    assert compute_dtype("float16", torch.device("cpu")) == torch.float16


def test_a_broken_image_is_named(tiny_encoder: TwinEncoder, lineup, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    views = [*lineup.queries, View(tmp_path / "broken.png", hfov_deg=360.0)]
    with pytest.raises(ImageError, match=r"broken\.png"):
        embed_views(tiny_encoder, views, "street")


def test_a_model_that_makes_no_numbers(tiny_encoder: TwinEncoder, lineup) -> None:
    with torch.no_grad():
        tiny_encoder.street.head.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        embed_views(tiny_encoder, lineup.queries, "street")


def test_throughputs_add() -> None:
    assert Throughput(2, 1.0, 0.5, 0.25, 0.5) + Throughput(3, 2.0, 0.5, 0.25, 1.5) == Throughput(
        5, 3.0, 1.0, 0.5, 2.0
    )
