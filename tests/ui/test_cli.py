import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from geoloc.errors import GeolocError
from geoloc.model import save_encoder
from ui.cli import COMMANDS, main
from ui.doctor import examine


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    code = stop.value.code
    out, err = capsys.readouterr()
    return (code if isinstance(code, int) else 0), out, err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name in COMMANDS:
        assert name in out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "index"])
def test_every_command_teaches(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert len(out.splitlines()) > 6


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "--data", "cvusa:/nowhere", "--model", "x"),
        ("train", "--data", "towns:/nowhere", "--out", "x"),
        ("query", "x.jpg", "--gallery", "/nowhere"),
        ("index", "info", "/nowhere"),
        ("index", "verify", "/nowhere"),
        ("nonsense",),
        ("evaluate", "--nonsense"),
    ],
    ids=lambda words: words[0],
)
def test_users_errors_exit_2_in_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (GeolocError("cause; remedy"), 2, "geoloc: cause; remedy"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (OSError(errno.ENOSPC, "full"), 2, "disk is full"),
        (OSError(errno.ENAMETOOLONG, "too long", "xxx"), 2, "xxx: too long"),
        (MemoryError(), 2, "memory"),
        (GeolocError("\x1b[2Jcause; remedy"), 2, r"\x1b[2Jcause"),
    ],
    ids=["error", "interrupt", "disk", "path", "memory", "escape"],
)
def test_what_becomes_of_errors(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    says: str,
) -> None:
    def fail(words: object) -> None:
        raise raised

    monkeypatch.setattr("ui.cli.command_line", fail)
    found, _, err = run(capsys, "doctor")
    assert found == code
    assert says in err


def test_an_interrupted_command_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ui.doctor.examine", interrupt)
    code, out, err = run(capsys, "doctor")
    assert (code, out) == (130, "")
    assert err == "geoloc: Interrupted; run the same command again to go on, a training run with --resume.\n"


def test_doctor_says_that_torch_is_gone() -> None:
    words = "import sys; sys.modules['torch'] = None; from ui.cli import main; main(['doctor', '--json'])"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stderr
    findings = {finding["name"]: finding for finding in json.loads(found.stdout)["findings"]}
    assert findings["device"]["state"] == "broken" and "torch" in findings["device"]["says"]


def test_doctor_finds_this_machine_whole(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0
    findings = json.loads(out)["findings"]
    assert {"torch", "faiss", "device", "disk"} <= {finding["name"] for finding in findings}
    assert all(finding.remedy for finding in examine() if finding.state != "ok")


def test_evaluate_cvh3d(
    real_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The six real photos with the shipped model, heading told and not."""
    monkeypatch.chdir(tmp_path)
    model = Path(__file__).parents[2] / "data/model"
    words = ["evaluate", "--data", f"table:{real_data / 'cvh3d/pairs.csv'}", "--model", str(model), "--json"]
    code, out, err = run(capsys, *words)
    assert code == 0, err
    told = json.loads(out)
    assert (told["n"], told["gallery"], told["missing_pairs"]) == (6, 6, 0)
    assert told["recall@1"] > 1 / 6  # chance
    code, out, _ = run(capsys, *words, "--unknown-heading", "--hfov-deg", "360,50")
    assert code == 0
    assert all(0 <= one["median_heading_error_deg"] <= 180 for one in json.loads(out)["results"])


def test_evaluate_cvusa(
    real_data: Path,
    tiny_encoder: object,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refuses with the count of missing pairs; scores the 18 real ones when that is allowed."""
    monkeypatch.chdir(tmp_path)
    save_encoder(tiny_encoder, tmp_path / "model", "card")  # type: ignore[arg-type]
    words = ["evaluate", "--data", f"cvusa:{real_data / 'cvusa'}", "--model", str(tmp_path / "model")]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "44,398 of 44,416 pairs are missing" in err
    listing = tmp_path / "missing.txt"
    code, out, _ = run(capsys, *words, "--allow-missing", "--json", "--missing-list", str(listing))
    assert code == 0
    scores = json.loads(out)
    assert (scores["n"], scores["gallery"], scores["missing_pairs"]) == (18, 18, 44_398)
    for key in ("recall@1", "recall@5", "recall@10", "recall@1%", "recall@1%_k", "median_rank"):
        assert key in scores
    assert len(listing.read_text().splitlines()) == 2 * 44_398
    code, out, _ = run(capsys, *words, "--allow-missing")
    assert out.startswith("N = 18 queries, 18 tiles")


@pytest.mark.parametrize(
    ("words", "code"), [("['--help']", 0), ("['query', 'absent.jpg', '--gallery', 'absent']", 2)]
)
def test_a_library_that_aborts_on_leaving_spoils_no_exit_code(words: str, code: int) -> None:
    """What is registered with libc is what libraries' own destructors are."""
    program = f"""
import ctypes, sys
from ui.cli import run
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)
sys.argv[1:] = {words}
run()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    assert done.stdout if code == 0 else "absent" in done.stderr
