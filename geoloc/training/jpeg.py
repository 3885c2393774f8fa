"""What a JPEG file does to an image, computed where the image is: no file, and any number of them at once.

Baseline JPEG (ITU-T T.81) as libjpeg writes it by default: the luminance and chrominance tables of its annex
K, scaled by quality, and chroma of half the resolution.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

BLOCK = 8
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47),
    (18, 21, 26, 66),
    (24, 26, 56, 99),
    (47, 66, 99, 99),
)
"""Of its table's lowest frequencies; all others are 99."""


def jpeg(images: Float[Tensor, "b 3 h w"], quality: Int64[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """RGB from 0 to 1 as it comes back from a JPEG of a quality from 1 to 100, each image of its own.

    libjpeg transforms in integers: its answer differs by a step of 255 here and there, and where a wave lies
    between two steps of its table it may take the other.
    """
    h, w = images.shape[2:]
    to_ycc = torch.tensor(TO_YCC, device=images.device)
    pixels = F.pad((images * 255).round(), (0, -w % (2 * BLOCK), 0, -h % (2 * BLOCK)), mode="replicate")
    luma, *chroma = torch.einsum("kc,bchw->kbhw", to_ycc, pixels).unbind()
    scale = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None, None]
    fine, coarse = (
        ((table.to(images.device) * scale + 50) // 100).clamp(1, 255).float() for table in _tables()
    )
    planes = [_quantised(luma, fine)]
    for plane in chroma:
        halved = _quantised(F.avg_pool2d(plane[:, None], 2)[:, 0] + 128, coarse) - 128
        planes.append(F.interpolate(halved[:, None], scale_factor=2, mode="bilinear")[:, 0])
    rgb = torch.einsum("ck,kbhw->bchw", torch.linalg.inv(to_ycc), torch.stack(planes))
    return rgb[:, :, :h, :w].round().clamp(0, 255) / 255


def _quantised(plane: Float[Tensor, "b h w"], table: Float[Tensor, "b 8 8"]) -> Float[Tensor, "b h w"]:
    """Every block of samples from 0 to 255 through the cosine transform, its steps' rounding, and back."""
    b, h, w = plane.shape
    cosines = _cosines().to(plane.device)
    blocks = plane.round().view(b, h // BLOCK, BLOCK, w // BLOCK, BLOCK) - 128
    waves = torch.einsum("ui,bminj,vj->bmnuv", cosines, blocks, cosines)
    steps = table[:, None, None]
    kept = (waves / steps).round() * steps
    back = torch.einsum("ui,bmnuv,vj->bminj", cosines, kept, cosines).reshape(b, h, w)
    return (back.round() + 128).clamp(0, 255)


def _cosines() -> Float[Tensor, "8 8"]:
    """The orthonormal transform of 8 samples, a wave per row."""
    at = torch.arange(BLOCK, dtype=torch.float64)
    waves = torch.cos((2 * at + 1) * at[:, None] * math.pi / (2 * BLOCK)) / 2
    waves[0] /= math.sqrt(2)
    return waves.float()


def _tables() -> tuple[Int64[Tensor, "8 8"], Int64[Tensor, "8 8"]]:
    chroma = torch.full((BLOCK, BLOCK), 99)
    chroma[:4, :4] = torch.tensor(CHROMA)
    return torch.tensor(LUMA), chroma
