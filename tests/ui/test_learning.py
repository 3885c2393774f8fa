"""The curves of a run, read back from the axes; and where the command leaves them."""

import json
from pathlib import Path

from ui.learning import draw_learning, learning_curves

STEPS = [
    {"step": step, "loss": 5 / step, "learning_rate": 0.1 * step, "gradient_norm": 1.0}
    for step in range(1, 9)
]
EPOCHS = [
    {"step": 4, "loss": 2.0, "recall@1": 0.25, "recall@5": 0.5, "recall@10": 0.75},
    {"step": 8, "loss": 1.0, "recall@1": 0.5, "recall@5": 0.75, "recall@10": 1.0},
]


def test_every_line_of_the_log_is_a_point() -> None:
    loss, recall, rate, _ = learning_curves([*STEPS[:4], EPOCHS[0], *STEPS[4:], EPOCHS[1]]).axes
    assert loss.lines[0].get_xydata().tolist() == [[step, 5 / step] for step in range(1, 9)]  # type: ignore
    assert loss.lines[1].get_xydata().tolist() == [[4, 2.0], [8, 1.0]]  # type: ignore
    assert [line.get_label() for line in recall.lines] == ["recall@1", "recall@5", "recall@10"]
    assert recall.lines[0].get_xydata().tolist() == [[4, 0.25], [8, 0.5]]  # type: ignore
    assert rate.lines[0].get_ydata().tolist() == [line["learning_rate"] for line in STEPS]  # type: ignore


def test_a_log_becomes_a_picture(tmp_path: Path) -> None:
    draw_learning(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, STEPS)) + '\n{"step": 9, "lo')
    draw_learning(tmp_path)
    first = (tmp_path / "curves.png").read_bytes()
    draw_learning(tmp_path)
    assert first.startswith(b"\x89PNG") and (tmp_path / "curves.png").read_bytes() == first


def test_a_log_that_somebody_wrote_in(tmp_path: Path) -> None:
    lines = [*STEPS, {"step": "x"}, {"epoch": 3}, {"step": 9}, {"step": 9, "learning_rate": [], "loss": None}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n[]\nnull\n")
    draw_learning(tmp_path)
    assert (tmp_path / "curves.png").exists()


def test_without_validation_a_panel_is_blank() -> None:
    loss, recall, _, _ = learning_curves([*STEPS, {"step": 8, "loss": 1.0}]).axes
    assert loss.lines[1].get_xydata().tolist() == [[8, 1.0]]  # type: ignore
    assert not recall.axison and loss.axison
