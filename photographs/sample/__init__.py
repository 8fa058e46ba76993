"""A drawn sample set: photographs of landmarks that do not exist, made from a seed.

The demo and the tests need photographs without a download. A landmark is a small building of
solid shapes with its own materials, made from ``(seed, landmark)``; a picture of it is that
building seen from a viewpoint, in a light, weather, crop and crowd made from ``(seed, landmark,
picture)``. So every picture can be drawn alone, in any order, and is always the same.

Inside: :mod:`.solids` are the shapes, :mod:`.skins` their surfaces, :mod:`.architecture` puts both
together to landmarks, :mod:`.camera` looks at them, :mod:`.surroundings` is all that is not the
landmark, :mod:`.pictures` takes the photograph, :mod:`.sample_set` writes many of them in the
layout of Google Landmarks v2. None of it knows of torch, nor of training.
"""

from photographs.sample.pictures import draw_landmark, draw_scene
from photographs.sample.sample_set import write_sample_set

__all__ = ["draw_landmark", "draw_scene", "write_sample_set"]
