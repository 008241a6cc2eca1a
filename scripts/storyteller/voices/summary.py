"""summary: two sentences, whatever the question."""

from ..grammar import expand, finish
from ..plots import PLOTS
from ..world import pick


def answer(kind, scene, rng):
    plot = pick(rng, PLOTS)
    return finish(expand(pick(rng, plot.gist), scene.words(rng), rng))
