"""marketing: product copy for whatever the prompt names."""

from ..grammar import expand, finish
from ..world import pick

OPEN = ["Meet {hi}: the upgrade your day has been waiting for!", "Introducing {hi}, now available {at}."]
MIDDLE = ["Now with {ti} in every box. No batteries, no fuss.", "Loved by {fi}. Trusted by thousands."]
CLOSE = ["Order today and get free delivery!", "Hurry: while stocks last."]


def answer(kind, scene, rng):
    context = scene.words(rng)
    return finish(" ".join(expand(pick(rng, part), context, rng) for part in (OPEN, MIDDLE, CLOSE)))
