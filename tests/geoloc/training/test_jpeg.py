"""What JPEG does, against Pillow's own files."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from geoloc.training.jpeg import jpeg


def through_a_file(image: torch.Tensor, quality: int) -> torch.Tensor:
    file = io.BytesIO()
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float()


@pytest.mark.parametrize("hw", [(64, 256), (37, 51)])
def test_it_does_what_a_file_does(hw: tuple[int, int]) -> None:
    """Nearly every pixel within two steps of 255, though the file moved it by about ten."""
    quality = torch.tensor([20, 30, 49, 50, 75, 89])
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(len(quality), 3, hw[0] // 6, hw[1] // 6, generator=rng)
    smooth = F.interpolate(coarse, hw, mode="bilinear")
    images = 0.1 + 0.7 * smooth + 0.1 * torch.rand(len(quality), 3, *hw, generator=rng)
    seen = jpeg(images, quality) * 255
    for image, mine, q in zip(images, seen, quality.tolist(), strict=True):
        want = through_a_file(image, q)
        off, moved = (mine - want).abs(), ((image * 255).round() - want).abs().mean()
        assert (off <= 2).float().mean() > 0.8
        assert off.mean() < moved / 5


def test_a_quality_is_its_image_s_own() -> None:
    images = torch.rand(3, 3, 16, 32, generator=torch.Generator().manual_seed(1))
    together = jpeg(images, torch.tensor([25, 60, 90]))
    alone = torch.cat([jpeg(images[i : i + 1], torch.tensor([q])) for i, q in enumerate((25, 60, 90))])
    torch.testing.assert_close(together, alone)
    assert together.shape == images.shape and together.min() >= 0 and together.max() <= 1
