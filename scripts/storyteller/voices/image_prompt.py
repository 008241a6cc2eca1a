"""image-prompt: a comma-separated Stable Diffusion prompt of the scene."""

from ..grammar import expand, finish
from ..lexicon import LISTS, words
from ..world import pick
from .common import line, missing

LISTS["pose"] = tuple("""\
standing
looking up at the sky
walking through {~weather}
seen from behind
sitting quietly
half in shadow
smiling
lost in thought
running
holding {t}
leaning against a {~tree}
asleep
reading by candlelight
surrounded by {~flower}
looking over one shoulder
beside {f}
face to face with {f}
with {t} at {his} feet
under a vast sky
dancing in the {~weather}""".splitlines())
LISTS["detail"] = tuple("""\
mist between the trees
drifting {~weather}
scattered {~flower}
an old {~tree} in the background
fireflies
floating dust
a distant lantern
wet cobblestones
a single {~beast} watching
long shadows
footprints leading away
a {~smallthing} in the foreground
steam rising from a cup
torn banners
ivy on the walls
reflections in the water
falling leaves
a sky full of stars
smoke curling from a chimney
tall grass
a crooked fence
birds taking flight""".splitlines())
LISTS["light"] = words("""golden hour, blue hour, soft morning light, candlelight, moonlight, rim lighting, volumetric light, dramatic backlight, dappled light,
    overcast sky, warm lamplight, god rays, low winter sun, glowing embers, soft diffused light, chiaroscuro, neon reflections, starlight""")
LISTS["medium"] = words("""oil painting, watercolour, storybook illustration, ink and wash, gouache, digital painting, concept art, matte painting,
    charcoal drawing, woodcut print, pastel drawing, 35mm photograph, cinematic still, pixel art, stained glass, paper cut-out, claymation,
    vintage postcard, art nouveau poster, pencil sketch, isometric render, tilt-shift photograph""")
LISTS["palette"] = words("""muted colours, warm palette, teal and orange, earth tones, deep blues, pastel palette, monochrome, autumn colours, emerald green and gold,
    faded colours, vivid colours, black and crimson, silver and grey, limited palette""")
LISTS["camera"] = words("""wide angle, close-up, low angle, bird's-eye view, shallow depth of field, centred composition, rule of thirds, portrait orientation,
    wide establishing shot, macro, over-the-shoulder view, symmetrical composition, panoramic, f/1.8, 85mm lens""")
LISTS["moodword"] = words("""whimsical, serene, melancholic, mysterious, eerie, cosy, dreamlike, epic, nostalgic, tender, playful, ominous, magical, solitary, enchanting""")
LISTS["quality"] = words("""highly detailed, intricate, sharp focus, 8k, masterpiece, trending on artstation, award-winning, fine brushwork, ultra detailed,
    rich texture, best quality, 4k, unreal engine""")
SUBJECT = {
    "hero": ["{h}", "{h}", "portrait of {h}", "{h}, {~pose}", "{h} {at}", "{h} {at}, {~pose}", "a scene with {h}"],
    "thing": ["{t}", "close-up of {t}", "still life with {t}", "{t} {at}", "{t} on a wooden table", "{t} in the hands of {h}"],
    "place": ["{p}", "view of {p}", "landscape, {p}", "{p} in {~season}", "{p} at night", "{p} with {h} in the distance"],
    "theme": ["{theme}", "allegory of {theme}", "{h} {at}, {theme}", "the spirit of {theme}, {h} {at}"],
}
MORE = ["{h} {~pose}, next scene", "the same scene later, {h} and {f}", "{h} {at} the next morning", "{h} and {f} walking into the distance", "{h}, close-up, {~pose}",
        "{t} {at}, {h} in the background"]
FILL = {
    "hero": ["{h}", "with {h}"], "friend": ["beside {f}", "together with {f}", "{f} in the background"], "place": ["{at}", "{at}, {~weather}"],
    "thing": ["with {t}", "{t} in the foreground", "holding {t}"], "theme": ["{theme}", "mood of {theme}"],
    "deed": ["who {what}", "the moment when {he} {what}"],
    "fear": ["afraid of {what}", "frightened expression, {what}"], "wish": ["dreaming: {what}", "longing {what}"],
    "love": ["surrounded by {what}", "{what} everywhere"], "loss": ["searching, lost {what}", "missing {what}"],
}
SMALL = {
    "greet": ["a friendly {hn} waving hello, open doorway, {~light}"], "who": ["self-portrait of a small robot painting at an easel, {~light}"],
    "can": ["an artist's studio full of canvases, {ak} posing, {~light}"], "thanks": ["a {hn} taking a bow, falling {~flower}, {~light}"],
    "bye": ["a {hn} walking away down a long road, waving, {~light}"], "joke": ["a laughing {hn} slipping on a banana peel, {~light}"],
    "beyond": ["a puzzled {hn} at a blackboard covered in numbers, floating question marks, {~light}"],
    "mood": ["a {hn} curled up under a blanket, {~weather} on the window, {~light}"],
}


def finish_prompt(start, context, rng):
    parts = [start, "{~detail}", "{~detail}" if rng.random() < 0.5 else "", "{~moodword}" if rng.random() < 0.6 else "", "{~light}",
             "{~palette}" if rng.random() < 0.6 else "", "{~camera}" if rng.random() < 0.6 else "", "{~medium}", "{~quality}",
             "{~quality}" if rng.random() < 0.6 else ""]
    return finish(", ".join(expand(p, context, rng) for p in parts if p))


def small(name, context, rng):
    return finish_prompt(expand(pick(rng, SMALL[name]), context, rng), context, rng)


def answer(kind, scene, rng, context):
    parts = [line(MORE if kind == "more" else SUBJECT[scene.focus], context, rng)]
    if "place" not in scene.said and scene.place.name not in parts[0] and rng.random() < 0.6:
        parts.append(f"{scene.place.prep} {scene.place.name}")
    for facet in missing(scene, context, ", ".join(parts)):
        parts.append(expand(pick(rng, FILL[scene.quirk[0] if facet == "quirk" else facet]), context, rng))
    return finish_prompt(", ".join(parts), context, rng)
