"""Step 3: twin encoders, street view and satellite tile to unit vectors that can be compared."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoloc.errors import ModelError
from geoloc.polar import polar_form
from geoloc.spec import EncoderSpec
from geoloc.torchvision_mend import mend_torchvision

mend_torchvision()
import timm  # noqa: E402 (importable only after the mend)


class RingConv(nn.Module):
    """A convolution or pooling whose image closes on itself left to right, as 360 degrees do."""

    def __init__(self, layer: nn.Conv2d | nn.MaxPool2d) -> None:
        super().__init__()
        self.pad_hw = _pair(layer.padding)
        layer.padding = (0, 0)
        self.layer = layer
        self.fill = float("-inf") if isinstance(layer, nn.MaxPool2d) else 0.0

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        """Pad with the other side's columns, and rows of nothing above and below; then apply."""
        down, across = self.pad_hw
        x = F.pad(x, (across, across, 0, 0), mode="circular")
        return self.layer(F.pad(x, (0, 0, down, down), value=self.fill))  # type: ignore[no-any-return]


def _pair(padding: int | str | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(padding, str):
        raise ModelError(f"A backbone with padding {padding!r} cannot be closed to a ring; choose another.")
    return (padding, padding) if isinstance(padding, int) else (padding[0], padding[1])


def close_ring(module: nn.Module) -> None:
    """Replace every padded convolution and max-pooling in `module` by its RingConv, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d | nn.MaxPool2d):
            if _pair(child.padding)[1]:
                setattr(module, name, RingConv(child))
        else:
            close_ring(child)


class Encoder(nn.Module):
    """One view's backbone and head: an image to `azimuth_bins` vectors of `channels` each.

    ring: whether its images close on themselves left to right, as panoramas and polar forms do.
    """

    def __init__(self, spec: EncoderSpec, *, ring: bool) -> None:
        super().__init__()
        self.bins = spec.azimuth_bins
        try:
            self.backbone = timm.create_model(
                spec.backbone, features_only=True, out_indices=(spec.stage,), pretrained=False
            )
        except Exception as cause:  # timm raises what it likes for a name or stage it does not have
            raise ModelError(
                f"timm has no feature maps of backbone {spec.backbone!r} at stage {spec.stage}: {cause}."
            ) from cause
        (layer,) = self.backbone.feature_info.get_dicts()  # type: ignore[operator, union-attr]
        if ring:
            close_ring(self.backbone)
        rows, columns = (side // layer["reduction"] for side in spec.street_hw)
        if spec.polar and (rows < 1 or columns % spec.azimuth_bins):
            raise ModelError(
                f"{spec.backbone} at stage {spec.stage} makes {columns} columns of {spec.street_hw[1]}, "
                f"which {spec.azimuth_bins} azimuth bins do not divide."
            )
        self.rows = rows if spec.polar else 1
        self.head = nn.Conv1d(layer["num_chs"] * self.rows, spec.channels, kernel_size=1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c a"]:
        """Channels of every azimuth bin, not normalised. Rows keep their place: height means range."""
        features = self.backbone(images)[-1]
        features = F.adaptive_avg_pool2d(features, (self.rows, self.bins))
        return self.head(features.flatten(1, 2))  # type: ignore[no-any-return]


class TwinEncoder(nn.Module):
    """The street and the satellite encoder that a spec describes.

    Both embed into d = a x c numbers, azimuth bin by azimuth bin from south over west, and every
    bin has the norm 1/sqrt(a): the whole is a unit vector, a turn of the camera is a roll by
    bins, and any window of azimuths of a tile is normalised like any other.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        if not spec.polar and spec.azimuth_bins != 1:
            raise ModelError("Without the polar form a tile has no azimuths: azimuth_bins must be 1.")
        self.spec = spec
        self.street = Encoder(spec, ring=spec.polar or not spec.shared)
        self.satellite = self.street if spec.shared else Encoder(spec, ring=spec.polar)

    def embed_street(self, batch: Float[Tensor, "b 4 h w"]) -> Float[Tensor, "b d"]:
        """Embed canvases of `street_tensor`. Bins that the view does not show are 0; unit norm."""
        bins = self.street(batch[:, :3])
        columns = batch[:, 3].amax(dim=1)
        shown = F.adaptive_avg_pool1d(columns, self.spec.azimuth_bins)
        window = (shown >= torch.clamp(shown.amax(dim=1, keepdim=True) / 2, min=1e-6)).to(bins)
        return F.normalize(_flat(F.normalize(bins, dim=1) * window[:, None]), dim=1)

    def embed_satellite(self, batch: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Embed tiles of `tile_tensor`, through their polar form where the spec says so; unit norm."""
        images = polar_form(batch, self.spec.street_hw) if self.spec.polar else batch
        return F.normalize(_flat(F.normalize(self.satellite(images), dim=1)), dim=1)


def _flat(bins: Float[Tensor, "b c a"]) -> Float[Tensor, "b d"]:
    return bins.transpose(1, 2).flatten(1)
