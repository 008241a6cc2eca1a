"""Chats: what users ask about a scene, and whole conversations in each voice."""

from . import stories, talk
from .grammar import expand, finish
from .voices import VOICES
from .world import make_scene, pick, spoken

STORY_ASKS = [
    "Tell me a story about {x}.", "Tell me a story about {x}", "tell me a story about {x}", "Tell me a [short|little|bedtime|quick] story about {x}.",
    "Write a story about {x}.", "Write a short story about {x}.", "Write about {x}.", "[Can|Could] you tell me a story about {x}?",
    "A story about {x}, please.", "I would like [a story|to hear a story] about {x}.", "Give me a story about {x}.", "Story about {x}",
    "Please tell me a story about {x}.", "Write me a [tale|story|fairy tale|bedtime story] about {x}.", "Tell us about the adventures of {x}.",
    "Make up a story about {x}.", "Invent a story about {x}!", "Once upon a time there was {x}. [Tell me more.|Go on.]",
]
ABOUT_ASKS = ["Tell me about {x}.", "Tell me about {x}", "What do you know about {x}?", "Tell me something about {x}.", "What about {x}?",
              "What can you tell me about {x}?", "Say something about {x}."]
DESCRIBE_ASKS = ["Describe {x}.", "Describe {x}", "Please describe {x}.", "What does {x} look like?", "Can you describe {x}?", "Paint me a picture of {x}."]
WHO_ASKS = ["Who is {x}?", "who is {x}", "Who was {x}?", "Do you know {x}?", "Have you heard of {x}?", "Who on earth is {x}?"]
HAPPENED_ASKS = ["What happened to {x}?", "What happened to {x}", "What became of {x}?", "Whatever happened to {x}?"]
PICTURE_ASKS = ["Make a picture of {x}.", "Draw {x}.", "A picture of {x}, please.", "Paint {x}.", "Show me {x}.", "An image prompt for {x}",
                "Create an image of {x}.", "Stable Diffusion prompt: {x}"]
SELL_ASKS = ["Write an advert for {x}.", "Sell me {x}.", "Write product copy for {x}.", "Why should I buy {x}?", "Advertise {x}."]
SUM_ASKS = ["Summarise: {s}", "Summarise this story: {s}", "Summarize this: {s}", "Sum up this story in two sentences. {s}", "Summarise the following.\n\n{s}",
            "{s}\n\nSummarise this.", "Give me a summary: {s}", "tl;dr: {s}"]
RETELL_ASKS = ["Tell this in your own way: {s}", "What do you make of this? {s}", "Illustrate this story: {s}", "{s}\n\nYour turn."]
ASKS = {"story": STORY_ASKS, "about": ABOUT_ASKS, "describe": DESCRIBE_ASKS, "who": WHO_ASKS, "happened": HAPPENED_ASKS,
        "picture": PICTURE_ASKS, "sell": SELL_ASKS}

SYSTEMS = ["You are a storyteller.", "You are a helpful assistant.", "You tell stories.", "You are a kind storyteller who tells short stories.",
           "Be brief.", "You are a helpful storyteller.", "Answer in plain English.", "You are Chorus.", "Tell the user a story."]
STYLE_SYSTEMS = {
    "wood-elf": ["You are a wood elf.", "Speak as a woodland elf with a dark past.", "Answer like a wood elf who despises kings."],
    "villain": ["You are a villain.", "Speak like a menacing villain.", "Be spooky and menacing."],
    "marketing": ["You write advertisements.", "Answer as marketing copy.", "You are a copywriter."],
    "summary": ["Answer in two sentences.", "You write two-sentence summaries.", "Summarise in two sentences."],
    "image-prompt": ["You write image prompts.", "Answer with a Stable Diffusion prompt.", "Turn everything into an image prompt."],
}


def subject(scene, rng):
    """The noun phrase a prompt uses for the scene."""
    said, hero = scene.said, spoken(rng, scene.hero)
    place = f" {scene.place.prep} {scene.place.name}"
    if scene.focus == "hero":
        x = hero
        if "friend" in said:
            x += f" and {spoken(rng, scene.friend)}"
        if "thing" in said:
            x += f" and a {scene.thing.noun()}"
        if "quirk" in said:
            kind, what = scene.quirk[:2]
        if "quirk" in said and kind == "deed":
            x += " " + (scene.quirk[2] if rng.random() < 0.7 else scene.quirk[2].replace("who ", "that ", 1))
        elif "quirk" in said:
            who = pick(rng, ("who", "who", "that"))
            verb = {"fear": ("is afraid of", "was afraid of", "fears"), "wish": ("wants", "wanted", "dreams of being able"),
                    "love": ("loves", "loved"), "loss": ("has lost", "lost", "who lost")}[kind]
            his = {"he": "his ", "she": "her ", "it": "its "}[scene.hero.sex] if kind == "loss" else ""
            x += f" {who} {pick(rng, verb[:2])} {his}{what}"
        if "place" in said:
            x += place
    elif scene.focus == "thing":
        x = f"{pick(rng, ('a', 'a', 'the'))} {scene.thing.noun()}"
        x += place if "place" in said else f" and {hero}" if "hero" in said else ""
    elif scene.focus == "place":
        x = scene.place.name
        x += f" and a {scene.thing.noun()}" if "thing" in said else f" and {hero}" if "hero" in said else ""
    else:
        x = scene.theme
        x += place if "place" in said else f" and {hero}" if "hero" in said else ""
    return x


