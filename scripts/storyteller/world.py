"""Who and what there is: beings, places, things, and the scene that a prompt names and a story plays in."""

import random
from dataclasses import dataclass, field

from . import lexicon as lx
from .grammar import capital

PRONOUNS = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "her", "herself"),
    "it": ("it", "it", "its", "itself"),
}
KIND_SEX = {**{k: "he" for k in lx.ROLES_HE}, **{k: "she" for k in lx.ROLES_SHE}}
KIND_SEX.update({"hen": "she", "cow": "she", "mermaid": "she", "stag": "he", "cockerel": "he", "ram": "he", "witch": "she",
                 "fairy": "she", "wizard": "he", "snowman": "he", "nymph": "she", "banshee": "she", "ballerina": "she",
                 "clockwork man": "he", "leprechaun": "he", "cowboy": "he"})
ALL_CREATURES = [k for ks in lx.CREATURES.values() for k in ks]
PERSONS = lx.ROLES_HE + lx.ROLES_SHE + lx.ROLES_ANY
ALL_PLACES = [(prep, name) for prep, names in lx.PLACES.items() for name in names]
BARE_PLACES = [("in", n) for n in ("space", "Paris", "London", "Venice", "Japan", "Africa", "winter", "Scotland", "Egypt", "New York",
                                   "Berlin", "India", "Antarctica", "Iceland", "Mexico", "China", "Rome", "Istanbul")] + [
    ("at", n) for n in ("sea", "school", "home", "night", "Christmas", "midnight", "dawn")]


def pick(rng, seq):
    return seq[int(rng.random() * len(seq))]


def invented_word(rng):
    """A pronounceable word that no list holds, so that the model learns to copy what it has never seen."""
    parts = [pick(rng, lx.SYLLABLE_START)]
    for i in range(pick(rng, (1, 2, 2, 2, 3))):
        if i:
            parts.append(pick(rng, lx.SYLLABLE_START))
        parts.append(pick(rng, lx.SYLLABLE_MID))
        if rng.random() < 0.35:
            parts.append(pick(rng, lx.SYLLABLE_END))
    word = "".join(parts)
    return word if len(word) > 3 else word + pick(rng, lx.SYLLABLE_END)


def invented_town(rng):
    return pick(rng, lx.TOWN_HEAD) + pick(rng, lx.TOWN_TAIL) if rng.random() < 0.6 else capital(invented_word(rng))


def first_name(rng, sex, held=False):
    if held and rng.random() < 0.8:
        return pick(rng, lx.HELD_NAMES_SHE if sex == "she" else lx.HELD_NAMES_HE)
    if rng.random() < 0.3:
        return capital(invented_word(rng))
    return pick(rng, lx.NAMES_SHE if sex == "she" else lx.NAMES_HE)


@dataclass
class Being:
    kind: str  # "fox", "baker", "girl"; never empty
    sex: str  # he, she, it
    name: str = ""  # "" if nobody says one
    adj: str = ""
    said: str = ""  # how the prompt names it; "" if the prompt leaves it to the teller
    kind_said: bool = True  # the kind is worth saying (a bare name alone may stay bare)

    def noun(self):
        return f"{self.adj} {self.kind}" if self.adj else self.kind

    def intro(self, rng):
        if not self.name:
            return f"a {self.noun()}"
        if not self.kind_said:
            return self.name
        return pick(rng, (f"a {self.noun()} named {self.name}", f"a {self.noun()} called {self.name}", f"{self.name} the {self.kind}")
                    if not self.adj else (f"a {self.noun()} named {self.name}", f"a {self.noun()} called {self.name}"))

    def short(self):
        if self.name:
            return (self.name,) * 4 + ((f"the {self.kind}",) if self.kind_said else ())
        return (f"the {self.kind}",) * 4 + ((f"the {self.noun()}",) if self.adj else ())

    def words(self, rng, prefix):
        he, him, his, own = PRONOUNS[self.sex]
        return {prefix: self.short(), prefix + "i": self.intro(rng), prefix + "k": self.kind, prefix + "n": self.noun(),
                prefix + "he": he, prefix + "him": him, prefix + "his": his, prefix + "self": own,
                prefix + "name": self.name or f"the {self.kind}"}


