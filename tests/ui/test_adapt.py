"""`geoloc adapt`: what it leaves behind, that it does so twice, and what it refuses."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_world import World, noise

from geoloc.model import load_encoder, save_encoder, trained_towns
from ui.cli import main


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STEPS": 10, "BATCH": 4, "RIVALS": 4}.items():
        monkeypatch.setattr(f"geoloc.training.adapt.{name}", value)
    monkeypatch.setattr("ui.adapt.MOST", 24)


@pytest.fixture
def photos(tmp_path: Path, world: World) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    shutil.copy(world.panorama, folder)
    shutil.copy(world.photo, folder / "more")
    (folder / "notes.txt").write_text("no photo")
    return folder


@pytest.fixture
def pair(tmp_path: Path, world: World) -> str:
    """One pair, in a table."""
    Image.fromarray(noise(96, 96, 3)).save(tmp_path / "tile.png")
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["street", "satellite", "heading_deg", "hfov_deg", "footprint_m"],
                [world.panorama, "tile.png", 120, 360, 60],
            ]
        )
    return f"table:{tmp_path / 'pairs.csv'}"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["adapt", *map(str, words)])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err  # type: ignore[return-value]


def test_a_model_of_the_region(
    world: World, photos: Path, pair: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "parent"
    save_encoder(load_encoder(world.model), model, "# The parent\n\nTown seeds: 7.\n", frozenset({7}))
    (model / "calibration.json").write_text("{}")
    unmatched = ("--imagery", world.ortho, "--photos", photos)
    code, out, err = run(capsys, model, *unmatched, "--pairs", pair, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said == json.loads((tmp_path / "run" / "adapt.json").read_text())
    assert (said["pairs"], said["photos"], said["tiles"], said["steps"]) == (1, 2, 24, 10)
    assert said["norms"] > 0
    assert said["moved"] > 0
    assert said["from"] == load_encoder(model).spec.weights_sha256
    adapted = tmp_path / "run" / "model"
    assert said["weights_sha256"] == load_encoder(adapted).spec.weights_sha256 != said["from"]
    assert trained_towns(adapted) == {7}
    card = (adapted / "README.md").read_text()
    for words in (
        said["from"],
        "24 tiles of ortho.tif",
        "2 photos",
        "1 pairs",
        "## The parent",
        "calibration",
    ):
        assert words in card, words
    assert not (adapted / "calibration.json").exists()
    code, _, err = run(capsys, model, *unmatched, "--pairs", pair, "--out", tmp_path / "again")
    assert code == 0, err
    for name in ("weights.safetensors", "spec.json"):
        assert (adapted / name).read_bytes() == (tmp_path / "again" / "model" / name).read_bytes()
    code, _, err = run(capsys, model, *unmatched, "--out", tmp_path / "run")
    assert code == 2
    assert "choose another --out" in err


def test_pairs_that_are_missing_are_left_out_where_that_is_allowed(
    world: World, pair: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Path(pair.partition(":")[2])
    holed = table.with_name("holed.csv")
    header, row, *_ = table.read_text().splitlines()
    name = row.split(",")[header.split(",").index("street")]
    holed.write_text("\n".join([header, row, row.replace(name, "gone.jpg")]) + "\n")
    code, _, err = run(capsys, world.model, "--pairs", f"table:{holed}", "--out", tmp_path / "a")
    assert code == 2 and "--allow-missing" in err
    words = ("--pairs", f"table:{holed}", "--allow-missing", "--out", tmp_path / "a", "--json")
    code, out, err = run(capsys, world.model, *words)
    assert code == 0, err
    assert json.loads(out)["pairs"] == 1


def test_either_view_alone_is_enough(
    world: World, photos: Path, pair: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("--imagery", world.ortho), ("--photos", photos), ("--pairs", pair)):
        code, _, err = run(capsys, world.model, *words, "--out", tmp_path / words[0])
        assert code == 0, err
        assert "batch norms" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to adapt to"),
        (["--photos", "nowhere"], "is no folder"),
        (["--photos", "empty"], "holds no JPEG, PNG or WebP"),
        (["--photos", "broken"], "broken.jpg"),
        (["--imagery", "nowhere.tif"], "check the path"),
        (["--pairs", "table:nowhere.csv"], "is no file"),
        (["--pairs", "table:north.csv"], "has no heading"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value else "none",
)
def test_what_is_wrong_is_said_and_nothing_written(
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "broken.jpg").write_bytes(b"no image")
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save("plain.png")
    Path("north.csv").write_text("street,satellite\nplain.png,plain.png\n")
    code, out, err = run(capsys, world.model, *words, "--out", "run")
    assert code == 2
    assert says in err
    assert out == ""
    assert not Path("run").exists()


def test_a_model_that_is_none(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, tmp_path, "--imagery", world.ortho, "--out", tmp_path / "run")
    assert code == 2
    assert "is no model" in err
