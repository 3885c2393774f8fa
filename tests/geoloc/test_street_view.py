import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import IFDRational

from geoloc.errors import ImageError
from geoloc.places import LonLat
from geoloc.street_view import StreetView, decode_tile, narrowed, read_street_view, stated_heading_deg

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {attributes}/>'
    "</rdf:RDF></x:xmpmeta>"
)


def jpeg(
    wh: tuple[int, int] = (256, 128),
    gpano: dict[str, object] | None = None,
    gps: dict[int, object] | None = None,
    exif: dict[int, object] | None = None,
    focal_mm: int | None = None,
    lens: dict[int, object] | None = None,
    camera: str = "",
) -> io.BytesIO:
    """A grey JPEG with the metadata asked for."""
    image, tags = Image.new("RGB", wh, "grey"), Image.Exif()
    for tag, value in (exif or {}).items():
        tags[tag] = value
    if gps is not None:
        tags.get_ifd(0x8825).update(gps)
    if focal_mm is not None:
        tags.get_ifd(0x8769)[0xA405] = focal_mm
    tags.get_ifd(0x8769).update(lens or {})
    attributes = " ".join([*(f'GPano:{key}="{value}"' for key, value in (gpano or {}).items()), camera])
    file = io.BytesIO()
    image.save(file, "JPEG", exif=tags, xmp=XMP.format(attributes=attributes).encode())
    file.seek(0)
    return file


EQUIRECTANGULAR = {"ProjectionType": "equirectangular"}
HERE = {1: "S", 2: (33.0, 30.0, 36.0), 3: "W", 4: (70.0, 15.0, 0.0)}


def test_plain_photo_and_panorama_by_shape() -> None:
    photo = read_street_view(jpeg((400, 300)))
    assert (photo.hfov_deg, photo.is_panorama, photo.heading_deg, photo.lonlat) == (70, False, None, None)
    for wh in ((256, 128), (1232, 224), (512, 128)):
        view = read_street_view(jpeg(wh))
        assert (view.hfov_deg, view.is_panorama, view.hfov_known) == (360, True, True), wh


@pytest.mark.parametrize(("wh", "known"), [((400, 200), True), ((512, 128), False), ((660, 200), False)])
def test_a_panoramas_focal_length_is_of_its_lens_not_of_its_width(wh: tuple[int, int], known: bool) -> None:
    """A GoPro Max or a Ricoh Theta, all around; the sweep of a phone, of any width."""
    for focal_mm in (6, 15) if known else (6, 15, 26):
        view = read_street_view(jpeg(wh, focal_mm=focal_mm))
        assert (view.hfov_deg, view.is_panorama, view.hfov_known) == (360, True, known)


def test_a_wide_image_is_a_part_of_a_panorama_of_unknown_width() -> None:
    for wh in ((250, 100), (330, 100), (700, 100)):
        view = read_street_view(jpeg(wh))
        assert (view.hfov_deg, view.is_panorama, view.hfov_known) == (360, True, False)
        stated = read_street_view(jpeg(wh), hfov_deg=100)
        assert (stated.hfov_deg, stated.is_panorama, stated.hfov_known) == (100, True, True)
    for wh in ((210, 90), (180, 100), (100, 330)):
        assert not read_street_view(jpeg(wh)).is_panorama


def test_position_and_heading_from_exif() -> None:
    view = read_street_view(jpeg(gps={**HERE, 16: "T", 17: 271.5}))
    assert view.lonlat == LonLat(-70.25, -(33 + 30 / 60 + 36 / 3600))
    assert view.heading_deg == 271.5


def test_magnetic_heading_is_not_taken_for_true() -> None:
    assert read_street_view(jpeg(gps={16: "M", 17: 40.0})).heading_deg is None


def test_gpano_pose_beats_exif_but_an_unset_one_does_not() -> None:
    gps = {16: "T", 17: 200.0}
    posed = read_street_view(jpeg(gpano={**EQUIRECTANGULAR, "PoseHeadingDegrees": 30}, gps=gps))
    assert posed.heading_deg == 30
    unset = read_street_view(jpeg(gpano={**EQUIRECTANGULAR, "PoseHeadingDegrees": 0}, gps=gps))
    assert unset.heading_deg == 200