@dataclass
class Place:
    prep: str
    name: str  # with its article: "the old forest", "Velmore"
    said: bool = False

    def words(self):
        return {"p": self.name, "at": f"{self.prep} {self.name}", "to": f"to {self.name}"}


@dataclass
class Thing:
    kind: str
    adj: str
    said: str = ""

    def noun(self):
        return f"{self.adj} {self.kind}" if self.adj else self.kind

    def words(self):
        return {"t": (f"the {self.noun()}", f"the {self.kind}"), "ti": f"a {self.noun()}", "tk": self.kind, "tn": self.noun()}


@dataclass
class Scene:
    hero: Being
    friend: Being
    place: Place
    thing: Thing
    theme: str = ""  # said in the prompt, if not empty
    quirk: tuple = ()  # ("fear", "the dark"), ("wish", "to fly"), ("love", "music"), ("loss", "hat") if the prompt names one
    focus: str = "hero"  # what the prompt is about: hero, thing, place, theme
    said: set = field(default_factory=set)  # facets that the prompt names: hero friend place thing theme quirk

    def words(self, rng):
        context = {**self.hero.words(rng, "h"), **self.friend.words(rng, "f"), **self.place.words(), **self.thing.words()}
        he, him, his, own = PRONOUNS[self.hero.sex]
        context.update(he=he, him=him, his=his, self=own, theme=self.theme or "friendship")
        return context


def make_being(rng, held=False):
    roll = rng.random()
    if held and roll < 0.5:
        kind = pick(rng, lx.HELD_CREATURES)
    elif roll < 0.47:
        kind = pick(rng, ALL_CREATURES)
    elif roll < 0.80:
        kind = pick(rng, PERSONS)
    elif roll < 0.88:
        group = pick(rng, tuple(lx.THINGS))
        kind = pick(rng, lx.THINGS[group])
        if " of " in kind:
            kind = "teapot"
    else:
        kind = invented_word(rng)
    sex = KIND_SEX.get(kind) or pick(rng, ("he", "she", "he", "she", "it") if kind not in PERSONS else ("he", "she"))
    being = Being(kind, sex)
    if rng.random() < 0.4:
        being.adj = pick(rng, lx.BEING_ADJ)
        if being.adj in kind or kind.split()[0] in lx.BEING_ADJ:
            being.adj = ""
    return being


def name_being(rng, being, held=False):
    if being.sex == "it":
        being.sex = pick(rng, ("he", "she"))
    being.name = first_name(rng, being.sex, held)


def make_named_person(rng, held=False):
    sex = pick(rng, ("he", "she"))
    being = Being(pick(rng, (lx.ROLES_SHE if sex == "she" else lx.ROLES_HE) + lx.ROLES_ANY), sex, kind_said=rng.random() < 0.6)
    being.name = first_name(rng, sex, held)
    roll = rng.random()
    if roll < 0.15:
        being.name = f"{pick(rng, lx.TITLES_SHE if sex == 'she' else lx.TITLES_HE)} {being.name}"
        being.kind_said = False
    elif roll < 0.25:
        being.name = f"{being.name} {capital(invented_word(rng)) if rng.random() < 0.5 else invented_town(rng)}"
    return being


