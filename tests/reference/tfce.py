"""TFCE as it is defined: components labelled anew at every height."""

import numpy as np
from scipy.ndimage import generate_binary_structure, label


def tfce(volume, connectivity, E=0.5, H=2.0, two_sided=True, n_steps=0, dh=0.0, times_step=True):
    """Enhance a volume (0 outside the mask): exactly, in `n_steps` up to its peak, or in steps of `dh`."""
    volume = np.asarray(volume, dtype=np.float64)
    peak = np.abs(volume).max() if two_sided else volume.max()
    out = _positive(volume, peak, connectivity, E, H, n_steps, dh, times_step)
    if two_sided:
        out -= _positive(-volume, peak, connectivity, E, H, n_steps, dh, times_step)
    return out


def _positive(volume, peak, connectivity, E, H, n_steps, dh, times_step):
    structure = generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    out = np.zeros(volume.shape)
    if peak <= 0:
        return out
    if n_steps or dh:
        heights = np.arange(1, int(peak / dh) + 2) * dh if dh else np.linspace(0, peak, n_steps + 1)[1:]
        weights = heights**H
        if times_step:
            weights = weights * (dh or peak / n_steps)
    else:
        heights = np.unique(volume[volume > 0])
        weights = np.diff(np.r_[0, heights ** (H + 1)]) / (H + 1)
    for height, weight in zip(heights, weights, strict=True):
        labels, _ = label(volume >= height, structure)
        extent = np.bincount(labels.ravel()).astype(np.float64)
        extent[0] = 0
        extent[1:] **= E
        out += weight * extent[labels]
    return out
