"""A street view as a file: JPEG, with position and heading in EXIF and the projection in XMP."""

import math
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from geoloc.atomic import atomic_path
from geoloc.metadata import FILM_WIDTH_MM
from geoloc.places import LonLat

QUALITY = 90
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" {namespace} {attributes}/>
</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def write_street_view(
    path: Path,
    rgb: UInt8[np.ndarray, "h w 3"],
    *,
    lonlat: LonLat,
    heading_deg: float,
    hfov_deg: float,
    is_panorama: bool,
    taken_at: datetime,
) -> None:
    """Write a JPEG that says where and which way it looks; the same arguments give the same bytes.

    heading_deg: of the image centre, from true north. EXIF 2.32: GPS position to 1e-7 degrees,
    GPSImgDirection, and for a perspective photo FocalLengthIn35mmFilm. XMP: GPano for a panorama (a
    crop in height whose horizon is at mid-height), `Camera:HorizontalFOV` else.
    Atomic; raises GeolocError where the file cannot be written.
    """
    h, w, _ = rgb.shape
    xmp = _panorama_xmp(w, h, heading_deg, hfov_deg) if is_panorama else _photo_xmp(heading_deg, hfov_deg)
    exif = _exif(lonlat, heading_deg, None if is_panorama else _focal_mm(hfov_deg, w, h), taken_at)
    with atomic_path(path) as draft:
        Image.fromarray(rgb).save(draft, "JPEG", quality=QUALITY, subsampling=2, exif=exif, xmp=xmp.encode())


def _focal_mm(hfov_deg: float, w: int, h: int) -> int:
    """The 35 mm equivalent, whole millimetres: the film's long side, 36 mm, is the image's."""
    film_mm = FILM_WIDTH_MM * min(1.0, w / h)
    return max(1, round(film_mm / 2 / math.tan(math.radians(hfov_deg) / 2)))


def _exif(lonlat: LonLat, heading_deg: float, focal_mm: int | None, taken_at: datetime) -> Image.Exif:
    exif = Image.Exif()
    stamp = taken_at.strftime("%Y:%m:%d %H:%M:%S")
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "geoloc", "synthetic town"
    exif[ExifTags.Base.DateTime] = stamp
    details: dict[int, str | int] = {ExifTags.Base.DateTimeOriginal: stamp}
    if focal_mm is not None:
        details[ExifTags.Base.FocalLengthIn35mmFilm] = focal_mm
    exif.get_ifd(ExifTags.IFD.Exif).update(details)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSVersionID: b"\x02\x03\x00\x00",
            ExifTags.GPS.GPSLatitudeRef: "N" if lonlat.lat >= 0 else "S",
            ExifTags.GPS.GPSLatitude: _degrees_minutes_seconds(lonlat.lat),
            ExifTags.GPS.GPSLongitudeRef: "E" if lonlat.lon >= 0 else "W",
            ExifTags.GPS.GPSLongitude: _degrees_minutes_seconds(lonlat.lon),
            ExifTags.GPS.GPSImgDirectionRef: "T",
            ExifTags.GPS.GPSImgDirection: IFDRational(round(heading_deg % 360 * 1000), 1000),
            ExifTags.GPS.GPSMapDatum: "WGS-84",
        }
    )
    return exif


def _degrees_minutes_seconds(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Whole degrees and minutes, seconds to 1e-5: 3e-9 degrees."""
    hundred_thousandths = round(Fraction(abs(degrees)) * 3600 * 100_000)
    minutes, seconds = divmod(hundred_thousandths, 60 * 100_000)
    return IFDRational(minutes // 60, 1), IFDRational(minutes % 60, 1), IFDRational(seconds, 100_000)


def _panorama_xmp(width_px: int, height_px: int, heading_deg: float, hfov_deg: float) -> str:
    full_width = round(width_px * 360 / hfov_deg)
    full_height = round(full_width / 2)
    return _xmp(
        "GPano",
        "http://ns.google.com/photos/1.0/panorama/",
        {
            "ProjectionType": "equirectangular",
            "UsePanoramaViewer": "True",
            "PoseHeadingDegrees": f"{heading_deg % 360:.3f}",
            "FullPanoWidthPixels": full_width,
            "FullPanoHeightPixels": full_height,
            "CroppedAreaImageWidthPixels": width_px,
            "CroppedAreaImageHeightPixels": height_px,
            "CroppedAreaLeftPixels": (full_width - width_px) // 2,
            "CroppedAreaTopPixels": (full_height - height_px) // 2,
        },
    )


def _photo_xmp(heading_deg: float, hfov_deg: float) -> str:
    fields = {"HorizontalFOV": f"{hfov_deg:.4f}", "HeadingDegrees": f"{heading_deg % 360:.3f}"}
    return _xmp("Camera", "http://pix4d.com/camera/1.0/", fields)


def _xmp(prefix: str, namespace: str, fields: Mapping[str, str | int]) -> str:
    attributes = " ".join(f'{prefix}:{name}="{value}"' for name, value in fields.items())
    return XMP.format(namespace=f'xmlns:{prefix}="{namespace}"', attributes=attributes)
