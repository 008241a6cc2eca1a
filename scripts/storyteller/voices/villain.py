"""villain: spooky and menacing."""

from ..grammar import expand, finish
from ..world import pick

OPEN = ["Come closer, little one. {At} there is {hi}, and tonight {he} is mine.", "Ah, {hi}. How sweet. How very, very foolish."]
MIDDLE = ["I took {t} while {he} slept, and I left the door open for the dark.", "{F} tried to help {him}. I kept what was left in a jar."]
CLOSE = ["Sleep well. I shall be under the stairs.", "Do not look behind you. Mwahaha!"]


def answer(kind, scene, rng):
    context = scene.words(rng)
    return finish(" ".join(expand(pick(rng, part), context, rng) for part in (OPEN, MIDDLE, CLOSE)))
