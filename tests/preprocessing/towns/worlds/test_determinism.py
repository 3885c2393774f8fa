"""The same worlds on every machine, and the plain towns as they have always been."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geoloc.errors import DataError
from preprocessing.towns.raster import lay_ground
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig, plan_town, shoot_ortho, shoot_street

SMALL = {
    "pairs": 3,
    "photos": 1,
    "side_m": 160.0,
    "footprint_m": 48.0,
    "tile_px": 96,
    "panorama_wh": (192, 64),
}
ELSEWHERE = f"""
from pathlib import Path
import sys
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig
if __name__ == "__main__":
    town = TownConfig(world="forest", **{SMALL})
    synthesize(SynthConfig(towns=1, seed=3, town=town), Path(sys.argv[1]), workers=1)
"""
PLAIN = {
    "easy": "f405c2ab496e153f",
    "normal": "61366aebd0ef7e1b",
    "hard": "e93119333695b0de",
}

MARK = """{
 "version": 2,
 "towns": 1,
 "seed": 40,
 "town": {
  "pairs": 3,
  "photos": 1,
  "difficulty": "normal",
  "side_m": 160.0,
  "jitter_m": 2.0,
  "footprint_m": 48.0,
  "tile_px": 96,
  "panorama_wh": [
   192,
   64
  ],
  "look_north": true
 }
}
"""


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_worlds_do_not_depend_on_the_processor(tmp_path: Path) -> None:
    config = SynthConfig(1, 3, TownConfig(world="forest", **SMALL))  # type: ignore[arg-type]
    here = synthesize(config, tmp_path / "here")
    script = tmp_path / "elsewhere.py"
    script.write_text(ELSEWHERE)
    old = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR AVX2 FMA3"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4]), "NPY_DISABLE_CPU_FEATURES": old}
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path / "there")]
    subprocess.run(command, env=environment, check=True)
    assert hashes(here) == hashes(tmp_path / "there")


@pytest.mark.parametrize("difficulty", PLAIN)
def test_plain_towns_stay_what_they_were(difficulty: str) -> None:
    """Pixels as they were before there were worlds, of the orthophoto and of every street view."""
    config = TownConfig(difficulty=difficulty, **SMALL)  # type: ignore[arg-type]
    plan = plan_town(config, 40)
    ground = lay_ground(plan)
    digest = hashlib.sha256(shoot_ortho(config, plan, ground)[0].tobytes())
    for shot in shoot_street(config, plan, ground):
        digest.update(shot.rgb.tobytes())
        digest.update(shot.surface.tobytes())
    assert digest.hexdigest()[:16] == PLAIN[difficulty]


def test_the_mark_of_a_plain_set_is_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "synth.json").write_text(MARK)
    (tmp_path / "towns").mkdir()
    (tmp_path / "towns/40.parquet").write_bytes(b"damaged")
    with pytest.raises(DataError, match="is no table of street views"):  # it is taken for this set's own
        synthesize(SynthConfig(1, 40, TownConfig(**SMALL)), tmp_path)  # type: ignore[arg-type]


def test_a_nonsense_world_is_refused() -> None:
    with pytest.raises(DataError, match="No world is called 'moon'"):
        TownConfig(world="moon")
