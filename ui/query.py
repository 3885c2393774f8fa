"""`geoloc query`: photos in, places out."""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from geoloc.errors import ImageError
from geoloc.street_view import MIN_HW_PX, read_street_view
from indexing.answer import TOLERANCE_DEG, Answer, answer, open_gallery
from indexing.region import read_region
from ui.cli import complain
from ui.formats import to_csv, to_geojson, to_json, to_table
from ui.hosts import AllowHost, trust
from ui.progress import progress

Format = Literal["table", "json", "geojson", "csv"]


def query(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="JPEG, PNG or WebP files.")],
    gallery: Annotated[
        str,
        typer.Option(
            help="The gallery to search, as `geoloc index build` made it; milvus:URI: one that `geoloc index "
            "export` put into Milvus."
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Tiles to answer with, for each photo.")] = 10,
    region: Annotated[Path | None, typer.Option(help="GeoJSON polygon to search in.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB", help="Only tiles cut from imagery whose path matches, as '*/2021/*.tif'."
        ),
    ] = None,
    heading_deg: Annotated[
        float | None,
        typer.Option(
            help="Heading of the image centre, degrees clockwise from true north, not magnetic; "
            "overrules the file's own."
        ),
    ] = None,
    heading_tolerance_deg: Annotated[
        float,
        typer.Option(
            min=0,
            max=180,
            help="How far off a known heading may be: a phone's compass is easily 20 off; 0: not at all.",
        ),
    ] = TOLERANCE_DEG,
    hfov_deg: Annotated[
        float | None,
        typer.Option(
            help="Horizontal field of view, as 240 for a part of a panorama; overrules the file's own."
        ),
    ] = None,
    allow_host: AllowHost = None,
    format: Annotated[Format, typer.Option(help="How to write the answers.")] = "table",
) -> None:
    """Say where street views were taken: the best tiles of a gallery, and a fix on the map.

    Heading and field of view are read from the file where it says them. Without a heading all are searched,
    and the fix says which way the camera looked; without a field of view the usual ones are tried, of a photo
    or of a part of a panorama, by the image's shape. Of a calibrated model the fix also says how probable it
    is that the place is in the gallery (with --region or --source: among the tiles searched), and ± is the
    circle that holds it with 90 %, or with what is said beside it. A photo that cannot be read is said, the
    others are answered, and the exit code is 2; --format json lists it under "failed". Stopped, it writes
    what it has answered.

    Example: geoloc query photo.jpg --gallery town.gallery --heading-deg 120 --heading-tolerance-deg 5
    """
    for name, value in (("--heading-deg", heading_deg), ("--hfov-deg", hfov_deg)):
        if value is not None and not math.isfinite(value):
            raise ImageError(f"{name} {value} is no angle; give degrees.")
    area = None if region is None else read_region(region)
    trust(allow_host)
    answers: list[Answer] = []
    failed: dict[str, str] = {}
    tiles, encoder = open_gallery(gallery)
    try:
        with tiles, progress("Locating") as advance:
            for number, photo in enumerate(photos):
                advance(number, len(photos))
                try:
                    view = read_street_view(photo, heading_deg=heading_deg, hfov_deg=hfov_deg)
                    found = answer(
                        view, tiles, encoder, k=k, region=area, source=source,
                        tolerance_deg=heading_tolerance_deg,
                    )  # fmt: skip
                except ImageError as error:
                    failed[str(photo)] = str(error)
                    complain(str(error).replace("\n", "\\n"))
                else:
                    answers.append(_without_pixels(found))
    finally:
        for why in dict.fromkeys(one.unrefined for one in answers if one.unrefined):
            complain(f"Places are centres of tiles: {why}")
        if answers or (failed and format == "json"):
            _write(answers, failed, gallery, format)
    if failed:
        raise typer.Exit(2)


def _without_pixels(found: Answer) -> Answer:
    """An answer as it is kept until all are written; of a photo's 30 MB nothing is."""
    h, w = MIN_HW_PX
    return dataclasses.replace(found, view=dataclasses.replace(found.view, rgb=found.view.rgb[:h, :w].copy()))


def _write(answers: Sequence[Answer], failed: dict[str, str], gallery: str, format: Format) -> None:
    match format:
        case "json":
            sys.stdout.write(to_json(gallery, answers, failed))
        case "geojson":
            sys.stdout.write(to_geojson(answers))
        case "csv":
            sys.stdout.write(to_csv(answers))
        case "table":
            console = Console(width=None if sys.stdout.isatty() else 120)
            for item in answers:
                console.print(to_table(item))
