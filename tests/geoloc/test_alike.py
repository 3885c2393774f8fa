import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoloc.alike import WINDOW, alike, near
from geoloc.encoder import TwinEncoder
from geoloc.places import WGS84


@pytest.fixture
def loaded() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(3)
    seen = torch.ones(6, 1, 32, 128)
    return [(torch.cat([torch.rand(6, 3, 32, 128), seen], 1), torch.rand(6, 3, 48, 48)) for _ in range(2)]


def test_finds_what_a_naive_search_finds(
    tiny_encoder: TwinEncoder, loaded: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """Every window against every window of every tile, one by one, in float64."""
    places = np.stack([np.arange(12) / 100, np.full(12, 50.0)], axis=1)
    places[3] = places[4]
    calls: list[tuple[int, int]] = []
    found = alike(
        tiny_encoder, loaded, places, 4, apart_m=25.0, seed=5, report=lambda *now: calls.append(now)
    )
    with torch.inference_mode():
        street = torch.cat([tiny_encoder.street_bins(views) for views, _ in loaded]).double()
        tiles = torch.cat([tiny_encoder.satellite_bins(tiles) for _, tiles in loaded]).double()
    starts = np.random.default_rng(5).integers(8, size=12)
    width = 8 // WINDOW
    for query in range(12):
        window = F.normalize(torch.roll(street[query], -int(starts[query]), 0)[:width].flatten(), dim=0)
        scores = [
            max(float(window @ torch.roll(tile, -turn, 0)[:width].flatten()) for turn in range(8))
            for tile in tiles
        ]
        allowed = [i for i in range(12) if i != query and {i, query} != {3, 4}]
        assert found[query].tolist() == sorted(allowed, key=lambda i: -scores[i])[:4]
    assert calls[-1] == (24, 24)


def test_no_more_are_found_than_there_are(
    tiny_encoder: TwinEncoder, loaded: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    nowhere = np.full((12, 2), np.nan)
    found = alike(tiny_encoder, loaded, nowhere, 50, apart_m=25.0, seed=0)
    assert [sorted({i, *row}) for i, row in enumerate(found.tolist())] == [list(range(12))] * 12


def test_near_is_what_geodesics_say() -> None:
    rng = np.random.default_rng(0)
    places = np.array([24.9, 60.2]) + rng.uniform(-1, 1, (40, 2)) * [0.002, 0.001]
    places[7] = np.nan
    matrix = near(places[:10], places, 60.0).numpy()
    for i in range(10):
        for j in range(40):
            metres = np.nan if 7 in (i, j) else WGS84.inv(*places[i], *places[j])[2]
            assert np.isnan(metres) or abs(metres - 60) < 0.5 or matrix[i, j] == (metres < 60)
    assert not matrix[7].any()
    assert not matrix[:, 7].any()
