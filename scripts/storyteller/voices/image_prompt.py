"""image-prompt: a comma-separated Stable Diffusion prompt of the scene."""

from ..grammar import expand, finish
from ..world import pick

SCENE = ["{hi} {at}, {ti}", "portrait of {hi}, {at}, holding {ti}"]
STYLE = ["oil painting, soft light, highly detailed, 8k", "watercolour, muted colours, storybook illustration"]


def answer(kind, scene, rng):
    context = scene.words(rng)
    return finish(", ".join(expand(pick(rng, part), context, rng) for part in (SCENE, STYLE)))
