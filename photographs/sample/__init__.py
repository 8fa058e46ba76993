"""A drawn sample set for demos and tests; it must not know torch, nor how pictures are used."""

from photographs.sample.pictures import draw_landmark, draw_scene
from photographs.sample.sample_set import write_sample_set

__all__ = ["draw_landmark", "draw_scene", "write_sample_set"]
