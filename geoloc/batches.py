"""Pairs to batches of tensors, read ahead by worker processes."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from geoloc.cores import cores
from geoloc.errors import GeolocError, first_line
from geoloc.pairs import Pair, read_pair_street, read_pair_tile
from geoloc.spec import EncoderSpec
from geoloc.tensors import street_tensor, tile_tensor


class PairDataset(Dataset[tuple[Tensor, Tensor]]):
    """Street and satellite tensors by index."""

    def __init__(self, pairs: Sequence[Pair], spec: EncoderSpec) -> None:
        self.pairs, self.spec = pairs, spec

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Float32[Tensor, "4 h w"], Float32[Tensor, "3 s s"]]:
        pair, spec = self.pairs[index], self.spec
        tile = read_pair_tile(pair, spec.footprint_m)
        return street_tensor(read_pair_street(pair), spec), tile_tensor(tile, spec)


@contextmanager
def _ctrl_c_kept_here() -> Iterator[None]:
    """Processes begun inside do not hear of Ctrl-C, or each would print where it was: this one does."""
    if threading.current_thread() is not threading.main_thread():  # which cannot set signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def batches(
    dataset: Dataset[tuple[Tensor, Tensor]], order: Sequence[Sequence[int]], workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The dataset's pairs in the given batches, read ahead by worker processes."""
    loader = DataLoader(
        dataset,
        batch_sampler=list(order),  # type: ignore[arg-type]
        num_workers=min(workers, cores()),
        multiprocessing_context="spawn" if workers else None,
    )
    try:
        with _ctrl_c_kept_here():
            coming = iter(loader)
        yield from coming
    except GeolocError as cause:  # a worker's error arrives with its traceback in the message
        *_, last = str(cause).strip().splitlines()
        raise type(cause)(last.removeprefix(f"{type(cause).__module__}.{type(cause).__name__}: ")) from None
    except RuntimeError as cause:
        if "DataLoader worker" not in str(cause):  # what torch says of one that was killed
            raise
        raise GeolocError(
            f"A process that decodes images was ended from outside, most likely for want of memory or of "
            f"/dev/shm ({first_line(cause)}); free some, or decode in this process with --set workers=0."
        ) from cause
