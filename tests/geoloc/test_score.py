import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError, ModelError
from geoloc.lineup import line_up
from geoloc.pairs import Pair, PairTable, read_pair_tile
from geoloc.score import (
    Asked,
    directions_deg,
    embed_lineup,
    evaluate_table,
    headings_deg,
    narrowed,
    score_pairs,
)
from geoloc.spec import EncoderSpec
from geoloc.street_view import read_rgb


def scored(encoder: TwinEncoder, pairs: list[Pair], *asked: Asked, **how: object) -> list[dict[str, float]]:
    evaluation = evaluate_table(encoder, PairTable("made", "val", pairs), asked or [Asked()], **how)
    return [one.figures.values for one in evaluation.scored]


def constant(encoder: TwinEncoder) -> TwinEncoder:
    """It says the same of every image."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
        for view in (encoder.street, encoder.satellite):
            view.head.bias.fill_(1.0)
    return encoder


def test_a_constant_encoder_finds_nothing(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    """Ties count against us: the embedding that fools the peers' formula scores 0."""
    (scores,) = scored(constant(tiny_encoder), places)
    assert scores["recall@1"] == scores["recall@10"] == 0
    assert scores["median_rank"] == 48


def test_a_model_that_makes_no_numbers_is_refused(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    with torch.no_grad():
        tiny_encoder.satellite.head.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        scored(tiny_encoder, places[:3])


def test_figures_where_positions_are_known(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    seen: list[tuple[int, int]] = []
    report = lambda done, total: seen.append((done, total))  # noqa: E731
    (scores,) = scored(tiny_encoder, places, Asked(120, True), report=report)
    assert seen == [(48, 96), (96, 96)]
    assert scores["n"] == scores["gallery"] == 48
    assert 0 <= scores["recall@1<25m"] <= scores["recall@1<50m"] <= 1
    assert 0 <= scores["median_heading_error_deg"] <= 180
    assert 0 <= scores["heading<5deg"] <= 1


def test_no_metres_without_positions(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    bare = [Pair(pair.street, pair.satellite, 0.0, 360.0) for pair in places[:4]]
    (scores,) = scored(tiny_encoder, bare)
    assert "median_error_m" not in scores


def test_an_image_listed_twice_is_one(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    shared = [dataclasses.replace(pair, satellite=places[0].satellite) for pair in places[:3]]
    (scores,) = scored(tiny_encoder, [*shared, *places[3:6], *places[3:6]])
    assert (scores["n"], scores["gallery"]) == (6, 4)


class Seer(TwinEncoder):
    """An encoder that reads the azimuth bins off its images: colours of the canvas's or the tile's bins.

    Both views hold the same numbers here: the tile is a stack of rows as wide as the canvas.
    """

    def embed_street(self, canvas: torch.Tensor) -> torch.Tensor:
        bins = torch.nn.functional.adaptive_avg_pool2d(canvas[:, :3], (1, self.spec.azimuth_bins))[:, :, 0]
        return torch.nn.functional.normalize(bins.transpose(1, 2).flatten(1), dim=1)

    embed_satellite = embed_street


def seen_pairs(spec: EncoderSpec, n: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Smooth noise around each place, as the canvas and as the tile."""
    phase = torch.arange(spec.street_hw[1]) / spec.street_hw[1] * 2 * torch.pi
    generator = torch.Generator().manual_seed(0)
    waves = torch.stack([f(phase * k) for k in range(1, 7) for f in (torch.sin, torch.cos)])
    rings = torch.randn(n, 3, 12, generator=generator) @ waves
    canvas = torch.cat([rings, torch.ones(n, 1, len(phase))], 1)[:, :, None].expand(
        -1, -1, spec.street_hw[0], -1
    )
    return [(canvas[start : start + 7], canvas[start : start + 7, :3]) for start in range(0, n, 7)]


def test_every_way_of_asking_is_scored_in_its_order(tiny_spec: EncoderSpec, places: list[Pair]) -> None:
    """An encoder that sees all finds place and heading, asked any way; at a wrong heading it does not."""
    spec = dataclasses.replace(tiny_spec, azimuth_bins=32, channels=3, street_hw=(32, 256))
    table = PairTable("made", "val", places[:28])
    asked = [Asked(), Asked(unknown_heading=True), Asked(120), Asked(120, True)]
    whole, turned, cut, cut_turned = (
        score_pairs(Seer(spec), table, one, seen_pairs(spec, 28)).values for one in asked
    )
    assert whole["recall@1"] == turned["recall@1"] == cut["recall@1"] == 1
    assert cut_turned["recall@1"] > 0.8
    assert whole["median_error_m"] == turned["median_error_m"] == 0
    assert "heading<5deg" not in whole | cut
    assert turned["heading<5deg"] == 1
    assert turned["median_heading_error_deg"] < 0.2  # turned by whole columns, of 1.4 degrees
    assert cut_turned["heading<5deg"] > 0.9
    told_wrong = [(torch.roll(canvas, 64, dims=3), tile) for canvas, tile in seen_pairs(spec, 28)]
    assert score_pairs(Seer(spec), table, Asked(), told_wrong).values["recall@1"] < 0.5


def test_windows_do_not_depend_on_how_else_is_asked(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    (alone,) = scored(tiny_encoder, places[:9], Asked(90, True))
    assert scored(tiny_encoder, places[:9], Asked(), Asked(180), Asked(90, True))[2] == alone


def test_metres_are_of_tables_whose_places_are_all_known(
    tiny_encoder: TwinEncoder, places: list[Pair]
) -> None:
    """Whatever is found first: a tile whose place is not known may be found in another way of asking."""
    lost = [*places[:8], dataclasses.replace(places[8], tile_lonlat=None)]
    for scores in scored(tiny_encoder, lost, Asked(), Asked(90), Asked(90, True), Asked(20, True)):
        assert "median_error_m" not in scores


def test_headings_are_of_what_is_found(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    (scores,) = scored(constant(tiny_encoder), places, Asked(360, True))
    assert scores["recall@1"] == 0 and "heading<5deg" not in scores


def test_pooled_models_have_no_heading(tiny_spec: EncoderSpec, places: list[Pair]) -> None:
    spec = dataclasses.replace(tiny_spec, polar=False, azimuth_bins=1)
    (scores,) = scored(TwinEncoder(spec).eval(), places[:4], Asked(90, True))
    assert "heading<5deg" not in scores


def test_headings_are_the_turns_of_the_views() -> None:
    """Between bins too: rings of slow waves, sampled 32 times, each turned by a known angle."""
    rng = np.random.default_rng(0)
    turn_deg = rng.uniform(0, 360, 20)
    azimuth = np.arange(32) / 32 * 2 * np.pi
    phase = rng.uniform(0, 2 * np.pi, (20, 1, 6))
    wave = np.arange(1, 7)

    def ring(turned: np.ndarray) -> np.ndarray:
        at = azimuth[None, :, None] + np.radians(turned)[:, None, None]
        return np.cos(wave * at + phase).reshape(20, -1).astype(np.float32)

    found = headings_deg(ring(turn_deg), ring(np.zeros(20)), 32)
    assert np.abs((found - turn_deg + 180) % 360 - 180).max() < 0.5


def test_photos_are_cut_around_their_own_middle(tiny_encoder: TwinEncoder, places: list[Pair]) -> None:
    """A window as wide as the photo is the photo; panoramas are cut around any azimuth."""
    photos = [
        dataclasses.replace(pair, hfov_deg=90.0, heading_deg=float(40 * number))
        for number, pair in enumerate(places[:9])
    ]
    lineup = line_up(PairTable("made", "val", photos))
    np.testing.assert_array_equal(directions_deg(lineup), 40.0 * np.arange(9))
    embedded = embed_lineup(tiny_encoder, lineup, [Asked(), Asked(100)])
    np.testing.assert_allclose(embedded.queries[0], embedded.queries[1], atol=1e-5)
    assert len(set(directions_deg(line_up(PairTable("made", "val", places[:9]))))) == 9


@settings(deadline=None, max_examples=50)
@given(st.floats(10, 359), st.floats(-360, 720))
def test_narrowed_keeps_the_window(hfov_deg: float, centre_deg: float) -> None:
    spec = EncoderSpec("test_resnet", 2, False, 8, 4, (8, 360), (-45, 45), 48, True, 48)
    kept = narrowed(torch.ones(4, 8, 360), spec, hfov_deg, centre_deg).numpy()
    azimuth = np.arange(360) + 0.5 - 180
    beyond = np.abs((azimuth - centre_deg + 180) % 360 - 180) - hfov_deg / 2
    clear = np.abs(beyond) > 1e-6
    assert (kept == (beyond <= 0))[..., clear].all()


def test_tile_is_cropped_with_what_is_to_spare(places: list[Pair]) -> None:
    whole = read_rgb(places[0].satellite)
    assert (read_pair_tile(places[0], 24.0) == whole[12:36, 12:36]).all()
    assert (read_pair_tile(places[0], 24.0, 6.0) == whole[6:42, 6:42]).all()
    assert (read_pair_tile(places[0], 24.0, 99.0) == whole).all()
    unknown = dataclasses.replace(places[0], footprint_m=None)
    assert (read_pair_tile(unknown, 24.0, 6.0) == whole).all()
    with pytest.raises(DataError, match="covers 48 m"):
        read_pair_tile(places[0], 64.0)
