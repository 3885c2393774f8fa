"""Step 1: a photo or panorama from a file, upright, with all that its metadata truly says."""

import dataclasses
import hashlib
import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from geoloc.errors import ImageError
from geoloc.metadata import (
    Crop,
    compass_deg,
    focal_hfov_deg,
    gps_lonlat,
    number,
    panorama_crop,
    perspective_hfov_deg,
    read_xmp,
    says_panorama,
)
from geoloc.places import LonLat, wrapped_deg

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
MAX_SIDE_PX = 4096
MIN_HW_PX = (16, 32)
DEFAULT_HFOV_DEG = 70.0
WIDEST_PHOTO = 2.4
"""Width to height: single exposures reach 21:9, on phones; what is wider was swept or stitched."""
FULL_ASPECTS = (2.0, 4.0, 5.5)
"""Width to height of panoramas that go all around: whole ones, geoloc's own, CVUSA's."""
NARROWEST_360_DEG = 90.0
"""What one lens of a camera that sees all around sees at least; a phone's 18:9 photo is narrower."""
UPRIGHT: dict[float, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's orientation. Pillow's own `exif_transpose` writes all tags anew, and odd ones cannot be."""

warnings.filterwarnings("ignore", module=r"PIL\.")  # of broken metadata; for all threads at once


@dataclass(frozen=True)
class StreetView:
    """A street-level image, upright.

    rgb: pixels. source: the file's name. lonlat: where the camera says it stood, or None.
    heading_deg: of the image centre, clockwise from true north, 0 <= h < 360, or None.
    hfov_deg: horizontal field of view, 0 < f <= 360. is_panorama: columns are azimuths, and rows are taken
    for elevations, equirectangular; otherwise a pinhole image under 180 degrees. elevation_deg: of the
    image centre above the horizon. hfov_known: False where nothing says the field of view and it is a guess.
    Raises ImageError where these are nonsense.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    source: str
    lonlat: LonLat | None
    heading_deg: float | None
    hfov_deg: float
    is_panorama: bool
    elevation_deg: float = 0.0
    hfov_known: bool = True

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ImageError(f"{self.source}: want 8-bit RGB pixels, got {self.rgb.dtype} {self.rgb.shape}.")
        if self.rgb.shape[0] < MIN_HW_PX[0] or self.rgb.shape[1] < MIN_HW_PX[1]:
            raise ImageError(
                f"{self.source} is {self.rgb.shape[1]} x {self.rgb.shape[0]} px, too small to locate; "
                f"use an image of at least {MIN_HW_PX[1]} x {MIN_HW_PX[0]} px."
            )
        widest = 360.0 if self.is_panorama else 179.0
        if not 1 <= self.hfov_deg <= widest:
            raise ImageError(
                f"{self.source}: a field of view of {self.hfov_deg:g} degrees is impossible here; "
                f"give --hfov-deg between 1 and {widest:g}."
            )
        if self.heading_deg is not None and not 0 <= self.heading_deg < 360:
            raise ImageError(
                f"{self.source}: heading {self.heading_deg:g} is not in 0..360 degrees; give --heading-deg."
            )
        if not -90 <= self.elevation_deg <= 90:
            raise ImageError(f"{self.source}: the image centre cannot be {self.elevation_deg:g} degrees up.")


def read_street_view(
    source: Path | BufferedIOBase,
    *,
    name: str | None = None,
    hfov_deg: float | None = None,
    heading_deg: float | None = None,
    metadata: bool = True,
) -> StreetView:
    """Decode a street view and its metadata; what the caller states overrules the file.

    The heading comes from GPano PoseHeadingDegrees or EXIF GPSImgDirection (true north only), the field
    of view from GPano's CroppedArea*, Camera:HorizontalFOV, or EXIF's focal length unless the image is
    wider than one exposure. Without these, a panorama's shape (2:1, 4:1, 5.5:1) is taken for 360 degrees,
    any other that wide for a part of a panorama, of unknown width, and the rest for 70.
    metadata=False believes none of it but which side is up. Images over 4096 px a side are reduced.
    Raises ImageError for a file that is no sound image, is too large, or whose metadata cannot be true.
    """
    name = name or (str(source) if isinstance(source, Path) else "the upload")
    image, exif, xmp = _decode(source, name)
    if not metadata:
        exif, xmp = Image.Exif(), {}
    crop = None
    with suppress(ImageError) if hfov_deg is not None else nullcontext():
        crop = panorama_crop(xmp, image.size, name)
    field_deg, is_panorama, known = _field(exif, xmp, crop, image.size, hfov_deg)
    return StreetView(
        rgb=np.asarray(image),
        source=name,
        lonlat=gps_lonlat(exif),
        heading_deg=_heading_deg(exif, xmp, crop) if heading_deg is None else wrapped_deg(heading_deg),
        hfov_deg=field_deg,
        is_panorama=is_panorama,
        elevation_deg=crop.elevation_deg if crop else 0.0,
        hfov_known=known,
    )


def stated_heading_deg(path: Path) -> float | None:
    """The heading that a file's metadata states, as in `read_street_view`; no pixel is decoded.

    None where it states none, or nothing that can be true. Raises ImageError for no image.
    """
    with _image_errors(str(path)), Image.open(path, formats=FORMATS) as image:
        exif, xmp = image.getexif(), read_xmp(image)
    with suppress(ImageError):
        return _heading_deg(exif, xmp, panorama_crop(xmp, image.size, str(path)))
    return None


def narrowed(view: StreetView, hfov_deg: float) -> StreetView:
    """The middle of a view that is wider than hfov_deg; any other, or one of unknown field, as it is."""
    if view.hfov_deg <= hfov_deg or not view.hfov_known:
        return view
    w = view.rgb.shape[1]
    half, whole = math.radians(hfov_deg / 2), math.radians(view.hfov_deg / 2)
    share = half / whole if view.is_panorama else math.tan(half) / math.tan(whole)
    columns = min(w, max(MIN_HW_PX[1], round(share * w)))
    left = (w - columns) // 2
    kept = columns / w * whole if view.is_panorama else math.atan(columns / w * math.tan(whole))
    return dataclasses.replace(view, rgb=view.rgb[:, left : left + columns], hfov_deg=math.degrees(2 * kept))


def looking(panorama: StreetView, azimuth_deg: float, hfov_deg: float) -> StreetView:
    """What a 360-degree panorama shows hfov_deg wide around an azimuth, clockwise from its centre."""
    w = panorama.rgb.shape[1]
    first = round((azimuth_deg - hfov_deg / 2 + 180) / 360 * w)
    columns = (first + np.arange(max(MIN_HW_PX[1], round(hfov_deg / 360 * w)))) % w
    middle_deg = (first + len(columns) / 2) / w * 360 - 180
    return dataclasses.replace(
        panorama,
        rgb=panorama.rgb[:, columns],
        heading_deg=None if panorama.heading_deg is None else wrapped_deg(panorama.heading_deg + middle_deg),
        hfov_deg=len(columns) / w * 360,
    )


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a bare image, such as a satellite tile of a dataset. Raises ImageError."""
    return np.asarray(_decode(path, str(path))[0])


def decode_tile(blob: bytes, name: str, side_px: int) -> UInt8[np.ndarray, "s s 4"]:
    """A map tile's pixels as RGBA, opaque without an alpha. Raises ImageError where it has another size."""
    with _image_errors(name), Image.open(io.BytesIO(blob), formats=FORMATS) as image:
        if image.size != (side_px, side_px):
            raise ImageError(
                f"{name} is {image.width} x {image.height} px, not {side_px} x {side_px} as others are; "
                "cut the tiles again."
            )
        return np.asarray(_in_8_bits(image).convert("RGBA"))


def tile_side_px(blob: bytes, name: str) -> int:
    """The side of a square map tile. Raises ImageError where it is none, or over 4096 px."""
    with _image_errors(name), Image.open(io.BytesIO(blob), formats=FORMATS) as image:
        width, height = image.size
    if width != height or not 16 <= width <= MAX_SIDE_PX:
        raise ImageError(f"{name} is {width} x {height} px; map tiles are squares of 16 to {MAX_SIDE_PX} px.")
    return width


def inspect_image(path: Path) -> tuple[tuple[int, int], str]:
    """Width and height, and the sha256 of the file, of an image that can be decoded to its last byte.

    A JPEG is decoded at an eighth of its size, which finds every fault and costs a third. Raises
    ImageError, for one that is too small to locate too.
    """
    blob = _read(path, str(path))
    with _image_errors(str(path)), Image.open(io.BytesIO(blob), formats=FORMATS) as image:
        wh = image.size
        _refuse_bomb(image)
        image.draft("RGB", (1, 1))
        image.load()
    if wh[1] < MIN_HW_PX[0] or wh[0] < MIN_HW_PX[1]:
        raise ImageError(f"{path} is {wh[0]} x {wh[1]} px, too small to locate.")
    return wh, hashlib.sha256(blob).hexdigest()


def _decode(source: Path | BufferedIOBase, name: str) -> tuple[Image.Image, Image.Exif, dict[str, Any]]:
    blob = _read(source, name)
    with _image_errors(name), Image.open(io.BytesIO(blob), formats=FORMATS) as image:
        _refuse_bomb(image)
        exif, xmp = image.getexif(), read_xmp(image)
        if image.format in ("JPEG", "MPO"):
            image.draft("RGB", (MAX_SIDE_PX, MAX_SIDE_PX))
        turn = UPRIGHT.get(number(exif.get(ExifTags.Base.Orientation)) or 1)
        upright = _in_8_bits(image if turn is None else image.transpose(turn)).convert("RGB")
    factor = math.ceil(max(upright.size) / MAX_SIDE_PX)
    return (upright.reduce(factor) if factor > 1 else upright), exif, xmp


def _read(source: Path | BufferedIOBase, name: str) -> bytes:
    try:
        blob = source.read_bytes() if isinstance(source, Path) and _small(source) else None
        if blob is None:
            blob = source.read(MAX_BYTES + 1) if not isinstance(source, Path) else b""
    except OSError as cause:
        raise ImageError(f"{name} cannot be read: {cause.strerror or cause}.") from cause
    if not blob:
        raise ImageError(f"{name} is empty; take the file again from its source.")
    if len(blob) > MAX_BYTES:
        raise ImageError(f"{name} is over {MAX_BYTES >> 20} MiB; reduce it first.")
    return blob


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled to 8, where Pillow's own conversion makes white of all above 255."""
    return image.point(lambda value: value / 257) if image.mode.startswith("I") else image


def _refuse_bomb(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError


@contextmanager
def _image_errors(name: str) -> Iterator[None]:
    """What Pillow raises inside, as an ImageError."""
    try:
        yield
    except Image.DecompressionBombError as cause:
        raise ImageError(f"{name} is over {MAX_PIXELS // 10**6} megapixels; reduce it first.") from cause
    except UnidentifiedImageError as cause:
        raise ImageError(f"{name} is no image that geoloc reads; give a JPEG, PNG or WebP.") from cause
    except (OSError, ValueError, SyntaxError, TypeError, MemoryError) as cause:
        raise ImageError(f"{name} is damaged ({cause}); take the file again from its source.") from cause


def _small(path: Path) -> bool:
    if not path.is_file():
        raise ImageError(f"{path} is not a file; check the path.")
    if path.stat().st_size > MAX_BYTES:
        raise ImageError(f"{path} is over {MAX_BYTES >> 20} MiB; reduce it first.")
    return True


def _field(
    exif: Image.Exif, xmp: dict[str, Any], crop: Crop | None, wh: tuple[int, int], stated_deg: float | None
) -> tuple[float, bool, bool]:
    """The field of view, whether the columns are azimuths, and whether the field is known.

    Datasets keep no focal length; a wide image that has one was swept by a phone, seldom all around.
    """
    aspect, focal_deg = wh[0] / wh[1], focal_hfov_deg(exif, wh)
    wide, says = aspect > WIDEST_PHOTO, says_panorama(xmp)
    if stated_deg is not None:
        return stated_deg, stated_deg >= 180 or wide or says, True
    if crop is not None:
        return crop.hfov_deg, True, True
    if (perspective_deg := perspective_hfov_deg(xmp)) is not None:
        return perspective_deg, False, True
    is_phones = not wide and focal_deg is not None and focal_deg <= NARROWEST_360_DEG
    goes_around = not is_phones and any(abs(aspect / full - 1) < 0.02 for full in FULL_ASPECTS)
    if goes_around or wide or says:
        swept = wide and focal_deg is not None
        return 360.0, True, goes_around and not swept
    return focal_deg or DEFAULT_HFOV_DEG, False, focal_deg is not None


def _heading_deg(exif: Image.Exif, xmp: dict[str, Any], crop: Crop | None) -> float | None:
    whole_deg = compass_deg(exif, xmp)
    return None if whole_deg is None else wrapped_deg(whole_deg + (crop.azimuth_deg if crop else 0.0))
