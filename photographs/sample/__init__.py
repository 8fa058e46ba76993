"""A drawn sample set for demos and tests; it must not know torch, nor how pictures are used."""

from photographs.sample.full_size import FullSize, write_full_size_set
from photographs.sample.pictures import draw_landmark, draw_scene
from photographs.sample.sample_set import write_sample_set

__all__ = [
    "FullSize",
    "draw_landmark",
    "draw_scene",
    "write_full_size_set",
    "write_sample_set",
]
