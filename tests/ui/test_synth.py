from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ui.synth import synth


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(synth)
    return app


def test_the_command_draws_towns_and_keeps_standard_output_clean(app: typer.Typer, tmp_path: Path) -> None:
    size = ["--pairs-per-town=2", "--side-m=170", "--footprint-m=40", "--workers=1", "--like=cvusa"]
    result = CliRunner().invoke(app, [str(tmp_path / "towns"), "--towns", "1", "--seed", "8", *size])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "1 town with 2 street views" in result.stderr.replace("\n", " ")
    assert len((tmp_path / "towns/splits/val-19zl.csv").read_text().splitlines()) == 2


def test_help_teaches(app: typer.Typer) -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    for word in ("--difficulty", "--pairs-per-town", "--jitter-m", "--like", "same command again"):
        assert word in text


def test_an_unknown_world_is_refused(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "o"), "--towns", "1", "--seed", "8", "--world", "moon"])
    assert result.exit_code == 2 and "farmland" in result.output
    assert not (tmp_path / "o").exists()