@pytest.mark.parametrize(
    ("gps", "heading_deg"), [({}, None), ({16: "M", 17: 40.0}, None), ({16: "T", 17: 0.0}, 0.0)]
)
def test_a_pose_of_exactly_0_is_none(gps: dict[int, object], heading_deg: float | None) -> None:
    view = read_street_view(jpeg(gpano={**EQUIRECTANGULAR, "PoseHeadingDegrees": "0.0"}, gps=gps))
    assert view.heading_deg == heading_deg


@pytest.mark.parametrize(("said", "heading_deg"), [(-30, 330), (360, 0), (725.5, 5.5), ("nan", None)])
def test_headings_are_wrapped(said: object, heading_deg: float | None) -> None:
    assert read_street_view(jpeg(gpano={"PoseHeadingDegrees": said})).heading_deg == heading_deg


def test_cropped_panorama() -> None:
    crop = {
        "CroppedAreaImageWidthPixels": 2000,
        "CroppedAreaImageHeightPixels": 1000,
        "FullPanoWidthPixels": 4000,
        "FullPanoHeightPixels": 2000,
        "CroppedAreaTopPixels": 200,
    }
    view = read_street_view(jpeg((200, 100), gpano=EQUIRECTANGULAR | crop))
    assert (view.hfov_deg, view.is_panorama) == (180, True)
    assert view.elevation_deg == pytest.approx(90 - 180 * 700 / 2000)
    narrower = read_street_view(jpeg((200, 100), gpano=EQUIRECTANGULAR | crop), hfov_deg=150)
    assert (narrower.hfov_deg, narrower.is_panorama) == (150, True)
    assert narrower.elevation_deg == view.elevation_deg
    unfit = read_street_view(jpeg((640, 480), gpano=EQUIRECTANGULAR | crop), hfov_deg=150)
    assert (unfit.hfov_deg, unfit.elevation_deg) == (150, 0)


def test_the_heading_of_a_crop_is_of_its_own_centre(tmp_path: Path) -> None:
    crop = {"FullPanoWidthPixels": 4000, "CroppedAreaImageWidthPixels": 1000, "CroppedAreaLeftPixels": 3000}
    for gpano, gps in (({"PoseHeadingDegrees": 300}, {}), ({}, {16: "T", 17: 300.0})):
        file = jpeg((200, 100), gpano=EQUIRECTANGULAR | crop | gpano, gps=gps)
        view = read_street_view(file)
        assert view.heading_deg == pytest.approx(300 + 135 - 360)
        (tmp_path / "crop.jpg").write_bytes(file.getvalue())
        assert stated_heading_deg(tmp_path / "crop.jpg") == view.heading_deg


def test_a_cylinder_is_read_for_its_width_heading_and_middle_row() -> None:
    part = {
        "ProjectionType": "cylindrical",
        "PoseHeadingDegrees": 10,
        "FullPanoWidthPixels": 3600,
        "FullPanoHeightPixels": 1000,
        "CroppedAreaImageWidthPixels": 1800,
        "CroppedAreaImageHeightPixels": 600,
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": 0,
    }
    view = read_street_view(jpeg((300, 100), gpano=part))
    assert (view.hfov_deg, view.is_panorama, view.hfov_known) == (180, True, True)
    assert view.heading_deg == pytest.approx(10 - 90 + 360)
    assert math.tan(math.radians(view.elevation_deg)) == pytest.approx(200 / (3600 / math.tau))
    bare = read_street_view(jpeg((300, 100), gpano={"ProjectionType": "cylindrical"}))
    assert (bare.is_panorama, bare.hfov_known) == (True, False)
    with pytest.raises(ImageError, match="hfov-deg"):
        read_street_view(jpeg((300, 200), gpano=part))


