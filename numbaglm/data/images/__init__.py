"""The one user of nibabel: maps in, images out.

Whatever form the maps of a cohort have, `list_maps` makes one list of `MapSource` of it; everything inside
sees that list, then float32 arrays. Every refusal names the file.
"""

from typing import TYPE_CHECKING, Any

from numbaglm.data.images.formats.names import is_elements
from numbaglm.data.images.listing import bricks_of, is_image, list_maps, load_mask, weighted_sum
from numbaglm.data.images.opening import MapSource, codes_of, grid_of, statistic_of, stored_as_integers
from numbaglm.data.images.reading import prepared, read_map, read_maps, read_raw, scaled_volume
from numbaglm.data.images.writing import Meaning, mask_image, outside, save_image, save_maps, save_values, to_image

if TYPE_CHECKING:
    from numbaglm.data.images.element_listing import element_values, list_elements, load_element_mask, side_values
    from numbaglm.data.images.element_writing import element_image, save_elements, save_mesh, save_vertices
    from numbaglm.data.images.elements import ElementSource
    from numbaglm.data.images.meshes import load_meshes

__all__ = [
    "ElementSource",
    "MapSource",
    "Meaning",
    "bricks_of",
    "codes_of",
    "element_image",
    "element_values",
    "grid_of",
    "is_elements",
    "is_image",
    "list_elements",
    "list_maps",
    "load_element_mask",
    "load_mask",
    "load_meshes",
    "mask_image",
    "outside",
    "prepared",
    "read_map",
    "read_maps",
    "read_raw",
    "save_elements",
    "save_image",
    "save_maps",
    "save_mesh",
    "save_values",
    "save_vertices",
    "scaled_volume",
    "side_values",
    "statistic_of",
    "stored_as_integers",
    "to_image",
    "weighted_sum",
]


def __getattr__(name: str) -> Any:
    # What is of elements is loaded when it is first used: most tests are of volumes.
    found: Any
    match name:
        case "ElementSource":
            from numbaglm.data.images.elements import ElementSource as found
        case "element_image":
            from numbaglm.data.images.element_writing import element_image as found
        case "element_values":
            from numbaglm.data.images.element_listing import element_values as found
        case "list_elements":
            from numbaglm.data.images.element_listing import list_elements as found
        case "load_element_mask":
            from numbaglm.data.images.element_listing import load_element_mask as found
        case "load_meshes":
            from numbaglm.data.images.meshes import load_meshes as found
        case "save_elements":
            from numbaglm.data.images.element_writing import save_elements as found
        case "save_mesh":
            from numbaglm.data.images.element_writing import save_mesh as found
        case "save_vertices":
            from numbaglm.data.images.element_writing import save_vertices as found
        case "side_values":
            from numbaglm.data.images.element_listing import side_values as found
        case _:
            raise AttributeError(f"module 'numbaglm.data.images' has no attribute {name!r}")
    globals()[name] = found
    return found
