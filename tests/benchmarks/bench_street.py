"""How many 512 x 128 panoramas of a real (synthetic) town one core draws in a second.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/bench_street.py
"""

import argparse
import statistics
import time

import numpy as np

from preprocessing.towns.cameras import place_cameras
from preprocessing.towns.lens import Camera
from preprocessing.towns.painted import paint
from preprocessing.towns.plan import draw_plan
from preprocessing.towns.raster import build_scene
from preprocessing.towns.street import render
from preprocessing.towns.weather import draw_weather

VIEWS, ROUNDS = 40, 5


def main() -> None:
    """Print the time of each part."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    rng = np.random.default_rng(5)
    plan = draw_plan(5)
    scene = build_scene(plan, 1)
    weather = draw_weather(rng, "normal", ortho=False)
    started = time.perf_counter()
    painted = paint(scene, weather)
    print(f"paint: {time.perf_counter() - started:.2f} s for {plan.side_m:.0f} m a side")
    places = place_cameras(rng, plan, scene, VIEWS, 64.0, np.empty((0, 2)))
    took_s = []
    for x, y in places:
        corner = plan.west_m + x, plan.north_m - plan.side_m + y
        camera = Camera(*corner, 2.5, 0.0, 360.0, 0.5, -0.5, (128, 512), is_panorama=True)
        took_s += [_seconds(painted, camera) for _ in range(ROUNDS)]
    median, least = statistics.median(took_s), min(took_s)
    print(f"render: {1 / median:.1f} panoramas of 512 x 128 a second (median; the quickest {1 / least:.1f})")


def _seconds(painted, camera) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    render(painted, camera, np.random.default_rng(0))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
