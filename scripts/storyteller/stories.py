"""Tell a scene as a story in the base voice."""

from . import plots
from .grammar import expand, finish
from .world import name_being, pick


def opening(scene, context, rng):
    if "quirk" in scene.said:
        kind, what = scene.quirk
        context["what"] = what
        return expand(pick(rng, plots.QUIRK_OPENINGS[kind]), context, rng)
    table = {"thing": plots.THING_OPENINGS, "place": plots.PLACE_OPENINGS, "theme": plots.THEME_OPENINGS}.get(scene.focus)
    return expand(pick(rng, table or plots.OPENINGS), context, rng)


def tell(scene, rng):
    """Returns (text, plot, context of words as the story used them)."""
    plot = pick(rng, plots.PLOTS)
    hero = scene.hero
    if not hero.name and rng.random() < 0.55:
        name_being(rng, hero)
    context = scene.words(rng)
    paragraphs = [opening(scene, context, rng)]
    breaks = {1, len(plot.beats)} if rng.random() < 0.6 else {2, len(plot.beats)}
    for i, beat in enumerate(plot.beats):
        text = expand(pick(rng, beat), context, rng)
        if i in breaks:
            paragraphs.append(text)
        else:
            paragraphs[-1] += " " + text
    endings = plots.THEME_ENDINGS if "theme" in scene.said and rng.random() < 0.7 else plots.ENDINGS
    ending = expand(pick(rng, endings), context, rng)
    if rng.random() < 0.6:
        paragraphs.append(ending)
    else:
        paragraphs[-1] += " " + ending
    return finish("\n\n".join(paragraphs)), plot, context
