"""A run's log as TensorBoard reads it, for those who compare runs there; log.jsonl stays the source."""

from collections.abc import Callable
from pathlib import Path

from geoloc.atomic import cannot_write
from geoloc.errors import GeolocError
from geoloc.training.run_folder import read_log

FOLDER = "tensorboard"


def board(run: Path) -> Callable[[], None]:
    """What brings RUN/tensorboard up to date with RUN/log.jsonl, to be called as often as wanted.

    The first call writes the whole log and hides what an earlier board said of the same steps. Raises
    GeolocError where TensorBoard is not installed, and the calls where the disk refuses.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as cause:
        raise GeolocError(
            "--tensorboard wants the package tensorboard: pip install 'geoloc-crossview[tensorboard]'."
        ) from cause
    writer = None
    told = 0

    def follow() -> None:
        try:
            bring()
        except OSError as cause:
            raise cannot_write(run / FOLDER, cause) from cause

    def bring() -> None:
        nonlocal writer, told
        lines = read_log(run)
        if lines and writer is None:
            writer = SummaryWriter(str(run / FOLDER), purge_step=0)
        for line in lines[told:]:
            of = "step" if "learning_rate" in line else "epoch"
            for name, value in line.items():
                if name != "step" and isinstance(value, int | float):
                    writer.add_scalar(f"{of}/{name}", value, line["step"])  # type: ignore
        if writer is not None:
            writer.flush()
        told = len(lines)

    return follow
