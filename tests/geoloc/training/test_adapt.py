"""Adapting an encoder: what the norms count, what one pair teaches, and that chance has no part in it."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError, ModelError
from geoloc.pairs import Pair, PairTable
from geoloc.score import Asked, score_pairs
from geoloc.spec import EncoderSpec
from geoloc.training.adapt import FEWEST, Region, adapt, laid_together
from geoloc.training.augment import Augmentation, Drawn, draw
from geoloc.training.decoded import Decoded, decode_pairs
from geoloc.training.negatives import tile_lonlats_of

SPARE_M = 0.0


@pytest.fixture(scope="module")
def decoded(places: list[Pair], tiny_spec: EncoderSpec, tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    return decode_pairs(places, tiny_spec, SPARE_M, tmp_path_factory.mktemp("decoded"))


def region_of(decoded: Decoded, places: list[Pair], pairs: int) -> Region:
    """The first places; of the last 16 nobody says which belong together."""
    lonlats = tile_lonlats_of(PairTable("made", "all", places))
    kept = np.r_[:pairs, 32:48]
    turned = np.r_[:pairs, 40:48, 32:40]
    return Region(decoded.canvases[kept], decoded.tiles[turned], lonlats[turned], pairs)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STEPS": 12, "WARM": 2, "RATE": 5e-3, "BATCH": 8, "RIVALS": 8}.items():
        monkeypatch.setattr(f"geoloc.training.adapt.{name}", value)


def norms(encoder: TwinEncoder) -> list[nn.BatchNorm2d]:
    return [one for one in encoder.modules() if isinstance(one, nn.BatchNorm2d)]


def test_the_first_norms_hold_what_the_images_are(
    tiny_encoder: TwinEncoder, decoded: Decoded, tiny_spec: EncoderSpec
) -> None:
    """Tiles of one colour each: what the stem's norm sees is then known without any of the code."""
    grey = np.full_like(decoded.tiles[:40], 200)
    region = Region(decoded.canvases[:0], grey, np.full((40, 2), np.nan))
    old = norms(tiny_encoder.satellite)[0]  # type: ignore[arg-type]
    with torch.no_grad():
        old.running_mean.fill_(7.0)  # type: ignore[union-attr]
    adapted, change = adapt(tiny_encoder, region)
    new = norms(adapted.satellite)[0]  # type: ignore[arg-type]
    counted = (new.running_mean - 7.0 * FEWEST / (40 + FEWEST)) / (40 / (40 + FEWEST))  # type: ignore[operator]
    conv = tiny_encoder.satellite.backbone.conv1[0]  # type: ignore[union-attr, index]
    colour = (200 / 255 - torch.tensor(tiny_spec.mean)) / torch.tensor(tiny_spec.std)
    with torch.no_grad():
        want = conv(colour[None, :, None, None].expand(1, 3, 9, 9))[0, :, 2, 2]  # type: ignore[operator]
    assert torch.allclose(counted, want, atol=0.6)  # tints vary the colour, and the borders see nothing
    assert torch.corrcoef(torch.stack([counted, want]))[0, 1] > 0.9
    assert change.norms == len(norms(tiny_encoder.satellite))  # type: ignore[arg-type]
    for before, after in zip(norms(tiny_encoder.street), norms(adapted.street), strict=True):  # type: ignore[arg-type]
        assert torch.equal(before.running_mean, after.running_mean)  # type: ignore[arg-type]
        assert after.momentum == 0.1
        assert not after.training


def test_weights_stay_without_pairs_and_the_given_encoder_always(
    tiny_encoder: TwinEncoder, decoded: Decoded, places: list[Pair]
) -> None:
    before = {name: value.clone() for name, value in tiny_encoder.state_dict().items()}
    adapted, change = adapt(tiny_encoder, region_of(decoded, places, 0))
    for name, value in tiny_encoder.named_parameters():
        assert torch.equal(value, before[name])
        assert torch.equal(value, dict(adapted.named_parameters())[name])
    assert all(torch.equal(value, before[name]) for name, value in tiny_encoder.state_dict().items())
    assert change.steps == 0
    assert change.loss is None
    assert change.moved > 0


@pytest.mark.parametrize("pairs", [1, 5])
def test_few_pairs_are_learnt_by_the_last_stage_alone(
    tiny_encoder: TwinEncoder, decoded: Decoded, places: list[Pair], pairs: int
) -> None:
    region = region_of(decoded, places, pairs)
    adapted, change = adapt(tiny_encoder, region)
    assert change.loss is not None
    assert change.loss[1] < change.loss[0]
    for name, value in tiny_encoder.named_parameters():
        learns = "layer2" in name or "head" in name
        assert torch.equal(value, dict(adapted.named_parameters())[name]) != learns, name
    again, _ = adapt(tiny_encoder, region)
    for name, value in adapted.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_pair_alone_has_rivals(tiny_encoder: TwinEncoder, decoded: Decoded, places: list[Pair]) -> None:
    """Its own tile at other headings, where the region has nothing else."""
    alone = Region(decoded.canvases[:1], decoded.tiles[:1], np.full((1, 2), np.nan), 1)
    _, change = adapt(tiny_encoder, alone)
    assert change.loss is not None
    assert 0 < change.loss[1] < change.loss[0]