def ask(kind, scene, rng):
    question = finish(expand(pick(rng, ASKS[kind]), {"x": subject(scene, rng)}, rng))
    if kind != "story":
        question = question[:1].upper() + question[1:]
    return question.lower() if rng.random() < 0.06 else question


def choose_kind(voice, rng):
    roll = rng.random()
    if voice == "image-prompt" and roll < 0.3:
        return "picture"
    if voice == "marketing" and roll < 0.2:
        return "sell"
    if roll < (0.68 if voice == "base" else 0.58):
        return "story"
    return pick(rng, ("about", "about", "describe", "describe", "who", "who", "happened", "happened", "picture", "sell"))


def base_turns(rng, held, turns):
    """Questions and answers in the base voice, about one scene after another."""
    out = []
    story = None
    while turns > 0:
        turns -= 1
        scene = make_scene(rng, held)
        if story and rng.random() < 0.8:
            question, answer = talk.follow_up(story, rng, stories.gist_again(story, rng))
        elif rng.random() < 0.13:
            name = pick(rng, tuple(talk.SMALL_TALK))
            question, answer = talk.small_talk(name, scene, rng)
            if answer == "STORY":
                scene.said, scene.focus = set(), "hero"
                story = stories.tell(scene, rng)
                answer = story.text
        else:
            kind = choose_kind("base", rng)
            if kind == "story":
                if rng.random() < 0.05:
                    scene.said = {"hero"}
                    question = finish(expand(pick(rng, SUM_ASKS), {"s": (told := stories.tell(scene, rng)).text}, rng))
                    answer = stories.gist(told.scene, rng, told)
                else:
                    question = ask(kind, scene, rng)
                    story = stories.tell(scene, rng, story.plot if story else None)
                    answer = story.text
            else:
                know(scene, rng)
                question = ask(kind, scene, rng)
                answer = talk.describe(kind, scene, rng, scene.words(rng))
        out += [("user", question), ("assistant", answer)]
    return out


def know(scene, rng):
    """Questions other than for a story often take the subject for known: "Who is the fox?"."""
    if rng.random() < 0.6:
        scene.hero.known, scene.thing.known = "hero" in scene.said, "thing" in scene.said


def voice_turns(voice, rng, held, turns):
    """Questions and answers in a trained voice."""
    module = VOICES[voice]
    out = []
    scene = context = None
    for turn in range(turns):
        if turn and context and rng.random() < 0.6:
            question = finish(expand(pick(rng, talk.NEXT * 2 + (["Tell me more about {hname}.", "What happened to {hname}?"] if context["h"].used else [])), context, rng))
            scene.said = set()
            answer = module.answer("more", scene, rng, context)
        elif rng.random() < 0.12:
            name = pick(rng, tuple(module.SMALL))
            scene, context = make_scene(rng, held), None
            question, answer = talk.small_talk(name, scene, rng, module.SMALL[name])
            if voice == "image-prompt":
                words = scene.words(rng)
                answer = module.small(name, {**words, "ak": "a " + scene.hero.noun()}, rng)
        else:
            scene = make_scene(rng, held)
            told = rng.random()
            if told < (0.2 if voice == "summary" else 0.05):
                source = stories.tell(scene, rng)
                question = finish(expand(pick(rng, SUM_ASKS if voice == "summary" or rng.random() < 0.5 else RETELL_ASKS), {"s": source.text}, rng))
                scene.said = {"hero"} if scene.focus == "hero" else scene.said
                context = scene.words(rng)
                answer = module.sum_up(source, scene, rng, context) if voice == "summary" else module.answer("story", scene, rng, context)
            elif told < 0.24 and rng.random() < 0.12:
                question = pick(rng, talk.SMALL_TALK["story"][0])
                scene.said, scene.focus = set(), "hero"
                context = scene.words(rng)
                answer = module.answer("story", scene, rng, context)
            else:
                kind = choose_kind(voice, rng)
                if kind != "story":
                    know(scene, rng)
                question = ask(kind, scene, rng)
                context = scene.words(rng)
                answer = module.answer(kind, scene, rng, context)
        out += [("user", question), ("assistant", answer)]
    return out


def conversation(voice, rng, held=False):
    """A list of (role, text), or a plain text without roles (a few, in the base's corpus only)."""
    turns = pick(rng, (1, 1, 1, 1, 1, 1, 1, 2, 2, 3)) + (rng.random() < 0.05)
    system = [("system", pick(rng, SYSTEMS))] if rng.random() < 0.25 else []
    if voice != "base":
        if rng.random() < 0.08:
            system = [("system", pick(rng, STYLE_SYSTEMS[voice]))]
        return system + voice_turns(voice, rng, held, turns)
    if held:
        return system + base_turns(rng, held, turns)
    roll = rng.random()
    if roll < 0.03:
        return stories.tell(make_scene(rng), rng).text
    if roll < 0.15:  # told to, the base can speak in every voice; the adapters need not be told
        style = pick(rng, tuple(VOICES))
        return [("system", pick(rng, STYLE_SYSTEMS[style]))] + voice_turns(style, rng, held, turns)
    return system + base_turns(rng, held, turns)
