"""Random variations of a training picture: crop, turn, mirror, light, a blanked square.

Each function takes its randomness from the generator it is given, so a picture's variation is a
function of seed, epoch and picture alone, whichever process makes it.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance

from embedder.manifest import Fit, Preprocess
from embedder.preprocess import to_square
from trainer.recipe import AugmentRecipe


def augment(
    image: Image.Image, recipe: AugmentRecipe, target: Preprocess, rng: np.random.Generator
) -> Image.Image:
    """Vary one picture.

    Args:
        image: Mode RGB, upright, any size.
        recipe: What may happen to it.
        target: Size, fit and filter of the result.
        rng: Where the chance comes from.

    Returns:
        Mode RGB, ``target.side`` square.
    """
    image = to_square(_crop(image, recipe, target, rng), target)
    if rng.random() < recipe.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < recipe.turn:
        image = _move(image, recipe, rng)
    image = _change_light(image, recipe, rng)
    if rng.random() < recipe.cutout:
        image = _cut_out(image, recipe.cutout_side, rng)
    return image


def _crop(
    image: Image.Image, recipe: AugmentRecipe, target: Preprocess, rng: np.random.Generator
) -> Image.Image:
    """Cut a random part out, a near square unless the picture is to be squashed whole.

    Training sees what embedding will see: proportions are kept where ``fit`` keeps them.
    """
    if recipe.crop == 1 and recipe.aspect == 1:
        return image
    side = math.sqrt(image.width * image.height * rng.uniform(recipe.crop, 1))
    stretch = math.exp(rng.uniform(-1, 1) * math.log(recipe.aspect) / 2)
    if target.fit is Fit.SQUASH:
        stretch *= math.sqrt(image.width / image.height)
    width = min(image.width, max(1, round(side * stretch)))
    height = min(image.height, max(1, round(side / stretch)))
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _move(image: Image.Image, recipe: AugmentRecipe, rng: np.random.Generator) -> Image.Image:
    """Turn, shift and zoom around the center; what comes in from outside is black."""
    angle = rng.uniform(-recipe.turn_degrees, recipe.turn_degrees)
    if not recipe.shift and not recipe.zoom:
        return image.rotate(angle, Image.Resampling.BILINEAR)
    zoom = 1 + rng.uniform(-recipe.zoom, recipe.zoom)
    right, down = rng.uniform(-recipe.shift, recipe.shift, 2) * image.width
    cos, sin = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    center = image.width / 2
    x, y = center + right, center + down  # where the center goes; the matrix leads back
    matrix = (cos, -sin, center - cos * x + sin * y, sin, cos, center - sin * x - cos * y)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _change_light(
    image: Image.Image, recipe: AugmentRecipe, rng: np.random.Generator
) -> Image.Image:
    enhancers = (
        (ImageEnhance.Brightness, recipe.brightness),
        (ImageEnhance.Contrast, recipe.contrast),
        (ImageEnhance.Color, recipe.saturation),
    )
    for enhancer, strength in enhancers:
        factor = rng.uniform(1 - strength, 1 + strength)
        if strength:
            image = enhancer(image).enhance(factor)
    return image


def _cut_out(image: Image.Image, part: float, rng: np.random.Generator) -> Image.Image:
    side = round(image.width * part)
    left = int(rng.integers(0, image.width - side + 1))
    top = int(rng.integers(0, image.height - side + 1))
    image = image.copy()
    image.paste((124, 116, 104), (left, top, left + side, top + side))
    return image
