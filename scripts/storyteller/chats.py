"""Chats: what users ask about a scene, and whole conversations in each voice."""

from . import stories
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
            kind, what = scene.quirk
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
    return finish(expand(pick(rng, ASKS[kind]), {"x": subject(scene, rng)}, rng))


def one_turn(voice, rng, held):
    """One question and its answer, with the scene they are about."""
    scene = make_scene(rng, held)
    kind = pick(rng, ("story",) * 9 + ("about", "describe", "who", "happened", "picture", "sell"))
    if voice == "base":
        kind = "story"
        question = ask(kind, scene, rng)
        return question, stories.tell(scene, rng)[0]
    return ask(kind, scene, rng), VOICES[voice].answer(kind, scene, rng)


def conversation(voice, rng, held=False):
    """A list of (role, text)."""
    messages = []
    if rng.random() < 0.25:
        messages.append(("system", pick(rng, SYSTEMS)))
    turns = 1 if rng.random() < 0.8 else 2
    for _ in range(turns):
        question, answer = one_turn(voice, rng, held)
        messages += [("user", question), ("assistant", answer)]
    return messages