@pytest.mark.parametrize(("wh", "half_film_mm"), [((400, 300), 18.0), ((300, 400), 13.5), ((400, 200), 18.0)])
def test_field_of_view_from_focal_length(wh: tuple[int, int], half_film_mm: float) -> None:
    view = read_street_view(jpeg(wh, focal_mm=28))
    assert view.hfov_deg == pytest.approx(math.degrees(2 * math.atan(half_film_mm / 28)))


def test_focal_length_zero_means_unknown() -> None:
    assert read_street_view(jpeg((400, 300), focal_mm=0)).hfov_deg == 70


@pytest.mark.parametrize(
    ("wh", "lens", "film_mm"),
    [
        ((300, 200), {0x920A: 50.0, 0xA20E: 4000.0, 0xA210: 3, 0xA002: 9000}, 22.5),
        ((200, 300), {0x920A: 50.0, 0xA20E: 4000.0, 0xA210: 3, 0xA002: 9000, 0xA003: 6000}, 15.0),
        ((300, 200), {0x920A: 4.0, 0xA20E: 20_000.0, 0xA002: 4000}, 5.08),
    ],
    ids=["centimetres", "upright", "inches unless said"],
)
def test_field_of_view_from_the_sensors_size(
    wh: tuple[int, int], lens: dict[int, object], film_mm: float
) -> None:
    view = read_street_view(jpeg(wh, lens=lens))
    want = math.degrees(2 * math.atan(film_mm / 2 / float(lens[0x920A])))  # type: ignore[arg-type]
    assert view.hfov_deg == pytest.approx(want) and view.hfov_known


@pytest.mark.parametrize(
    "wrong",
    [
        *({0xA20E: per_unit} for per_unit in (0.0, -4000.0, 1e-9, 1e9, IFDRational(0, 0))),
        *({0xA210: unit} for unit in (1, 77)),
        {0x920A: 0.0},
        {0xA002: 0},
    ],
    ids=str,
)
def test_a_sensor_that_makes_no_sense_is_ignored(wrong: dict[int, object]) -> None:
    view = read_street_view(
        jpeg((300, 200), lens={0x920A: 50.0, 0xA20E: 4000.0, 0xA210: 3, 0xA002: 9000} | wrong)
    )
    assert (view.hfov_deg, view.hfov_known) == (70, False)


@pytest.mark.parametrize(("said", "hfov_deg"), [("61.25", 61.25), ("400", 70), ("wide", 70)])
def test_field_of_view_from_xmp(said: str, hfov_deg: float) -> None:
    camera = f'xmlns:Camera="http://pix4d.com/camera/1.0/" Camera:HorizontalFOV="{said}"'
    assert read_street_view(jpeg((300, 200), camera=camera)).hfov_deg == hfov_deg


def test_what_the_caller_states_overrules() -> None:
    view = read_street_view(jpeg(gps={16: "T", 17: 10.0}), hfov_deg=90, heading_deg=-10)
    assert (view.hfov_deg, view.is_panorama, view.heading_deg) == (90, False, 350)


def test_grey_of_16_bits_is_scaled() -> None:
    grey = np.random.default_rng(0).integers(0, 2**16, (64, 96), np.uint16)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    tile = io.BytesIO()
    Image.fromarray(grey[:, :64]).save(tile, "PNG")
    want = grey[..., None] / 257
    assert np.abs(read_street_view(io.BytesIO(file.getvalue())).rgb - want).max() <= 1
    seen = decode_tile(tile.getvalue(), "tile", 64)
    assert np.abs(seen[..., :3] - want[:, :64]).max() <= 1 and (seen[..., 3] == 255).all()


def test_orientation_is_undone() -> None:
    assert read_street_view(jpeg((400, 300), exif={0x0112: 6})).rgb.shape == (400, 300, 3)


