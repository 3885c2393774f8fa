"""Imports run one way: ui -> indexing -> preprocessing -> geoloc, and within that training -> the rest."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ["geoloc", "preprocessing", "indexing", "ui"]
FILES = sorted(path for house in ORDER for path in (ROOT / house).rglob("*.py"))


def modules(path: Path) -> set[str]:
    """What a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its arrow"
            names.add(node.module or "")
    return names


def imported(path: Path) -> set[str]:
    """Top-level packages of these."""
    return {name.split(".")[0] for name in modules(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_arrow_runs_back(path: Path) -> None:
    room = ORDER.index(path.relative_to(ROOT).parts[0])
    assert not imported(path) & set(ORDER[room + 1 :])


@pytest.mark.parametrize("path", sorted((ROOT / "geoloc").glob("*.py")), ids=lambda path: path.name)
def test_a_query_needs_no_training(path: Path) -> None:
    assert not any(name.startswith("geoloc.training") for name in modules(path))


def test_every_room_is_watched() -> None:
    assert len(FILES) > 30
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ORDER)


def test_nothing_unpickles() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not imported(path) & {"pickle", "dill", "joblib"}, path
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls:
            told = {f"{word.arg}={ast.unparse(word.value)}" for word in call.keywords}
            assert ast.unparse(call.func) != "torch.save", path
            assert ast.unparse(call.func) != "torch.load" or "weights_only=True" in told, path
