"""What an encoder is and how its inputs are made: the part of a model that is not weights."""

import dataclasses
import json
import re
from dataclasses import dataclass
from inspect import formatannotation
from typing import Any

from geoloc.errors import ModelError

SCHEMA = 1
MAP_HEADS = ("average", "max", "mixed", "gem", "safa", "parts")
WHOLE_HEADS = ("pooled", "token")
"""Of a whole backbone, which pools by itself; the others are of feature maps."""

HEADS = ("azimuth", *MAP_HEADS, *WHOLE_HEADS)
LAYOUTS = ("canvas", "whole", "centre")
INTERPOLATIONS = ("bilinear", "bilinear-plain")


@dataclass(frozen=True)
class EncoderSpec:
    """Everything needed to rebuild the encoders and to prepare their inputs; stored beside every
    checkpoint, embedding file and gallery manifest. Two specs that differ do not mix: ModelError.

    backbone: a timm name. stage: which of its feature maps to use, from 0. shared: one set of
    weights for both views. azimuth_bins x channels = dim, the embedding's length; 1 bin is an
    ordinary pooled embedding. street_hw: the canvas, pixels; it spans 360 degrees, north in the
    middle, and street_elevation_deg (bottom, top). satellite_px: a tile's side. polar: whether
    tiles are brought to polar form of street_hw first. footprint_m: a tile's side in metres.
    output_stride: pixels of the image to a cell of the feature map, for backbones that can be told to
    dilate their later layers; 0 leaves them as they are. widths, depths: channels and blocks of each stage of
    a ResNet of timm's, four of either; () leaves them as they are. mean, std: per channel, of 0..1 RGB.
    interpolation: "bilinear" averages over what a pixel of the smaller image covers, as Pillow does;
    "bilinear-plain" looks at four pixels alone, as OpenCV does. weights_sha256: of weights.safetensors, ""
    before training.

    head: "azimuth" has the bins. The others pool to one bin of `channels`, by a linear layer where they have
    other numbers: "average", "max", "mixed", "gem", "safa" and "parts" a feature map (see heads.py), and
    "pooled" and "token" the whole backbone, by timm's own pooling or a transformer's class token.

    For published models of whole images: street_layout "whole" squashes the street view, whatever it spans,
    to street_hw, and "centre" the middle half of its height; tiles are then taken whole too.
    """

    backbone: str
    stage: int
    shared: bool
    azimuth_bins: int
    channels: int
    street_hw: tuple[int, int]
    street_elevation_deg: tuple[float, float]
    satellite_px: int
    polar: bool
    footprint_m: float
    output_stride: int = 0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    weights_sha256: str = ""
    head: str = "azimuth"
    street_layout: str = "canvas"
    widths: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.street_elevation_deg
        problems = {
            "azimuth_bins and channels must be 1 or more": min(self.azimuth_bins, self.channels) < 1,
            "stage must be 0 or more": self.stage < 0,
            "azimuth_bins must divide the canvas width": self.street_hw[1] % max(1, self.azimuth_bins) != 0,
            "sizes must lie between 8 and 4096 px": not all(
                8 <= side <= 4096 for side in (*self.street_hw, self.satellite_px)
            ),
            "street_elevation_deg must rise within -90..90": not -90 <= low < high <= 90,
            "footprint_m must lie between 1 and 10,000": not 1 <= self.footprint_m <= 10_000,
            "mean must lie within 0..1": not all(0 <= value <= 1 for value in self.mean),
            "std must lie within 0.001..10": not all(0.001 <= value <= 10 for value in self.std),
            "output_stride must be 0, 8, 16 or 32": self.output_stride not in (0, 8, 16, 32),
            "backbone must be a plain name of timm's": not re.fullmatch(r"[A-Za-z0-9_.]+", self.backbone),
            "widths must be four of 8 to 4,096": self.widths != ()
            and (len(self.widths) != 4 or not all(8 <= width <= 4096 for width in self.widths)),
            "depths must be four of 1 to 64": self.depths != ()
            and (len(self.depths) != 4 or not all(1 <= depth <= 64 for depth in self.depths)),
            "widths and depths, both given, must make at most a thousand million weights": bool(
                self.widths or self.depths
            )
            and self._stage_weights > 10**9,
            "widths and depths want a head of feature maps": self.head in WHOLE_HEADS
            and bool(self.widths or self.depths),
            f"interpolation must be one of {', '.join(INTERPOLATIONS)}": self.interpolation
            not in INTERPOLATIONS,
            f"head must be one of {', '.join(HEADS)}": self.head not in HEADS,
            f"street_layout must be one of {', '.join(LAYOUTS)}": self.street_layout not in LAYOUTS,
            "azimuth_bins must be 1 without head 'azimuth' and street_layout 'canvas'": self.azimuth_bins > 1
            and (self.head, self.street_layout) != ("azimuth", "canvas"),
            "the polar form wants a head of feature maps and street_layout 'canvas'": self.polar
            and (self.head in WHOLE_HEADS or self.street_layout != "canvas"),
            "dim must be at most 65,536": self.dim > 65_536,
        }
        wrong = [problem for problem, holds in problems.items() if holds]
        if wrong:
            raise ModelError(f"This encoder spec is impossible: {'; '.join(wrong)}.")

    @property
    def _stage_weights(self) -> int:
        """About how many: two convolutions of 3 x 3 to a block, and timm's most of what is not given."""
        stages = zip(self.widths or (512,) * 4, self.depths or (36,) * 4, strict=False)
        return sum(18 * width**2 * depth for width, depth in stages)

    @property
    def tile_hw(self) -> tuple[int, int]:
        """What the backbone sees of a tile: its polar form, of the size of a canvas, or the tile as it is."""
        return self.street_hw if self.polar else (self.satellite_px, self.satellite_px)

    @property
    def dim(self) -> int:
        """Length of an embedding, d."""
        return self.azimuth_bins * self.channels

    def to_json(self) -> str:
        """As text, for spec.json."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "EncoderSpec":
        """Read back to_json's text; entries with a default may be absent, as in those of older versions.

        Raises ModelError on anything unknown, missing or mistyped.
        """
        try:
            raw: Any = json.loads(text)
        except (ValueError, RecursionError) as cause:
            raise ModelError(
                "spec.json is not JSON; take the model's folder again from its source."
            ) from cause
        if not isinstance(raw, dict) or raw.pop("schema", None) != SCHEMA:
            raise ModelError(f"spec.json is not of schema {SCHEMA}; this geoloc cannot read that model.")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        wanted = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
        if not wanted <= set(raw) <= set(fields):
            odd = sorted((wanted - set(raw)) | (set(raw) - set(fields)))
            raise ModelError(f"spec.json has missing or unknown entries: {', '.join(map(str, odd))}.")
        return cls(**{name: _typed(name, formatannotation(fields[name].type), raw[name]) for name in raw})


def _typed(name: str, kind: str, value: Any) -> Any:
    parts = kind.removeprefix("tuple[").removesuffix("]").split(", ") if kind.startswith("tuple") else []
    if parts:
        if parts[-1] == "..." and isinstance(value, list):
            parts = parts[:1] * len(value)
        if isinstance(value, list) and len(value) == len(parts):
            return tuple(_typed(name, part, item) for part, item in zip(parts, value, strict=True))
    elif kind == "float" and type(value) in (int, float):
        return float(value)
    elif type(value).__name__ == kind:
        return value
    raise ModelError(f"spec.json: {name} should be {kind}, is {value!r}.")
