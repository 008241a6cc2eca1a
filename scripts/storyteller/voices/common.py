"""What the voices share: compose an answer of lines, and make sure that it mentions everything the prompt named."""

import functools
import re

from ..grammar import expand, finish
from ..world import pick

_HERO = re.compile(r"\{[hH]i?\}")
_FRIEND = re.compile(r"\{[fF]i?\}")
_HERO_PRONOUN = re.compile(r"\{([hH]e|him|[hH]is|self|hname)\}")
_FRIEND_PRONOUN = re.compile(r"\{([fF]he|fhim|[fF]his|fname)\}")


@functools.cache
def leans_on(template):
    """Whether the template uses a pronoun of hero, friend before it names them."""
    out = []
    for name, pronoun in ((_HERO, _HERO_PRONOUN), (_FRIEND, _FRIEND_PRONOUN)):
        said, stands = name.search(template), pronoun.search(template)
        out.append(bool(stands and not (said and said.start() < stands.start())))
    return tuple(out)


def missing(scene, context, text):
    """The facets that the prompt named and the text has not."""
    left = []
    for facet in sorted(scene.said):
        if facet == "place":
            named = scene.place.name.lower() in text.lower()
        elif facet == "theme":
            named = scene.theme.lower() in text.lower()
        elif facet == "quirk":
            named = scene.quirk[1] in text
        else:
            named = context[{"hero": "h", "friend": "f", "thing": "t"}[facet]].used
        if not named:
            left.append(facet)
    return left


def line(pool, context, rng):
    """A template of the pool that this conversation has not had and that leans on nobody unknown, expanded."""
    had = context.setdefault("_lines", set())
    for _ in range(20):
        template = pick(rng, pool)
        hero, friend = leans_on(template)
        if template in had or hero and not context["h"].used or friend and not context["f"].used:
            continue
        break
    had.add(template)
    return expand(template, context, rng)


def compose(opening, body, count, closing, scene, context, rng, fillers):
    """An opening, `count` lines of the body, what the prompt named and nobody has mentioned yet, a closing."""
    out = [line(opening, context, rng)] + [line(body, context, rng) for _ in range(count)]
    for facet in missing(scene, context, " ".join(out)):
        out.append(line(fillers[scene.quirk[0] if facet == "quirk" else facet], context, rng))
    if closing:
        out.append(line(closing, context, rng))
    return finish(" ".join(out))
