"""Randomness that belongs to a place: the same on every machine, in any order of asking."""

from functools import cache

import numpy as np
from jaxtyping import Float32, Int, UInt32

SIDE = 512


@cache
def field(octaves: int) -> Float32[np.ndarray, "512 512"]:
    """Tileable value noise from 0 to 1; its finest octave changes every pixel, each other half as fast."""
    rng = np.random.default_rng([512, octaves])
    total = np.zeros((SIDE, SIDE))
    for octave in range(octaves):
        coarse = rng.integers(0, 1 << 16, (SIDE >> octave, SIDE >> octave)) / float(1 << 16)
        for axis in (0, 1):
            for _ in range(octave):
                coarse = _doubled(coarse, axis)
        total += coarse * 1.5**octave
    low, high = total.min(), total.max()
    return np.asarray((total - low) / (high - low), np.float32)


def _doubled(values: np.ndarray, axis: int) -> np.ndarray:
    """Twice the samples along `axis`, by Chaikin's corner cutting, wrapping around."""
    before, after = np.roll(values, 1, axis), np.roll(values, -1, axis)
    pair = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis=axis + 1)
    shape = list(values.shape)
    shape[axis] *= 2
    return pair.reshape(shape)


def sample(octaves: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The field at (u, v) in its pixels, nearest, wrapped; any shape."""
    row, column = v.astype(np.int32) & (SIDE - 1), u.astype(np.int32) & (SIDE - 1)
    return np.take(field(octaves), row * SIDE + column)


def scramble(numbers: Int[np.ndarray, "*n"], salt: int) -> UInt32[np.ndarray, "*n"]:
    """A hash of each number (the 32-bit finaliser of MurmurHash3)."""
    bits = numbers.astype(np.uint32) ^ np.uint32(salt * 0x9E3779B1 & 0xFFFFFFFF)
    bits ^= bits >> np.uint32(16)
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> np.uint32(13)
    bits *= np.uint32(0xC2B2AE35)
    return bits ^ (bits >> np.uint32(16))


def chance(numbers: Int[np.ndarray, "*n"], salt: int) -> Float32[np.ndarray, "*n"]:
    """A number in [0, 1) drawn for each number."""
    return (scramble(numbers, salt) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)
