"""The one user of nibabel: maps in, images out.

Whatever form the maps of a cohort have, `list_maps` makes one list of `MapSource` of it; everything inside
sees that list, then float32 arrays. Every refusal names the file.
"""

from numbaglm.data.images.listing import is_image, list_maps, load_mask
from numbaglm.data.images.opening import MapSource, codes_of, grid_of
from numbaglm.data.images.reading import prepared, read_map, read_maps, read_raw
from numbaglm.data.images.writing import Meaning, mask_image, outside, save_image, save_maps, to_image

__all__ = [
    "MapSource",
    "Meaning",
    "codes_of",
    "grid_of",
    "is_image",
    "list_maps",
    "load_mask",
    "mask_image",
    "outside",
    "prepared",
    "read_map",
    "read_maps",
    "read_raw",
    "save_image",
    "save_maps",
    "to_image",
]
