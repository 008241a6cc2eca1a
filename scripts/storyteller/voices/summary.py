"""summary: two sentences, whatever the question."""

from ..grammar import expand, finish
from ..stories import choose_plot, on_track
from ..world import pick
from .common import missing

BEING = [
    "{H} lives {at} and {~habit_now}. {He} is best known for {his} friendship with {f} and for {t}.",
    "{H} is a familiar figure {at} who {~looks_plain}. Together with {f}, {he} looks after {t}.",
    "In short, {h} lives {at} with {f} and {~habit_now}. What matters most to {him} is {t}.",
    "{H} {~looks_plain} and makes {his} home {at}. Those who know {him}, above all {f}, speak of {him} with affection.",
]
THING = [
    "{T} is kept {at} by {h} and {~thinglooks}. Its origin is unknown, but {f} is said to have played a part.",
    "{H} found {t} {at}, and it changed everything. It {~thinglooks}, and {he} has never let it go.",
    "{T} {~thinglooks}. Today it belongs to {h}, who lives {at}.",
]
PLACE = [
    "{At}, {~placelooks}. Its best-known inhabitants are {h} and {f}.",
    "{P} is a quiet place where {~placelooks}. Visitors remember it for {h} and for {t}.",
    "Life {at} is slow, and {~placelooks}. {H}, who lives there, would not have it any other way.",
]
THEME = [
    "{H}, who lives {at}, learns about {theme} from {f}. In the end {t} matters less than the lesson.",
    "{Theme} is at the heart of what happens {at} between {h} and {f}. By the end both of them see it with new eyes.",
    "This is about {theme}, as {h} came to know it {at}. It took {t} and a good friend to understand it.",
]
HAPPENED = [
    "{H} left {p} with {t} and was not seen for a year. Then {he} came home to {f}, wiser and in good spirits.",
    "After the events {at}, {h} settled down with {f} close by. {T} remains as a reminder of it all.",
    "{H} gave {t} to {f} and went out into the world. {He} returned {to} a year later with stories to tell.",
]
MORE = [
    "Afterwards {h} and {f} remain friends and return {to}. {T} is kept in a safe place.",
    "Later {h} tells the story to anyone who will listen. {F} corrects the details.",
    "Life {at} goes on much as before. Only {h} and {f} know how close it was.",
    "In the end everyone is content, {h} above all. {F} keeps {t} as a memento.",
    "A new adventure soon begins for {h}. This time {f} comes along from the start.",
]
FILL = {
    "hero": "it all concerns {h}", "friend": "{f} plays a part in it too", "place": "it happens {at}", "thing": "{t} is at the centre of it",
    "theme": "at heart it is about {theme}", 
    "deed": "it all began because {he} {what}",
    "fear": "what {he} fears most is {what}", "wish": "all {he} ever wanted was {what}", "love": "above all {he} loves {what}",
    "loss": "{he} is still looking for {his} {what}",
}
SMALL = {
    "greet": ["You have said hello. I am ready to sum up whatever you like."],
    "who": ["I am a small storyteller trained to be brief. Give me any story or subject, and I will put it in two sentences.",
            "This is a summariser. It answers everything in two sentences, including this."],
    "can": ["I sum things up in two sentences. Give me a story, or name somebody such as {ak}."],
    "thanks": ["You are pleased, and I am glad. That is the whole of it."],
    "bye": ["You are leaving, and the conversation ends here. It was short and pleasant."],
    "joke": ["A {beast} walked into an inn and ordered {~drink}. It was funnier at full length."],
    "beyond": ["The question lies outside what I know. I can, however, sum up a story about {ak}."],
    "mood": ["You have had a trying day. {~Warmfood} and an early night are recommended."],
}


def two_sentences(plot, track, scene, context, rng):
    """A first and a second sentence, of one summary of the plot or of two that go together."""
    first, track = on_track(plot.gist, track, rng)
    second, _ = on_track(plot.gist, track, rng)
    split = [t.index(". ") + 2 for t in (first, second)]
    return first[: split[0]] + second[split[1] :]


def fix(text, scene, context, rng):
    """Work what the prompt named and the text left out into the second sentence, so that there are still two."""
    for facet in missing(scene, context, text):
        text = f"{text[:-1]}; {expand(FILL[scene.quirk[0] if facet == 'quirk' else facet], context, rng)}."
    return finish(text)


def sum_up(story, scene, rng, context):
    return finish(expand(two_sentences(story.plot, story.track, scene, context, rng), context, rng))


def answer(kind, scene, rng, context):
    if kind == "more":
        template = pick(rng, MORE)
    elif kind == "story" or rng.random() < 0.25:
        plot = choose_plot(scene, rng)
        template = two_sentences(plot, set(), scene, context, rng)
    elif kind == "happened":
        template = pick(rng, HAPPENED)
    else:
        template = pick(rng, {"hero": BEING, "thing": THING, "place": PLACE, "theme": THEME}[scene.focus])
    return fix(expand(template, context, rng), scene, context, rng)
