import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from apart import apart

from geoloc.encoder import TwinEncoder
from geoloc.training.alike import WINDOW, alike


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
    known = dataclasses.replace(apart(12), lonlats=places)
    known.right[7, 1] = 2
    calls: list[tuple[int, int]] = []
    found = alike(tiny_encoder, loaded, known, 4, seed=5, report=lambda *now: calls.append(now))
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
        allowed = [i for i in range(12) if i != query and {i, query} != {3, 4} and (query, i) != (7, 2)]
        assert found[query].tolist() == sorted(allowed, key=lambda i: -scores[i])[:4]
    assert calls[-1] == (24, 24)


def test_no_more_are_found_than_there_are(
    tiny_encoder: TwinEncoder, loaded: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    found = alike(tiny_encoder, loaded, apart(12), 50, seed=0)
    assert [sorted({i, *row}) for i, row in enumerate(found.tolist())] == [list(range(12))] * 12