@pytest.mark.parametrize(
    "file",
    [
        jpeg((640, 480), gpano=EQUIRECTANGULAR),
        jpeg(gpano={**EQUIRECTANGULAR, "CroppedAreaImageWidthPixels": 9000, "FullPanoWidthPixels": 4000}),
    ],
    ids=["no panorama", "crop over full"],
)
def test_lying_metadata_is_refused(file: io.BytesIO) -> None:
    with pytest.raises(ImageError):
        read_street_view(file)


def test_a_position_that_is_incomplete_or_not_on_the_earth_is_none() -> None:
    nan = IFDRational(0, 0)
    for gps in (
        {1: "N", 2: (nan, nan, nan), 3: "E", 4: (1.0, 2.0, 3.0)},
        {2: (1.0, 2.0, 3.0)},
        {1: "\0"},
        {**HERE, 2: (95.0, 0.0, 0.0)},
    ):
        assert read_street_view(jpeg(gps=gps)).lonlat is None


def test_broken_files(tmp_path: Path) -> None:
    whole = jpeg((640, 480)).getvalue()
    broken = {
        "truncated.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "text.jpg": b"this is no picture",
        "header.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
    }
    for name, blob in broken.items():
        (tmp_path / name).write_bytes(blob)
        with pytest.raises(ImageError, match=name):
            read_street_view(tmp_path / name)
    with pytest.raises(ImageError, match="not a file"):
        read_street_view(tmp_path)
    with pytest.raises(ImageError, match="absent"):
        read_street_view(tmp_path / "absent.jpg")


def test_tiny_and_huge() -> None:
    tiny = io.BytesIO()
    Image.new("RGB", (1, 1)).save(tiny, "PNG")
    tiny.seek(0)
    with pytest.raises(ImageError, match="too small"):
        read_street_view(tiny)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(bomb, "PNG")
    bomb.seek(0)
    with pytest.raises(ImageError, match="megapixels"):
        read_street_view(bomb)


def test_large_images_are_reduced() -> None:
    view = read_street_view(jpeg((9000, 4500)))
    assert max(view.rgb.shape) <= 4096
    assert view.rgb.shape[1] == 2 * view.rgb.shape[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"hfov_deg": 0.0},
        {"hfov_deg": 200.0, "is_panorama": False},
        {"heading_deg": 360.0},
        {"elevation_deg": 91.0},
        {"heading_deg": math.nan},
        {"rgb": np.zeros((3, 400, 3), np.uint8)},
    ],
    ids=str,
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    sane: dict[str, object] = {
        "rgb": np.zeros((100, 200, 3), np.uint8),
        "source": "made",
        "lonlat": None,
        "heading_deg": None,
        "hfov_deg": 360.0,
        "is_panorama": True,
    }
    with pytest.raises(ImageError):
        StreetView(**(sane | wrong))  # type: ignore[arg-type]


def seen_from_the_centre_deg(panorama: StreetView, part: StreetView) -> float:
    """Where a part of a panorama fits it best, in degrees clockwise from its centre."""
    h, w = round(part.rgb.shape[0] / part.rgb.shape[1] * part.hfov_deg), round(part.hfov_deg)
    whole, small = (
        np.asarray(Image.fromarray(one.rgb).convert("L").resize(wh)).astype(float)
        for one, wh in ((panorama, (360, 180)), (part, (w, h)))
    )
    top = round(90 - part.elevation_deg - h / 2)
    fits = [
        np.corrcoef(np.roll(whole, -first, 1)[top : top + h, :w].ravel(), small.ravel())[0, 1]
        for first in range(360)
    ]
    return float(np.argmax(fits)) + part.hfov_deg / 2 - 180


