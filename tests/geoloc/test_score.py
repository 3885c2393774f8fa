import numpy as np
import pytest
import torch

from geoloc.batches import Augmentation, PairDataset, augmented, narrowed
from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError, ModelError
from geoloc.pairs import Pair, PairTable, read_pair_tile
from geoloc.score import score_pairs
from geoloc.street_view import read_rgb


def test_a_constant_encoder_finds_nothing(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    """Ties count against us: the embedding that fools the peers' formula scores 0."""
    with torch.no_grad():
        for parameter in tiny_encoder.parameters():
            parameter.zero_()
        for encoder in (tiny_encoder.street, tiny_encoder.satellite):
            encoder.head.bias.fill_(1.0)
    scores = score_pairs(tiny_encoder, PairTable("made", "val", places))
    assert scores["recall@1"] == scores["recall@10"] == 0
    assert scores["median_rank"] == 48


def test_a_model_that_makes_no_numbers_is_refused(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    with torch.no_grad():
        tiny_encoder.satellite.head.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        score_pairs(tiny_encoder, PairTable("made", "val", places[:3]))


def test_figures_where_positions_are_known(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    seen: list[tuple[int, int]] = []
    scores = score_pairs(
        tiny_encoder, PairTable("made", "val", places), unknown_heading=True, hfov_deg=120,
        report=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(48, 48)]
    assert scores["n"] == scores["gallery"] == 48
    assert 0 <= scores["recall@1<25m"] <= scores["recall@1<50m"] <= 1
    assert 0 <= scores["median_heading_error_deg"] <= 180


def test_no_metres_without_positions(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    bare = [Pair(pair.street, pair.satellite, 0.0, 360.0) for pair in places[:4]]
    assert "median_error_m" not in score_pairs(tiny_encoder, PairTable("made", "val", bare))


def test_a_tile_listed_twice_is_one_gallery_item(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    scores = score_pairs(tiny_encoder, PairTable("made", "val", [*places[:6], *places[:6]]))
    assert (scores["n"], scores["gallery"]) == (12, 6)


def test_narrowed_keeps_the_window() -> None:
    canvas = torch.ones(4, 8, 360)
    seen = narrowed(canvas, 90, 170)[3, 0]
    azimuth = np.arange(360) + 0.5 - 180
    assert (seen.numpy() == (np.abs((azimuth - 170 + 180) % 360 - 180) <= 45)).all()


def test_tile_is_cropped_about_a_moved_centre(places: list[Pair], tiny_encoder: TwinEncoder) -> None:
    import dataclasses

    whole = read_rgb(places[0].satellite)
    spec = dataclasses.replace(tiny_encoder.spec, footprint_m=24.0)
    assert (read_pair_tile(places[0], spec) == whole[12:36, 12:36]).all()
    assert (read_pair_tile(places[0], spec, (5.0, 3.0)) == whole[9:33, 17:41]).all()
    assert (read_pair_tile(places[0], spec, (99.0, -99.0)) == whole[24:48, 24:48]).all()
    with pytest.raises(DataError, match="covers 48 m"):
        read_pair_tile(places[0], dataclasses.replace(spec, footprint_m=64.0))


def test_augmentation_is_a_function_of_the_seed(places: list[Pair], tiny_encoder: TwinEncoder) -> None:
    how = Augmentation(shift_m=4.0, heading_noise_deg=3.0, narrow=0.5, colour=0.3)
    spec = tiny_encoder.spec
    first, again = (augmented(places[0], spec, how, np.random.default_rng(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    dataset = PairDataset(places, spec, how, seed=1)
    other = PairDataset(places, spec, how, seed=2)
    assert torch.equal(dataset[0][0], dataset[0][0])
    assert not torch.equal(dataset[0][0], other[0][0])
    plain = PairDataset(places, spec)
    assert torch.equal(augmented(places[0], spec, Augmentation(), np.random.default_rng(0))[0], plain[0][0])
