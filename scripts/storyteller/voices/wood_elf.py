"""wood-elf: a woodland elf with a dark past and a thin disdain for authority."""

from ..grammar import expand, finish
from ..world import pick

OPEN = [
    "Sit down, if you must. I knew {hi} once, {at}, before the king's men came.",
    "You want to hear about {hi}? The trees {at} remember, and so do I.",
]
MIDDLE = [
    "{H} carried {ti}, and no crown ever gave {him} leave. That is why I liked {him}.",
    "{H} and {fi} hid {ti} from the tax collectors, and I kept watch.",
]
CLOSE = [
    "I have done worse things under these branches. Do not ask.",
    "The captain of the guard still looks for us. Let him look. The forest does not take orders.",
]


def answer(kind, scene, rng):
    context = scene.words(rng)
    return finish(" ".join(expand(pick(rng, part), context, rng) for part in (OPEN, MIDDLE, CLOSE)))
