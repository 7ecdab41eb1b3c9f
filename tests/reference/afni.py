"""AFNI's data sets, written with numpy alone: a header of text, and values as shorts with a factor a sub-brick."""

from pathlib import Path

import numpy as np


def _attribute(kind, name, values):
    if kind == "string":
        return f"\ntype = string-attribute\nname = {name}\ncount = {len(values) + 1}\n'{values}~\n"
    return f"\ntype = {kind}-attribute\nname = {name}\ncount = {len(values)}\n " + " ".join(map(str, values)) + "\n"


def write_brik(stem, bricks, labels=(), factors=None, size=3.0, space="MNI"):
    """Write (nx, ny, nz) sub-bricks as stem.HEAD and stem.BRIK; factors of 0 store floats.

    Returns the (nx, ny, nz, n) values that the files stand for.
    """
    bricks = [np.asarray(one, np.float64) for one in bricks]
    n, shape = len(bricks), bricks[0].shape
    factors = [0.0] * n if factors is None else list(factors)
    shorts = any(factors)
    stored = [
        np.round(one / factor).astype("<i2") if shorts else one.astype("<f4")
        for one, factor in zip(bricks, factors, strict=True)
    ]
    Path(f"{stem}.BRIK").write_bytes(b"".join(one.tobytes(order="F") for one in stored))
    kind = 1 if shorts else 3
    text = "".join(
        [
            _attribute("integer", "DATASET_RANK", [3, n, 0, 0, 0, 0, 0, 0]),
            _attribute("integer", "DATASET_DIMENSIONS", [*shape, 0, 0]),
            _attribute("string", "TYPESTRING", "3DIM_HEAD_FUNC"),
            _attribute("integer", "SCENE_DATA", [2, 11, 1, -999, -999, -999, -999, -999]),
            _attribute("integer", "ORIENT_SPECIFIC", [1, 2, 4]),
            _attribute("float", "ORIGIN", [0.0] * 3),
            _attribute("float", "DELTA", [size] * 3),
            _attribute("integer", "BRICK_TYPES", [kind] * n),
            _attribute("float", "BRICK_FLOAT_FACS", factors),
            _attribute("string", "BYTEORDER_STRING", "LSB_FIRST"),
            _attribute("float", "IJK_TO_DICOM_REAL", [size, 0, 0, 0, 0, size, 0, 0, 0, 0, size, 0]),
            _attribute("string", "TEMPLATE_SPACE", space),
            *([_attribute("string", "BRICK_LABS", "~".join(labels))] if labels else []),
        ]
    )
    Path(f"{stem}.HEAD").write_text(text)
    return np.stack([one * (factor or 1.0) for one, factor in zip(stored, factors, strict=True)], axis=-1)