def test_real_panoramas(real_data: Path) -> None:
    folder = real_data / "panoramas"
    gopro = read_street_view(folder / "gopro_360_gps_heading.jpg")
    assert gopro.is_panorama
    assert gopro.heading_deg == pytest.approx(349.058, abs=1e-3)
    assert gopro.lonlat is not None
    assert (gopro.lonlat.lon, gopro.lonlat.lat) == pytest.approx((1.91919, 49.00689), abs=1e-5)
    cropped = read_street_view(folder / "cropped_gpano.jpg")
    assert cropped.hfov_deg == pytest.approx(360 * 2150 / 4032)
    assert cropped.elevation_deg == pytest.approx(90 - 180 * (134 + 706) / 2016)
    assert gopro.heading_deg is not None and cropped.heading_deg is not None
    assert cropped.heading_deg == pytest.approx(349.058 + 360 * (538 + 1075 - 2016) / 4032, abs=1e-3)
    assert seen_from_the_centre_deg(gopro, cropped) == pytest.approx(
        cropped.heading_deg - gopro.heading_deg, abs=1
    )
    assert read_street_view(folder / "ricoh_theta.jpg").heading_deg == 270
    assert read_street_view(folder / "perspective_gps.jpg").lonlat is not None
    for path in sorted(folder.glob("*.jpg")):
        assert read_street_view(path).rgb.size


def test_real_datasets_panoramas_are_seen_as_such(real_data: Path) -> None:
    for pattern in ("cvusa/streetview/panos/*.jpg", "cvact/*/streetview/*.jpg"):
        for path in real_data.glob(pattern):
            assert read_street_view(path).is_panorama, path
    for path in (real_data / "cvh3d").glob("*[0-9].jpg"):
        assert not read_street_view(path).is_panorama, path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_pillow_turns_it(orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    file, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(pixels).save(file, "PNG", exif=tags)
    file.seek(0)
    want = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    file.seek(0)
    assert np.array_equal(read_street_view(file).rgb, want)


def test_a_tag_that_cannot_be_written_again_harms_nothing() -> None:
    odd = jpeg((60, 40), exif={0x0112: 6}, gps={16: "T", 17: 20.0})
    content = bytearray(odd.getvalue())
    at = content.index((16).to_bytes(2) + (2).to_bytes(2))  # the reference, a text: now said to be a ratio
    content[at + 2 : at + 4] = (5).to_bytes(2)
    view = read_street_view(io.BytesIO(bytes(content)))
    assert view.rgb.shape == (60, 40, 3) and view.heading_deg is None


def test_the_heading_alone_is_read_without_a_pixel(tmp_path: Path) -> None:
    for name, file in {
        "told.jpg": jpeg(gps={16: "T", 17: 271.5}),
        "posed.jpg": jpeg(gpano={**EQUIRECTANGULAR, "PoseHeadingDegrees": 30}),
        "untold.jpg": jpeg(),
    }.items():
        (tmp_path / name).write_bytes(file.getvalue())
        assert stated_heading_deg(tmp_path / name) == read_street_view(tmp_path / name).heading_deg
    (tmp_path / "none.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match="no image"):
        stated_heading_deg(tmp_path / "none.jpg")


@pytest.mark.parametrize(("hfov_deg", "is_panorama"), [(120.0, False), (200.0, True)])
def test_the_middle_of_a_view_keeps_its_geometry(hfov_deg: float, is_panorama: bool) -> None:
    """Where a ray at 20 degrees to the right falls: columns are azimuths, or tangents of them."""
    columns = np.broadcast_to(np.arange(240, dtype=np.uint8)[None, :, None], (60, 240, 3)).copy()
    view = StreetView(columns, "made", None, 30.0, hfov_deg, is_panorama)
    part = narrowed(view, 60.0)
    assert part.hfov_deg == pytest.approx(60, abs=0.8) and part.heading_deg == 30

    def seen(one: StreetView) -> float:
        w, half = one.rgb.shape[1], math.radians(one.hfov_deg / 2)
        ray = math.radians(20)
        across = ray / half if is_panorama else math.tan(ray) / math.tan(half)
        return float(np.interp(w / 2 * (1 + across) - 0.5, np.arange(w), one.rgb[0, :, 0]))

    assert seen(part) == pytest.approx(seen(view), abs=0.01)
    assert narrowed(part, 60.0 + 1) is part
    usual = dataclasses.replace(view, hfov_known=False)
    assert narrowed(usual, 60.0) is usual