def make_place(rng, held=False):
    if held and rng.random() < 0.7:
        prep, name = pick(rng, lx.HELD_PLACES)
        return Place(prep, f"the {name}")
    roll = rng.random()
    if roll < 0.62:
        prep, name = pick(rng, ALL_PLACES)
        if rng.random() < 0.35 and " " not in name and name not in ("rain", "snow", "fog"):
            name = f"{pick(rng, lx.PLACE_ADJ)} {name}"
        return Place(prep, f"the {name}")
    if roll < 0.78:
        return Place("in", invented_town(rng))
    if roll < 0.88:
        kind = pick(rng, ("village", "town", "harbour", "kingdom", "valley", "forest", "city", "castle", "caves", "gardens", "land"))
        return Place("in", f"the {kind} of {invented_town(rng)}")
    if roll < 0.92:
        return Place("on", f"the {pick(rng, ('island', 'hill', 'moor', 'shores'))} of {invented_town(rng)}")
    if roll < 0.96:
        return Place(*pick(rng, BARE_PLACES))
    return Place(pick(rng, ("in", "on", "at", "under", "near", "inside")), f"the {invented_word(rng)}")


def make_thing(rng, held=False):
    group = pick(rng, tuple(lx.THINGS))
    if held and rng.random() < 0.7:
        group, kind = "metal", pick(rng, lx.HELD_THINGS)
    else:
        kind = pick(rng, lx.THINGS[group]) if rng.random() < 0.88 else invented_word(rng)
    roll = rng.random()
    adj = pick(rng, lx.THING_ADJ[group]) if roll < 0.5 else pick(rng, lx.ADJ_ANY_THING) if roll < 0.75 else ""
    if adj and (adj in kind or kind.split()[0].endswith(("en", "less"))):
        adj = ""
    return Thing(kind, adj)


QUIRKS = {"fear": lx.FEARS, "wish": lx.WISHES, "love": lx.LOVES, "loss": lx.LOSSES}


def make_scene(rng, held=False):
    """A scene with what the prompt names marked in `said`; everything else is the teller's own."""
    roll = rng.random()
    focus = "hero" if roll < 0.62 else "thing" if roll < 0.77 else "place" if roll < 0.87 else "theme"
    hero = make_named_person(rng, held) if rng.random() < 0.25 else make_being(rng, held)
    friend = make_named_person(rng) if rng.random() < 0.2 else make_being(rng)
    while friend.kind == hero.kind or friend.name and friend.name == hero.name:
        friend = make_being(rng)
    scene = Scene(hero, friend, make_place(rng, held), make_thing(rng, held), focus=focus)
    said = scene.said
    if focus == "hero":
        said.add("hero")
        if not hero.name and rng.random() < 0.25:
            name_being(rng, hero, held)
        extra = rng.random()
        if extra < 0.22:
            said.add("place")
        elif extra < 0.36:
            said.add("friend")
        elif extra < 0.48:
            said.update(("friend", "place"))
        elif extra < 0.58:
            said.add("thing")
        elif extra < 0.74:
            said.add("quirk")
            kind = pick(rng, tuple(QUIRKS))
            what = pick(rng, QUIRKS[kind])
            if rng.random() < 0.15 and kind in ("fear", "love", "loss"):
                what = invented_word(rng) if kind == "loss" else invented_word(rng) + "s"
            scene.quirk = (kind, what.replace("his own", PRONOUNS[hero.sex][2] + " own"))
    elif focus == "theme":
        said.add("theme")
        scene.theme = pick(rng, lx.THEMES) if rng.random() < 0.9 else invented_word(rng)
    else:
        said.add(focus)
        extra = rng.random()
        if extra < 0.2:
            said.add("place" if focus == "thing" else "thing")
        elif extra < 0.35:
            said.add("hero")
    if "friend" in said and not friend.name and rng.random() < 0.15:
        name_being(rng, friend)
    for being in (hero, friend):
        if being.name and ("hero" if being is hero else "friend") not in said and rng.random() < 0.8:
            being.kind_said = True
    return scene


def spoken(rng, being):
    """How a prompt names a being."""
    if not being.name:
        return f"a {being.noun()}"
    if not being.kind_said:
        return being.name
    options = [f"a {being.noun()} named {being.name}", f"a {being.noun()} called {being.name}", f"{being.name} the {being.kind}"]
    if rng.random() < 0.3:
        return being.name
    return pick(rng, options)
