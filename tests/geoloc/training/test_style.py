"""Styles: each part of one against a plain account of it, alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoloc.training.jpeg import jpeg
from geoloc.training.style import Style, draw_style, restyle

B, HW = 5, (24, 40)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(B, 3, *HW, generator=torch.Generator().manual_seed(0))


def plain() -> Style:
    return draw_style(B, 0.0, np.random.default_rng(1))


def test_no_strength_leaves_the_images(images: torch.Tensor) -> None:
    torch.testing.assert_close(restyle(images, plain()), images, atol=1e-6, rtol=0)


def test_a_style_is_its_image_s_own(images: torch.Tensor) -> None:
    style, rows = draw_style(B, 0.8, np.random.default_rng(2)), np.array([3, 1])
    torch.testing.assert_close(restyle(images, style)[rows], restyle(images[rows], style.of(rows)))


def test_two_views_of_one_image_differ_and_stay_images(images: torch.Tensor) -> None:
    one, other = (restyle(images, draw_style(B, 1.0, np.random.default_rng(seed))) for seed in (3, 4))
    assert (one - other).abs().mean() > 0.05
    for view in (one, other):
        assert view.min() >= 0
        assert view.max() <= 1


def test_the_season_moves_what_is_green(images: torch.Tensor) -> None:
    grey = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    autumn = replace(plain(), season=np.tile([0.5, 0.0, -0.5], (B, 1)))
    torch.testing.assert_close(restyle(grey, autumn), grey, atol=1e-6, rtol=0)
    grass = torch.tensor([0.2, 0.6, 0.2]).view(1, 3, 1, 1).expand(B, 3, *HW)
    want = torch.tensor([0.6, 0.6, 0.0]).view(1, 3, 1, 1).expand(B, 3, *HW)
    torch.testing.assert_close(restyle(grass, autumn), want, atol=1e-6, rtol=0)


def test_no_detail_is_the_mean_of_nine(images: torch.Tensor) -> None:
    want = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    blurred = restyle(images, replace(plain(), detail=np.full(B, -1.0)))
    torch.testing.assert_close(blurred, want, atol=1e-6, rtol=0)


def test_light_goes_round_the_panorama(images: torch.Tensor) -> None:
    """What lies at either end of a canvas is lit alike, so that the end is nothing to learn from."""
    lit = restyle(torch.full_like(images, 0.3), replace(draw_style(B, 0.0, np.random.default_rng(5)),
                  light=np.random.default_rng(6).uniform(0.5, 2, (B, 3, 4))))  # fmt: skip
    torch.testing.assert_close(lit[..., 0], lit[..., -1], atol=1e-6, rtol=0)
    assert lit.std(dim=(1, 2, 3)).min() > 0.02


def test_a_hole_hides_its_share(images: torch.Tensor) -> None:
    style = replace(plain(), hole=np.tile([0.25, 0.5, 0.5, 0.25], (B, 1)), fill=np.zeros((B, 3)))
    want = images.clone()
    want[:, :, 12:18, 10:30] = 0
    torch.testing.assert_close(restyle(images, style), want, atol=1e-6, rtol=0)


def test_a_quality_of_0_leaves_an_image_alone(images: torch.Tensor) -> None:
    quality = np.array([0, 30, 0, 90, 0])
    seen = restyle(images, replace(plain(), quality=quality))
    torch.testing.assert_close(seen[[0, 2, 4]], images[[0, 2, 4]], atol=1e-6, rtol=0)
    torch.testing.assert_close(seen[[1, 3]], jpeg(images[[1, 3]], torch.tensor([30, 90])), atol=1e-5, rtol=0)