def test_a_tile_is_no_rival_of_its_own_copies(tiny_encoder: TwinEncoder, decoded: Decoded) -> None:
    """Four photos of one tile whose place nobody knows: there is less to learn once they are one place."""
    tiles, nowhere = decoded.tiles[[0, 0, 0, 0]], np.full((4, 2), np.nan)
    losses = []
    for place in (None, np.zeros(4, np.int64)):
        _, change = adapt(tiny_encoder, Region(decoded.canvases[:4], tiles, nowhere, 4, place))
        assert change.loss is not None
        losses.append(change.loss[0])
    assert losses[1] < losses[0] - 0.2


def test_pairs_of_a_region_help_in_it(
    tiny_encoder: TwinEncoder, decoded: Decoded, places: list[Pair], tiny_spec: EncoderSpec
) -> None:
    """Places that were neither matched nor seen are found better."""
    lonlats = tile_lonlats_of(PairTable("made", "all", places))
    region = Region(decoded.canvases[:32], decoded.tiles[:32], lonlats[:32], 32)
    unseen = PairTable("made", "all", places[32:])
    rest = Decoded(decoded.canvases[32:], decoded.tiles[32:])
    ranks = [
        score_pairs(one, unseen, Asked(), rest.tensors(tiny_spec)).values["recall@5"]
        for one in (tiny_encoder, adapt(tiny_encoder, region)[0])
    ]
    assert ranks[1] > ranks[0]


@pytest.mark.parametrize("bins", [1, 8])
def test_a_model_of_one_bin_may_know_north(
    decoded: Decoded, places: list[Pair], tiny_spec: EncoderSpec, monkeypatch: pytest.MonkeyPatch, bins: int
) -> None:
    told: list[Augmentation] = []

    def noted(b: int, spec: EncoderSpec, how: Augmentation, rng: np.random.Generator) -> Drawn:
        told.append(how)
        return draw(b, spec, how, rng)

    monkeypatch.setattr("geoloc.training.adapt.draw", noted)
    adapt(TwinEncoder(dataclasses.replace(tiny_spec, azimuth_bins=bins)), region_of(decoded, places, 4))
    assert {how.turn_deg for how in told} == ({0.0} if bins == 1 else {180.0})
    assert all(how.layouts == (1, 0, 0, 0) for how in told) == (bins == 1)


def test_narrow_views_share_a_canvas() -> None:
    narrow = np.zeros((3, 4, 6, 36), np.uint8)
    for row in range(3):
        narrow[row, :3, :, 15:21] = row + 1
        narrow[row, 3, :, 15:21] = 255
    together = laid_together(narrow)
    assert (together[:, 3] > 0).mean() == 0.5
    for row in range(3):
        assert np.array_equal(together[row, :, :, 15:21], narrow[row, :, :, 15:21])
        assert set(np.unique(together[row, 0])) == {0, 1, 2, 3}


def test_pairs_that_break_it_are_named(
    tiny_encoder: TwinEncoder, decoded: Decoded, places: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and as the table has them."""
    stages = list[str]()
    monkeypatch.setattr("geoloc.training.adapt.heading_infonce", lambda *_: torch.tensor(torch.nan))
    with pytest.raises(DataError, match=r"became nan at step 1; look at these pairs, from 0: 0, 1, 2\."):
        adapt(tiny_encoder, region_of(decoded, places, 3), lambda stage, *_: stages.append(stage))
    assert "pairs" not in stages


def test_what_cannot_be_adapted_is_refused(
    tiny_encoder: TwinEncoder, tiny_spec: EncoderSpec, decoded: Decoded, places: list[Pair]
) -> None:
    nowhere = np.empty((0, 2))
    with pytest.raises(DataError, match="nothing to adapt to"):
        Region(decoded.canvases[:0], decoded.tiles[:0], nowhere)
    with pytest.raises(DataError, match="every pair"):
        Region(decoded.canvases[:1], decoded.tiles[:0], nowhere, 1)
    without = TwinEncoder(dataclasses.replace(tiny_spec, backbone="test_convnext", stage=1))
    with pytest.raises(ModelError, match="no batch norms"):
        adapt(without, region_of(decoded, places, 0))
    assert adapt(without, region_of(decoded, places, 1))[1].norms == 0
    shared = TwinEncoder(dataclasses.replace(tiny_spec, shared=True))
    with pytest.raises(ModelError, match="images of both"):
        adapt(shared, Region(decoded.canvases[:0], decoded.tiles[:4], np.full((4, 2), np.nan)))
    whole = dataclasses.replace(
        tiny_spec, azimuth_bins=1, channels=8, polar=False, head="pooled", street_layout="whole"
    )
    with pytest.raises(ModelError, match="canvas"):
        adapt(TwinEncoder(whole), region_of(decoded, places, 0))
