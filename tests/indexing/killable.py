"""A build in a process of its own, to be killed. Imported once by the fork server, so starts are quick."""

from pathlib import Path

from indexing.build import build_gallery
from tests.indexing.conftest import FakeEncoder


def build(imagery: Path, model: Path, out: Path) -> None:
    """Build in about a dozen blocks of tiles."""
    build_gallery([imagery], model, out, stride_m=4, encoder=FakeEncoder())
