"""Random numbers that depend on (seed, i) alone: digits that order siblings, and bijections of ranks.

References
----------
Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3, SC11 (Philox).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KEY_DIGITS = 3
"""Random digits of 16 bits that order siblings."""


def shuffle_siblings(
    parent: NDArray[np.int32], nodes: NDArray[np.intp], digits: NDArray[np.uint16]
) -> NDArray[np.int32]:
    """Shuffle siblings among themselves by sorting random keys of 48 bits, then, stably, their parents.

    Stable sorts of 16 bits are radix sorts: faster than one sort of 64 bits, and the same everywhere. Keys
    tie with a probability of n_subjects**2 / 2**49 a shuffling (3e-6 for 40,000), too rarely to matter.

    Parameters
    ----------
    parent
        Parent of each node of the level (n_nodes,).
    nodes
        Those that change places (n_movable,), ascending.
    digits
        Random keys (m, 3 * n_movable).

    Returns
    -------
    NDArray
        Node whose place each node takes (m, n_nodes).
    """
    shape = len(digits), len(nodes)
    keys = [digits[:, k * len(nodes) : (k + 1) * len(nodes)] for k in range(KEY_DIGITS)]
    family = parent[nodes]
    if family[0] != family[-1]:
        keys.append(np.broadcast_to(family.astype(np.min_scalar_type(int(family[-1]))), shape))
    # Positions in the flattened keys: np.take on these is twice as fast as indexing along the rows.
    row = np.arange(0, shape[0] * shape[1], shape[1])[:, None]
    order = row + np.argsort(keys[0], axis=1, kind="stable")
    for key in keys[1:]:
        order = np.take(order, row + np.argsort(np.take(key, order), axis=1, kind="stable"))
    order -= row
    if len(nodes) == len(parent):
        return order.astype(np.int32)
    slot = np.tile(np.arange(len(parent), dtype=np.int32), (len(digits), 1))
    slot[:, nodes] = np.take(nodes, order)
    return slot


def random_digits(seed: int, start: int, stop: int, n_digits: int) -> NDArray[np.uint16]:
    """Random numbers of 16 bits (stop - start, n_digits).

    Shuffling i owns a stretch of Philox's counter, so that its numbers depend on nothing else, and takes the
    generator's raw output, which numpy keeps from version to version.
    """
    n_counts = -(-n_digits // 16)  # a count makes four words of 64 bits
    bits = np.random.Philox(seed)
    bits.advance(start * n_counts)
    words = bits.random_raw((stop - start) * n_counts * 4).astype("<u8", copy=False)
    digits: NDArray[np.uint16] = words.view("<u2").astype(np.uint16, copy=False)
    return digits.reshape(stop - start, n_counts * 16)[:, :n_digits]


def keyed_bijection(numbers: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Permute 0 ... size - 1 by a bijection that the seed chooses.

    Up to 2**16 it sorts random keys: all bijections are equally likely. Beyond, a Feistel network permutes
    the next power of 4 >= size, and what falls out of the range goes through it again until it falls inside
    (cycle walking), which permutes the range itself.
    """
    if size <= 2**16:
        shuffled = np.argsort(np.random.Philox(seed).random_raw(size), kind="stable")
        return shuffled[numbers].astype(np.int64)
    half = np.uint64(((size - 1).bit_length() + 1) // 2)
    round_keys = np.random.SeedSequence(seed).generate_state(12, np.uint64).astype(np.uint64, copy=False)
    values = numbers.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _feistel(values[outside], half, round_keys)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    left, right = values >> half, values & ((np.uint64(1) << half) - np.uint64(1))
    for key in keys:
        # The finaliser of splitmix64 as round function, of which the top bits are kept.
        mixed = right ^ key
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) >> (np.uint64(64) - half))
    return (left << half) | right
