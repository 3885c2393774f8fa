"""Does k-reciprocal re-ranking help? Recall@1 without it and with it, on towns never seen.

Run: python tests/benchmarks/bench_rerank.py [--model data/model] [--data TOWNS]

Zhong et al. 2017, "Re-ranking Person Re-identification with k-reciprocal Encoding", with the paper's
k1 = 20, k2 = 6, lambda = 0.3, over distances 1 - cosine at the best turn. Street views and tiles are
both of the set whose neighbours are counted, as probe and gallery are there. The full run is the default.
"""

import argparse
from pathlib import Path

import numpy as np

from geoloc.lineup import line_up
from geoloc.model import load_encoder
from geoloc.recall import best_scores
from geoloc.score import Asked, embed_lineup
from preprocessing.datasets.towns import read_towns
from preprocessing.towns.synth import SynthConfig, synthesize
from preprocessing.towns.town import TownConfig

K1, K2, LAMBDA = 20, 6, 0.3


def similarities(queries, gallery, bins):
    """Cosines over the queries' windows, at the best turn."""
    seen = (queries.reshape(len(queries), bins, -1) != 0).any(axis=2).sum(axis=1)
    gain = np.sqrt(bins / np.maximum(seen, 1))[:, None]
    return np.concatenate([scores for _, scores in best_scores(queries, gallery, bins)]) * gain


def reranked(street, satellite, bins):
    """The paper's distance of every street view to every tile."""
    q, n = len(street), len(street) + len(satellite)
    across = similarities(street, satellite, bins)
    likeness = np.empty((n, n), np.float32)
    likeness[:q, q:], likeness[q:, :q] = across, across.T
    likeness[q:, q:] = satellite @ satellite.T
    likeness[:q, :q] = np.clip(similarities(street, street, bins), None, 1)
    distance = 1 - likeness
    distance /= distance.max(axis=1, keepdims=True)
    rank = np.argsort(distance, axis=1)[:, : K1 + 1]

    def reciprocal(i, k):
        near = rank[i, : k + 1]
        return near[(rank[near, : k + 1] == i).any(axis=1)]

    weights = np.zeros((n, n), np.float32)
    for i in range(n):
        base = reciprocal(i, K1)
        more = [base]
        for j in base:
            other = reciprocal(j, K1 // 2)
            if len(np.intersect1d(other, base)) > 2 / 3 * len(other):
                more.append(other)
        members = np.unique(np.concatenate(more))
        closeness = np.exp(-distance[i, members])
        weights[i, members] = closeness / closeness.sum()
    weights = np.stack([weights[rank[i, :K2]].mean(axis=0) for i in range(n)])
    jaccard = np.empty((q, n - q), np.float32)
    for i in range(q):
        shared = np.minimum(weights[i], weights[q:]).sum(axis=1)
        jaccard[i] = 1 - shared / (2 - shared)
    return (1 - LAMBDA) * jaccard + LAMBDA * distance[:q, q:]


def main() -> None:
    """Print recall@1 as it is and re-ranked, for each field of view, heading unknown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("data/model"))
    parser.add_argument("--data", type=Path, help="towns; made below .geoloc by default")
    arguments = parser.parse_args()
    root = arguments.data or synthesize(
        SynthConfig(6, 900, TownConfig(pairs=200)), Path(".geoloc/bench-headings/unseen"), workers=2
    )
    table, encoder = read_towns(root), load_encoder(arguments.model)
    spec, n = encoder.spec, len(table.pairs)
    widths = (360.0, 180.0, 90.0, 70.0)
    embedded = embed_lineup(encoder, line_up(table), [Asked(width, True) for width in widths])
    satellite = embedded.gallery
    for width, street in zip(widths, embedded.queries, strict=True):
        plain = similarities(street, satellite, spec.azimuth_bins).argmax(axis=1) == np.arange(n)
        after = reranked(street, satellite, spec.azimuth_bins).argmin(axis=1) == np.arange(n)
        print(f"{width:g} degrees: recall@1 {plain.mean():.3f}, re-ranked {after.mean():.3f} (N = {n:,})")


if __name__ == "__main__":
    main()
