"""Step 3: twin encoders, street view and satellite tile to unit vectors that can be compared."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoloc.allocator import hold_memory
from geoloc.errors import ModelError
from geoloc.heads import pooling
from geoloc.polar import polar_form
from geoloc.spec import MAP_HEADS, WHOLE_HEADS, EncoderSpec
from geoloc.torchvision_mend import mend_torchvision

hold_memory()
mend_torchvision()
import timm  # noqa: E402 (importable only after the mend)
from timm.models.efficientnet import EfficientNetFeatures  # noqa: E402
from timm.models.mobilenetv3 import MobileNetV3Features  # noqa: E402

LEAST_SEEN = 0.1
WRAP = 8
"""A ring is closed by a copy of its other end, one 8th of it (45 degrees) on either side."""


class Encoder(nn.Module):
    """One view's backbone and head: an image to `azimuth_bins` vectors of `channels` each.

    ring: whether its images close on themselves left to right, as panoramas and polar forms do. The
    image is continued past both ends once, before the backbone, and the surplus columns are dropped
    from its feature maps: what padding every layer would do, at under half the cost. in_chans: 3, or 4
    with the mask of what is seen. hw: of its images, the spec's street_hw unless told otherwise.
    """

    def __init__(
        self, spec: EncoderSpec, *, ring: bool, in_chans: int = 3, hw: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.backbone = _feature_maps(spec, in_chans)
        (layer,) = self.backbone.feature_info.get_dicts()  # type: ignore[operator, union-attr]
        rows, columns = (side // layer["reduction"] for side in hw or spec.street_hw)
        self.spare = -(-spec.street_hw[1] // WRAP // layer["reduction"]) if ring else 0
        self.spare_px = self.spare * layer["reduction"]
        if spec.head in MAP_HEADS:
            self.pool = pooling(spec.head, layer["num_chs"], (rows, columns), spec.channels)
            fits = self.pool.out == spec.channels
            self.head = nn.Identity() if fits else nn.Conv1d(self.pool.out, spec.channels, kernel_size=1)
            return
        if spec.polar and (rows < 1 or columns % spec.azimuth_bins):
            raise ModelError(
                f"{spec.backbone} at stage {spec.stage} makes {columns} columns of {spec.street_hw[1]}, "
                f"which {spec.azimuth_bins} azimuth bins do not divide."
            )
        self.out_hw = (rows if spec.polar else 1, spec.azimuth_bins)
        self.head = nn.Conv1d(layer["num_chs"] * self.out_hw[0], spec.channels, kernel_size=1)

    def forward(self, images: Float[Tensor, "b i h w"]) -> Float[Tensor, "b c a"]:
        """Channels of every azimuth bin, not normalised. Rows keep their place: height means range."""
        if self.spare:
            ends = images[..., -self.spare_px :], images, images[..., : self.spare_px]
            images = torch.cat(ends, dim=3).contiguous(memory_format=torch.channels_last)
        features = self.backbone(images)[-1]
        features = features[..., self.spare : features.shape[3] - self.spare]
        if hasattr(self, "pool"):
            return self.head(self.pool(features)[:, :, None])  # type: ignore[no-any-return]
        if features.shape[2:] != self.out_hw:
            features = F.adaptive_avg_pool2d(features, self.out_hw)
        return self.head(features.flatten(1, 2))  # type: ignore[no-any-return]


def _feature_maps(spec: EncoderSpec, in_chans: int) -> nn.Module:
    """timm's backbone up to the spec's stage. Raises ModelError."""
    asked = {"output_stride": spec.output_stride, "channels": spec.widths, "layers": spec.depths}
    how: dict[str, Any] = {name: value for name, value in asked.items() if value}
    try:
        maps: nn.Module = timm.create_model(
            spec.backbone,
            features_only=True,
            out_indices=(spec.stage,),
            in_chans=in_chans,
            pretrained=False,
            **how,
        )
    except Exception as cause:  # timm raises what it likes for a name or stage it does not have
        raise ModelError(
            f"timm has no feature maps of backbone {spec.backbone!r} at stage {spec.stage}"
            f"{' with ' if how else ''}{', '.join(how)}: {cause}."
        ) from cause
    if isinstance(maps, EfficientNetFeatures | MobileNetV3Features):  # these alone keep the blocks after it
        maps.blocks = nn.Sequential(*list(maps.blocks)[: maps.feature_info.get_dicts()[0]["stage"]])
    return maps


class PooledEncoder(nn.Module):
    """timm's whole backbone: an image of any layout to one vector of `channels`.

    What it pools to, or its classifier's answer where that is not of `channels`. hw: of its images.
    """

    def __init__(self, spec: EncoderSpec, hw: tuple[int, int]) -> None:
        super().__init__()
        how: dict[str, Any] = {"global_pool": "token"} if spec.head == "token" else {}
        classes = 0 if pooled_channels(spec.backbone, **how) == spec.channels else spec.channels
        try:
            net = timm.create_model(spec.backbone, pretrained=False, num_classes=classes, img_size=hw, **how)
        except TypeError:  # a backbone for images of any size
            net = timm.create_model(spec.backbone, pretrained=False, num_classes=classes, **how)
        self.backbone = net

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1"]:
        """The numbers of every image, not normalised."""
        return self.backbone(images)[:, :, None]  # type: ignore[no-any-return]


def pooled_channels(backbone: str, **how: str) -> int:
    """How many numbers a backbone of timm's pools to, by its own pooling or `global_pool`.

    Raises ModelError.
    """
    try:
        with torch.device("meta"):
            return int(timm.create_model(backbone, pretrained=False, num_classes=0, **how).num_features)  # type: ignore[arg-type]
    except Exception as cause:  # timm raises what it likes for a name it does not have
        pool = f"pooled by its {how['global_pool']}" if how else "pooled"
        raise ModelError(f"timm has no backbone {backbone!r} that can be {pool}: {cause}") from cause


class TwinEncoder(nn.Module):
    """The street and the satellite encoder that a spec describes.

    Both embed into d = a x c numbers, azimuth bin by azimuth bin from south over west, of unit norm. A turn
    of the camera is a roll by bins. All bins of a tile have the norm 1/sqrt(a), so any window of its azimuths
    is normalised like any other; those of a street view are as long as they say much, a passing van little.
    A street encoder with weights of its own also sees the mask of what the view shows; a shared one cannot.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        if not spec.polar and spec.azimuth_bins != 1:
            raise ModelError("Without the polar form a tile has no azimuths: azimuth_bins must be 1.")
        self.spec = spec
        whole = spec.head in WHOLE_HEADS
        if spec.head == "safa" and spec.shared and spec.tile_hw != spec.street_hw:
            raise ModelError(
                "head 'safa' knows its map's size: shared weights want the polar form or images of one size."
            )
        self.seen = 3 if spec.shared or whole else 4
        if whole:
            self.street: nn.Module = PooledEncoder(spec, spec.street_hw)
            self.satellite: nn.Module = self.street if spec.shared else PooledEncoder(spec, spec.tile_hw)
        else:
            self.street = Encoder(spec, ring=spec.polar or not spec.shared, in_chans=self.seen)
            self.satellite = self.street if spec.shared else Encoder(spec, ring=spec.polar, hw=spec.tile_hw)

    def street_bins(self, batch: Float[Tensor, "b 4 h w"]) -> Float[Tensor, "b a c"]:
        """Vectors for every azimuth bin of canvases of `street_tensor`, seen or not, not normalised."""
        return self.street(batch[:, : self.seen]).float().transpose(1, 2)  # type: ignore[no-any-return]

    def satellite_bins(self, batch: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b a c"]:
        """Unit vectors for every azimuth bin of tiles of `tile_tensor`."""
        images = polar_form(batch, self.spec.street_hw) if self.spec.polar else batch
        return F.normalize(self.satellite(images).float(), dim=1).transpose(1, 2)

    def embed_street(self, batch: Float[Tensor, "b 4 h w"]) -> Float[Tensor, "b d"]:
        """Embed canvases of `street_tensor`. Bins that the view does not show are 0; unit norm.

        A camera looks anywhere between two bins, and leans: with several, each is the mean over the view as
        it is, turned by three eighths of a bin either way, and a row higher and lower. A bin counts from a
        tenth of it on. On validation towns, 70 degrees of unknown heading, recall@1 is 3.0 points higher than
        with turns alone and bins seen by half; those had 1.9 at 90 degrees.
        """
        if self.spec.azimuth_bins == 1:
            return F.normalize(self.street_bins(batch).flatten(1), dim=1)
        window = seen_bins(batch[:, 3], self.spec.azimuth_bins, LEAST_SEEN)
        aside = 3 * batch.shape[3] // (8 * self.spec.azimuth_bins)
        turned = (torch.roll(batch, turn, dims=3) for turn in (-aside, 0, aside))
        moved = (F.pad(batch, (0, 0, down, -down)) for down in (-1, 1))
        bins: Tensor = sum(map(self.street_bins, (*turned, *moved)))  # type: ignore[assignment]
        return F.normalize((bins * window[:, :, None]).flatten(1), dim=1)

    def embed_satellite(self, batch: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Embed tiles of `tile_tensor`, through their polar form where the spec says so; unit norm."""
        return F.normalize(self.satellite_bins(batch).flatten(1), dim=1)


def seen_bins(mask: Float[Tensor, "b h w"], azimuth_bins: int, least: float = 0.5) -> Float[Tensor, "b a"]:
    """1 for the azimuth bins that a mask shows at least that share as fully as its fullest, else 0."""
    shown = F.adaptive_avg_pool1d(mask.amax(dim=1), azimuth_bins)
    return (shown >= torch.clamp(shown.amax(dim=1, keepdim=True) * least, min=1e-6)).float()
