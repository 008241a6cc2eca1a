"""Tell a scene as a story in the base voice."""

from dataclasses import dataclass

from . import openings, plots
from .grammar import expand, finish
from .world import Scene, name_being, pick


@dataclass
class Story:
    text: str
    plot: plots.Plot
    scene: Scene
    context: dict  # the words as the story used them; everybody has been introduced
    track: set


def opening(scene, context, rng):
    said = scene.said
    if "quirk" in said:
        table = openings.QUIRK_OPENINGS[scene.quirk[0]]
    elif "friend" in said and scene.focus == "hero" and rng.random() < 0.6:
        table = openings.PAIR_OPENINGS
    else:
        table = {"thing": openings.THING_OPENINGS, "place": openings.PLACE_OPENINGS, "theme": openings.THEME_OPENINGS}.get(
            scene.focus, openings.OPENINGS)
    return expand(pick(rng, table), context, rng)


def choose_plot(scene, rng, avoid=None):
    if "quirk" in scene.said and scene.quirk[0] != "deed" and rng.random() < 0.85:
        return pick(rng, plots.QUIRK_PLOTS[scene.quirk[0]])
    while (plot := pick(rng, plots.PLOTS)) is avoid:
        pass
    return plot


def on_track(options, track, rng):
    """Choose a text that fits the track so far: (text without its mark, track from here on)."""
    while True:
        text = pick(rng, options)
        if not text.startswith("@"):
            return text, track
        mark, _, text = text.partition(" ")
        both = set(mark[1:]) & track if track else set(mark[1:])
        if both:
            return text, both


def tell(scene, rng, avoid=None):
    plot = choose_plot(scene, rng, avoid)
    for being, chance in ((scene.hero, 0.5), (scene.friend, 0.2)):
        if not being.name and rng.random() < chance:
            name_being(rng, being)
    context = scene.words(rng)
    paragraphs = [opening(scene, context, rng)]
    breaks = pick(rng, ((1, 3), (0, 2, 3), (2,), (1, 2), (1, 3), (2, 3)))
    track = set()
    for i, beat in enumerate(plot.beats):
        text, track = on_track(beat, track, rng)
        text = expand(text, context, rng)
        if i in breaks:
            paragraphs.append(text)
        else:
            paragraphs[-1] += " " + text
    endings = openings.THEME_ENDINGS if "theme" in scene.said and rng.random() < 0.7 else openings.ENDINGS
    ending = expand(pick(rng, endings), context, rng)
    if rng.random() < 0.5:
        paragraphs.append(ending)
    else:
        paragraphs[-1] += " " + ending
    return Story(finish("\n\n".join(paragraphs)), plot, scene, context, track)


def gist(scene, rng, story=None):
    """Two sentences. Of `story`, or of one that this scene might have become."""
    plot = story.plot if story else choose_plot(scene, rng)
    text, _ = on_track(plot.gist, story.track if story else set(), rng)
    return finish(expand(text, scene.words(rng), rng))


def gist_again(story, rng):
    """The summary of a story whose names the reader knows already."""
    text, _ = on_track(story.plot.gist, story.track, rng)
    return finish(expand(text, dict(story.context), rng))
