"""Augmentation of a training picture: crop, flip, rotation, light, cutout.

Each function draws from the generator that it is given, so the result is a function of seed, epoch
and picture alone, whichever process computes it.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance

from embedder.manifest import Fit, Preprocess
from embedder.preprocess import to_square
from trainer.recipe import AugmentRecipe


def augment(
    image: Image.Image, recipe: AugmentRecipe, preprocess: Preprocess, rng: np.random.Generator
) -> Image.Image:
    """Crop and rotate a picture at random, resize it as the network expects, vary the result.

    Args:
        image: Mode RGB, upright, any size.
        recipe: Strength and probability of each variation.
        preprocess: Size, fit and filter of the result.
        rng: Random numbers.

    Returns:
        Mode RGB, ``preprocess.side`` square.
    """
    image = _crop(image, recipe, preprocess.fit, rng)
    flipped = rng.random() < recipe.flip
    if rng.random() < recipe.turn:
        image = _rotate(image, recipe, rng)
    image = to_square(image, preprocess)
    if flipped:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = _change_light(image, recipe, rng)
    if rng.random() < recipe.cutout:
        image = _cut_out(image, recipe, rng)
    return image


def _crop(
    image: Image.Image, recipe: AugmentRecipe, fit: Fit, rng: np.random.Generator
) -> Image.Image:
    """Crop at random: a near square, or with ``SQUASH`` nearly the picture's own proportions.

    So objects keep in training the proportions that they will have when they are embedded.
    """
    if recipe.crop == 1 and recipe.aspect == 1:
        return image
    side = math.sqrt(image.width * image.height * rng.uniform(recipe.crop, 1))
    stretch = math.exp(rng.uniform(-1, 1) * math.log(recipe.aspect) / 2)
    if fit is Fit.SQUASH:
        stretch *= math.sqrt(image.width / image.height)
    width = min(image.width, max(1, round(side * stretch)))
    height = min(image.height, max(1, round(side / stretch)))
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _rotate(image: Image.Image, recipe: AugmentRecipe, rng: np.random.Generator) -> Image.Image:
    """Rotate, shift and zoom around the center; the corners are filled with black."""
    angle = rng.uniform(-recipe.turn_degrees, recipe.turn_degrees)
    if not recipe.shift and not recipe.zoom:
        return image.rotate(angle, Image.Resampling.BILINEAR)
    zoom = 1 + rng.uniform(-recipe.zoom, recipe.zoom)
    right, down = rng.uniform(-recipe.shift, recipe.shift, 2) * image.size
    cos, sin = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    across, along = image.width / 2, image.height / 2
    x, y = across + right, along + down  # where the center goes; the matrix maps back
    matrix = (cos, -sin, across - cos * x + sin * y, sin, cos, along - sin * x - cos * y)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _change_light(
    image: Image.Image, recipe: AugmentRecipe, rng: np.random.Generator
) -> Image.Image:
    """Change brightness, contrast and saturation."""
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


def _cut_out(image: Image.Image, recipe: AugmentRecipe, rng: np.random.Generator) -> Image.Image:
    """Blank a square at random."""
    side = round(image.width * recipe.cutout_side)
    left = int(rng.integers(0, image.width - side + 1))
    top = int(rng.integers(0, image.height - side + 1))
    image = image.copy()
    color = (0, 0, 0) if recipe.cutout_fill == "black" else (124, 116, 104)
    image.paste(color, (left, top, left + side, top + side))
    return image
