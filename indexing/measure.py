"""How much of exact search an index finds, measured when it is built, and how deep to look for 99 % of it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from geoloc.azimuth import correlate, peak, window_gain
from geoloc.spec import EncoderSpec
from indexing.embeddings import read_embeddings
from indexing.manifest import Recall
from indexing.segment import Segment

WANTED = 0.99
DEPTHS = (256, 512, 1024, 2048, 4096, 8192)
K = 10
_QUERIES = 64
_WINDOW_DEG = 90
_ALSO, _NOISE = 0.5, 0.8


@dataclass(frozen=True)
class Question:
    """A query, by how many bins it may be rolled, and whether that is every way."""

    query: Float32[np.ndarray, "d"]
    turns: Int64[np.ndarray, "t"]


def settle_depth(segment: Segment) -> tuple[int, Recall]:
    """The least of the depths at which recall@10 is 99 %, or the greatest, and the recall there.

    Half of the 64 queries are of known heading, half of unknown; half are panoramas, half windows of 90
    degrees (see `make_questions`). Raises GalleryError for a damaged file.
    """
    questions = make_questions(segment, _QUERIES)
    return deep_enough(segment, questions, exact_scores(segment, questions))


def deep_enough(
    segment: Segment, questions: Sequence[Question], best: Float32[np.ndarray, "q k"]
) -> tuple[int, Recall]:
    """The same for queries whose ten exact scores are known."""
    for depth in DEPTHS:
        recall = measure(dataclasses.replace(segment, depth=depth), questions, best)
        if min(recall.known_heading, recall.unknown_heading) >= WANTED:
            break
    return depth, recall


def make_questions(segment: Segment, n: int, seed: int = 0) -> list[Question]:
    """Queries like street views of stored tiles: a tile, some of another one, noise, turned, cut to a window.

    The shares are those at which scores, of the tile itself and of the 10th to the 1,000th best, are spread
    as real street views' are.
    """
    rng, spec = np.random.default_rng(seed), segment.spec
    rows, others = rng.integers(0, segment.rows, (2, n))
    shape = n, spec.azimuth_bins, spec.channels
    tiles, also = segment.read(rows).reshape(shape), segment.read(others).reshape(shape)
    noise = rng.normal(size=shape) / np.sqrt(spec.dim)
    also = np.stack(
        [np.roll(one, turn, axis=0) for one, turn in zip(also, _turns(rng, spec, n), strict=True)]
    )
    views = tiles + _ALSO * also + _NOISE * noise
    views /= np.linalg.norm(views, axis=2, keepdims=True).clip(1e-9) * np.sqrt(spec.azimuth_bins)
    questions = []
    for number, (view, turn) in enumerate(zip(views, _turns(rng, spec, n), strict=True)):
        known, wide = number % 2 == 0, number % 4 < 2
        window = _window(spec, turn, 360 if wide else _WINDOW_DEG)
        seen = np.where(window[:, None], view, 0).astype(np.float32)
        if known:
            questions.append(Question(seen.ravel(), np.array([0])))
        else:
            questions.append(Question(np.roll(seen, turn, axis=0).ravel(), np.arange(spec.azimuth_bins)))
    return questions


def _turns(rng: np.random.Generator, spec: EncoderSpec, n: int) -> list[int]:
    return [int(turn) for turn in rng.integers(0, spec.azimuth_bins, n)]


def _window(spec: EncoderSpec, start: int, hfov_deg: float) -> Bool[np.ndarray, "a"]:
    wide = max(1, round(hfov_deg / 360 * spec.azimuth_bins))
    return np.asarray((np.arange(spec.azimuth_bins) - start) % spec.azimuth_bins < wide)


def exact_scores(segment: Segment, questions: Sequence[Question]) -> Float32[np.ndarray, "q k"]:
    """The ten best scores of each query over every row, from the stored embeddings."""
    spec = segment.spec
    streets = torch.from_numpy(np.stack([one.query for one in questions])).view(
        len(questions), spec.azimuth_bins, spec.channels
    )
    fixed = torch.tensor([len(one.turns) == 1 for one in questions])
    best = torch.full((len(questions), K), -torch.inf)
    for _, some in read_embeddings(segment.embeddings, spec, segment.rows):
        tiles = torch.from_numpy(some.astype(np.float32)).view(len(some), spec.azimuth_bins, -1)
        scores = torch.empty(len(questions), len(some))
        scores[fixed] = streets[fixed].flatten(1) @ tiles.flatten(1).T
        if not fixed.all():
            scores[~fixed] = peak(correlate(streets[~fixed], tiles))[0]
        best = torch.cat([best, scores], dim=1).topk(K, dim=1).values
    return (best * window_gain(streets)[:, None]).numpy()


def measure(segment: Segment, questions: Sequence[Question], best: Float32[np.ndarray, "q k"]) -> Recall:
    """recall@10: the share of a search's ten hits that score as high as the tenth of exact search."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    for one, scores in zip(questions, best, strict=True):
        tenth = scores[np.isfinite(scores)][-1]
        found = segment.search(one.query, one.turns, K, segment.every)[1][:K]
        shares[len(one.turns) == 1].append(float((found >= tenth - 1e-5).sum() / np.isfinite(scores).sum()))
    known, unknown = (float(np.mean(some)) if some else 1.0 for some in (shares[True], shares[False]))
    return Recall(round(known, 4), round(unknown, 4), len(questions))
