"""The sample town that geoloc ships: `python -m preprocessing.towns.sample data/town --seed 780`."""

import argparse
from pathlib import Path

from preprocessing.towns.metadata import write_street_view
from preprocessing.towns.ortho import write_orthophoto
from preprocessing.towns.plan import draw_plan
from preprocessing.towns.raster import lay_ground
from preprocessing.towns.table import view_row, write_table
from preprocessing.towns.town import TownConfig, shoot_ortho, shoot_street

SAMPLE = TownConfig(
    pairs=40,
    photos=10,
    side_m=800.0,
    footprint_m=90.0,
    jitter_m=0.0,
    panorama_wh=(1024, 256),
    look_north=False,
)


def write_sample(out: Path, seed: int) -> Path:
    """Write `ortho.tif`, 40 panoramas and 10 photos of a town, and their table, to `out`.

    The street views stay 46 m from the edge, so that every gallery of the town covers them.
    """
    plan = draw_plan(seed, SAMPLE.side_m)
    ground = lay_ground(plan)
    pixels, scene = shoot_ortho(SAMPLE, plan, ground)
    (out / "street_views").mkdir(parents=True, exist_ok=True)
    write_orthophoto(out / "ortho.tif", pixels, scene)
    rows = []
    for shot in shoot_street(SAMPLE, plan, ground):
        camera = shot.camera
        kind = "panorama" if camera.is_panorama else "photo"
        number = shot.number + 1 - (0 if camera.is_panorama else SAMPLE.pairs)
        street = f"street_views/{kind}-{number:02d}.jpg"
        write_street_view(
            out / street, shot.rgb, lonlat=shot.lonlat, heading_deg=camera.heading_deg,
            hfov_deg=camera.hfov_deg, is_panorama=camera.is_panorama, taken_at=shot.taken_at,
        )  # fmt: skip
        rows.append(view_row(shot, shot.number + 1, seed, "sample", street, "ortho.tif"))
    write_table(out / "street_views.parquet", rows)
    return out


def main() -> None:
    """Read the command line and write the sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=780)
    arguments = parser.parse_args()
    write_sample(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
