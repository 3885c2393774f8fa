"""What the EXIF and XMP of a street view say: its place, which way it looks and how wide it sees."""

import math
from typing import Any

from PIL import ExifTags, Image

from geoloc.errors import GeolocError, ImageError
from geoloc.places import LonLat

FILM_WIDTH_MM = 36.0


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
    return xmp.get("ProjectionType") == "equirectangular"


def focal_hfov_deg(focal_mm: float, wh: tuple[int, int]) -> float:
    """The field of view by a 35 mm focal length: the film's long side is the image's."""
    film_mm = FILM_WIDTH_MM * min(1.0, wh[0] / wh[1])
    return math.degrees(2 * math.atan(film_mm / 2 / focal_mm))


def panorama_crop(xmp: dict[str, Any], wh: tuple[int, int], name: str) -> tuple[float, float] | None:
    """Horizontal field of view and elevation of the image centre, in degrees, from GPano."""
    if not says_panorama(xmp):
        return None
    full_w = number(xmp.get("FullPanoWidthPixels")) or float(wh[0])
    full_h = number(xmp.get("FullPanoHeightPixels")) or full_w / 2
    crop_w = number(xmp.get("CroppedAreaImageWidthPixels")) or full_w
    crop_h = number(xmp.get("CroppedAreaImageHeightPixels")) or crop_w * wh[1] / wh[0]
    top = number(xmp.get("CroppedAreaTopPixels"))
    top = (full_h - crop_h) / 2 if top is None else top
    fits = (
        0 < crop_w <= full_w
        and 0 < crop_h <= full_h
        and 0 <= top <= full_h - crop_h + 1
        and abs(full_w / full_h - 2) < 0.1
        and abs(crop_w / crop_h * wh[1] / wh[0] - 1) < 0.1
    )
    if not fits:
        raise ImageError(
            f"{name}: its GPano metadata (a {crop_w:g} x {crop_h:g} px part of a {full_w:g} x {full_h:g} px "
            f"panorama) cannot be true of a {wh[0]} x {wh[1]} px image; state --hfov-deg."
        )
    return 360 * crop_w / full_w, 90 - 180 * (top + crop_h / 2) / full_h


def compass_deg(exif: Image.Exif, xmp: dict[str, Any]) -> float | None:
    """The heading from true north that GPano or EXIF states.

    A GPano heading of exactly 0 is what cameras write that do not know.
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
