"""A subject's folder as FreeSurfer has it, on a small mesh, and stacked maps."""

import nibabel as nib
import numpy as np

from reference.meshes import icosphere


def write_subject(folder, hemi="lh", n_splits=2):
    """Write surf/?h.white, the cortex (all but the lowest vertices) and an annotation of two halves.

    Returns coordinates, faces and which vertices are cortex.
    """
    points, faces = icosphere(n_splits)
    for name in ("surf", "label"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    nib.freesurfer.write_geometry(str(folder / "surf" / f"{hemi}.white"), points, faces)
    points = nib.freesurfer.read_geometry(str(folder / "surf" / f"{hemi}.white"))[0]
    cortex = points[:, 2] > -35
    rows = [f"{v} {x:.3f} {y:.3f} {z:.3f} 0.0" for v, (x, y, z) in enumerate(points) if cortex[v]]
    text = "\n".join([f"#!ascii label, from subject {folder.name}", str(len(rows)), *rows, ""])
    (folder / "label" / f"{hemi}.cortex.label").write_text(text)
    halves = (points[:, 0] > 0).astype(np.int32)
    colours = np.array([[25, 5, 25, 0], [120, 60, 20, 0]], np.int32)
    nib.freesurfer.write_annot(str(folder / "label" / f"{hemi}.aparc.annot"), halves, colours, ["behind", "before"])
    return points, faces, cortex


def write_stack(path, maps):
    """Write (n_maps, n_vertices) values, a frame a map."""
    data = np.ascontiguousarray(np.asarray(maps, np.float32).T[:, None, None, :])
    nib.save(nib.MGHImage(data[..., 0] if len(maps) == 1 else data, np.eye(4)), path)


def read_mgh(path):
    """(n_vertices,) or (n_vertices, n_maps) values of an overlay."""
    image = nib.MGHImage.from_bytes(path.read_bytes())
    return np.squeeze(np.asarray(image.dataobj))
