"""What the EXIF and XMP of a street view say: its place, which way it looks and how wide it sees."""

import math
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from geoloc.errors import GeolocError, ImageError
from geoloc.places import LonLat

FILM_WIDTH_MM = 36.0
FOCAL_35MM = (5.0, 2000.0)
"""Equivalent focal lengths that lenses have; what is worked out to be another is nonsense."""
MM_PER_UNIT = {2.0: 25.4, 3.0: 10.0, 4.0: 1.0, 5.0: 0.001}
"""By EXIF's FocalPlaneResolutionUnit."""
PROJECTIONS = ("equirectangular", "cylindrical")


@dataclass(frozen=True)
class Crop:
    """The part of a panorama that an image shows, by GPano.

    hfov_deg: its width. azimuth_deg: of its centre, clockwise from the whole panorama's. elevation_deg:
    of its centre above the horizon.
    """

    hfov_deg: float
    azimuth_deg: float
    elevation_deg: float


def read_xmp(image: Image.Image) -> dict[str, Any]:
    """The XMP description's attributes, flat; empty where there is no readable XMP."""
    try:
        description = image.getxmp()["xmpmeta"]["RDF"]["Description"]
    except Exception:  # XMP is arbitrary XML from outside; unreadable is the same as absent
        return {}
    parts = description if isinstance(description, list) else [description]
    return {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}


def number(value: object) -> float | None:
    """A finite number from a tag; None where it holds none."""
    try:
        parsed = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return parsed if math.isfinite(parsed) else None


def says_panorama(xmp: dict[str, Any]) -> bool:
    """Whether GPano names a projection whose columns are azimuths."""
    return xmp.get("ProjectionType") in PROJECTIONS


def panorama_crop(xmp: dict[str, Any], wh: tuple[int, int], name: str) -> Crop | None:
    """What GPano says of an image of that size; None where it says nothing, or no width of a cylinder.

    A cylinder's elevation is that of its middle row; its rows count as equirectangular, which near the
    horizon they are. Raises ImageError for what cannot be true.
    """
    stated_w, is_sphere = number(xmp.get("FullPanoWidthPixels")), xmp.get("ProjectionType") == PROJECTIONS[0]
    if not says_panorama(xmp) or not (is_sphere or stated_w):
        return None
    full_w = stated_w or float(wh[0])
    crop_w = number(xmp.get("CroppedAreaImageWidthPixels")) or full_w
    crop_h = number(xmp.get("CroppedAreaImageHeightPixels")) or crop_w * wh[1] / wh[0]
    full_h = number(xmp.get("FullPanoHeightPixels")) or (full_w / 2 if is_sphere else crop_h)
    left, top = (number(xmp.get(f"CroppedArea{side}Pixels")) for side in ("Left", "Top"))
    left = (full_w - crop_w) / 2 if left is None else left
    top = (full_h - crop_h) / 2 if top is None else top
    fits = (
        0 < crop_w <= full_w
        and 0 < crop_h <= full_h
        and 0 <= top <= full_h - crop_h + 1
        and (not is_sphere or abs(full_w / full_h - 2) < 0.1)
        and abs(crop_w / crop_h * wh[1] / wh[0] - 1) < 0.1
    )
    if not fits:
        raise ImageError(
            f"{name}: its GPano metadata (a {crop_w:g} x {crop_h:g} px part of a {full_w:g} x {full_h:g} px "
            f"panorama) cannot be true of a {wh[0]} x {wh[1]} px image; state --hfov-deg."
        )
    px_per_rad = full_w / (2 * math.pi)
    up_rad = (full_h / 2 - top - crop_h / 2) / px_per_rad
    return Crop(
        hfov_deg=360 * crop_w / full_w,
        azimuth_deg=360 * (left + crop_w / 2 - full_w / 2) / full_w,
        elevation_deg=math.degrees(up_rad if is_sphere else math.atan(up_rad)),
    )


def perspective_hfov_deg(xmp: dict[str, Any]) -> float | None:
    """Pix4D's Camera:HorizontalFOV, which geoloc's own photos carry; None where it cannot be true."""
    hfov_deg = number(xmp.get("HorizontalFOV"))
    return hfov_deg if hfov_deg is not None and 1 <= hfov_deg <= 179 else None


def focal_hfov_deg(exif: Image.Exif, wh: tuple[int, int]) -> float | None:
    """The field of view of a single exposure, by its focal length: the film's long side is the image's."""
    tags = exif.get_ifd(ExifTags.IFD.Exif)
    focal_mm = number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm)) or _focal_35mm(tags)
    film_mm = FILM_WIDTH_MM * min(1.0, wh[0] / wh[1])
    return math.degrees(2 * math.atan(film_mm / 2 / focal_mm)) if focal_mm else None


def _focal_35mm(tags: dict[int, Any]) -> float | None:
    """The 35 mm equivalent by the focal length and the sensor's size; None where these make no sense."""
    focal_mm, px_per_unit, unit, *sides_px = (
        number(tags.get(tag))
        for tag in (
            ExifTags.Base.FocalLength,
            ExifTags.Base.FocalPlaneXResolution,
            ExifTags.Base.FocalPlaneResolutionUnit,
            ExifTags.Base.ExifImageWidth,
            ExifTags.Base.ExifImageHeight,
        )
    )
    side_px = max(side or 0.0 for side in sides_px)
    mm_per_unit = MM_PER_UNIT[2.0] if unit is None else MM_PER_UNIT.get(unit)
    if not focal_mm or not px_per_unit or not side_px or not mm_per_unit:
        return None
    equivalent_mm = focal_mm * FILM_WIDTH_MM * px_per_unit / mm_per_unit / side_px
    return equivalent_mm if FOCAL_35MM[0] <= equivalent_mm <= FOCAL_35MM[1] else None


def compass_deg(exif: Image.Exif, xmp: dict[str, Any]) -> float | None:
    """The heading from true north that GPano or EXIF states; of a crop, that of the whole panorama's centre.

    So does EXIF's: who crops a panorama keeps the camera's tags. A GPano heading of exactly 0 is what cameras
    write that do not know.
    """
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    is_true = gps.get(ExifTags.GPS.GPSImgDirectionRef, "T") == "T"
    compass = number(gps.get(ExifTags.GPS.GPSImgDirection)) if is_true else None
    return number(xmp.get("PoseHeadingDegrees")) or compass


def gps_lonlat(exif: Image.Exif) -> LonLat | None:
    """Where the camera says it stood; None where that is incomplete or not on the earth."""
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    lon = _dms(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "EW")
    lat = _dms(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "NS")
    if lon is None or lat is None:
        return None
    try:
        return LonLat(lon, lat)
    except GeolocError:
        return None


def _dms(value: object, ref: object, signs: str) -> float | None:
    """Degrees from EXIF's degrees, minutes, seconds and reference letter; None where incomplete."""
    if not isinstance(value, tuple) or len(value) != 3 or not isinstance(ref, str) or ref not in tuple(signs):
        return None
    parts = [number(part) for part in value]
    if None in parts:
        return None
    degrees: float = sum(part / 60.0**power for power, part in enumerate(parts) if part is not None)
    return degrees if ref == signs[0] else -degrees
