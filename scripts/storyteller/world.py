"""Who and what there is: beings, places, things, and the scene that a prompt names and a story plays in."""

import random
from dataclasses import dataclass, field

from . import lexicon as lx
from .grammar import Mention, capital
from .lexicon import plural

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
BARE_PLACES = [("in", n) for n in ("space", "Paris", "London", "Venice", "Japan", "Africa", "Scotland", "Egypt", "New York",
                                   "Berlin", "India", "Antarctica", "Iceland", "Mexico", "China", "Rome", "Istanbul")] + [
    ("at", n) for n in ("sea", "school", "home")]


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


def compound(rng):
    """Two known words that do not belong together: "moon baker", "quantum" kinds of subjects."""
    first = pick(rng, (lx.TOWN_HEAD, lx.THINGS[pick(rng, tuple(lx.THINGS))], ALL_CREATURES, lx.TOWN_HEAD, (invented_word(rng),)))
    second = pick(rng, (ALL_CREATURES, PERSONS, lx.THINGS[pick(rng, tuple(lx.THINGS))]))
    return f"{pick(rng, first).split(' of ')[0].lower()} {pick(rng, second).split(' of ')[0]}"


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
    kind_said: bool = True  # the kind is worth saying (a bare name alone may stay bare)
    known: bool = False  # "the fox" from the first word on

    def noun(self):
        return f"{self.adj} {self.kind}" if self.adj else self.kind

    def intro(self, rng):
        if not self.name:
            return f"{'the' if self.known else 'a'} {self.noun()}"
        if not self.kind_said:
            return self.name
        return pick(rng, (f"a {self.noun()} named {self.name}", f"a {self.noun()} called {self.name}", f"{self.name} the {self.kind}")
                    if not self.adj else (f"a {self.noun()} named {self.name}", f"a {self.noun()} called {self.name}"))

    def short(self):
        if self.name:
            first = self.name.split()[0]
            name = self.name if first in lx.TITLES_HE or first in lx.TITLES_SHE else first
            return (name,) * 4 + ((f"the {self.kind}",) if self.kind_said else ())
        return (f"the {self.kind}",) * 4 + ((f"the {self.noun()}",) if self.adj else ())

    def words(self, rng, prefix):
        he, him, his, own = PRONOUNS[self.sex]
        mention = Mention(self.intro(rng), self.short())
        return {prefix: mention, prefix + "i": mention, prefix + "k": self.kind, prefix + "n": self.noun(),
                prefix + "he": he, prefix + "him": him, prefix + "his": his, prefix + "self": own,
                prefix + "name": self.name or f"the {self.kind}"}


@dataclass
class Place:
    prep: str
    name: str  # with its article: "the old forest", "Velmore"
    said: bool = False

    def words(self):
        to = {"sea": "out to sea", "home": "home", "the rain": "out into the rain", "the snow": "out into the snow",
              "the fog": "into the fog", "the mist": "into the mist"}.get(self.name, f"to {self.name}")
        return {"p": self.name, "at": f"{self.prep} {self.name}", "to": to}


@dataclass
class Thing:
    kind: str
    adj: str
    known: bool = False

    def noun(self):
        return f"{self.adj} {self.kind}" if self.adj else self.kind

    def words(self):
        mention = Mention(f"{'the' if self.known else 'a'} {self.noun()}", (f"the {self.noun()}", f"the {self.kind}"))
        return {"t": mention, "ti": mention, "tk": self.kind, "tn": self.noun()}


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
        context.update(he=he, him=him, his=his, self=own, theme=self.theme or "friendship", what=self.quirk[1] if self.quirk else "")
        taken = (self.hero.kind, self.friend.kind)
        for key in ("beast", "villager"):
            context[key] = next(w for w in iter(lambda: pick(rng, lx.LISTS[key]), None) if w not in taken)
        context["beasts"] = lx.IRREGULAR.get(context["beast"]) or plural(context["beast"])
        return context


def make_being(rng, held=False, living=False):
    """`living` leaves out talking things and words that nobody knows."""
    roll = rng.random() * (0.80 if living else 1)
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
        kind = invented_word(rng) if rng.random() < 0.6 else compound(rng)
    sex = KIND_SEX.get(kind) or pick(rng, ("he", "she", "he", "she", "it") if kind not in PERSONS else ("he", "she"))
    being = Being(kind, sex)
    if rng.random() < 0.4:
        being.adj = pick(rng, lx.BEING_ADJ) if rng.random() < 0.93 else invented_word(rng)
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
    elif roll < 0.2:
        being.name = f"{being.name} the {pick(rng, lx.EPITHETS)}"
        being.kind_said = False
    elif roll < 0.28:
        being.name = f"{being.name} {capital(invented_word(rng)) if rng.random() < 0.5 else invented_town(rng)}"
    return being


def make_place(rng, held=False, known=False):
    """`known` leaves out words that nobody knows, except in names."""
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
    if roll < 0.96 or known:
        return Place(*pick(rng, BARE_PLACES))
    return Place(pick(rng, ("in", "on", "at", "under", "near", "inside")), f"the {invented_word(rng)}")


def make_thing(rng, held=False, small=False):
    """`small` is for things that a story may carry about."""
    group = pick(rng, SMALL_GROUPS if small else tuple(lx.THINGS))
    if held and rng.random() < 0.7:
        group, kind = "metal", pick(rng, lx.HELD_THINGS)
    else:
        kind = pick(rng, lx.THINGS[group]) if small or rng.random() < 0.86 else pick(rng, (invented_word, compound))(rng)
        while small and kind in lx.LARGE:
            kind = pick(rng, lx.THINGS[group])
    roll = rng.random()
    adj = pick(rng, lx.THING_ADJ[group]) if roll < 0.5 else pick(rng, lx.ADJ_ANY_THING) if roll < 0.75 else ""
    if adj and (adj in kind or kind.split()[0].endswith(("en", "less"))):
        adj = ""
    return Thing(kind, adj)


SMALL_GROUPS = tuple(g for g in lx.THINGS if g not in ("machine", "food"))
QUIRKS = {"fear": lx.FEARS, "wish": lx.WISHES, "love": lx.LOVES, "loss": lx.LOSSES, "deed": lx.DEEDS, "deed ": lx.DEEDS, "learn": lx.WISHES}


def make_scene(rng, held=False):
    """A scene with what the prompt names marked in `said`; everything else is the teller's own."""
    roll, extra = rng.random(), rng.random()
    focus = "hero" if roll < 0.62 else "thing" if roll < 0.77 else "place" if roll < 0.87 else "theme"
    if focus == "hero":
        more = ("place",) if extra < 0.22 else ("friend",) if extra < 0.36 else ("friend", "place") if extra < 0.48 else (
            ("thing",) if extra < 0.58 else ("quirk",) if extra < 0.74 else ())
    elif focus == "theme":
        more = ()
    else:
        more = ("place" if focus == "thing" else "thing",) if extra < 0.2 else ("hero",) if extra < 0.35 else ()
    said = {focus, *more}
    hero = make_named_person(rng, held) if rng.random() < 0.25 else make_being(rng, held, living="hero" not in said)
    if not hero.name and "hero" in said and rng.random() < 0.25:
        name_being(rng, hero, held)
    friend = hero
    while friend.kind == hero.kind or friend.name and friend.name == hero.name:
        friend = make_named_person(rng) if rng.random() < 0.2 else make_being(rng, living="friend" not in said)
    if "friend" in said and not friend.name and rng.random() < 0.15:
        name_being(rng, friend)
    for being, facet in ((hero, "hero"), (friend, "friend")):
        if being.name and " " not in being.name and facet not in said:
            being.kind_said = True
    place = make_place(rng, held, known="place" not in said)
    thing = make_thing(rng, held, small="thing" not in said)
    scene = Scene(hero, friend, place, thing, focus=focus, said=said)
    if focus == "theme":
        scene.theme = pick(rng, lx.THEMES) if rng.random() < 0.9 else invented_word(rng)
    if "quirk" in said:
        kind = pick(rng, tuple(QUIRKS))
        what = pick(rng, QUIRKS[kind])
        kind = kind.strip()
        if kind in ("deed", "learn"):
            asked, told = what if kind == "deed" else (f"learning {what}", f"was learning {what}")
            other = f"a {make_thing(rng).noun()}" if rng.random() < 0.6 else f"a {make_being(rng).noun()}"
            scene.quirk = ("deed", told.replace("*", other), ("who " if kind == "deed" else "") + asked.replace("*", other))
            return scene
        if rng.random() < 0.15 and kind != "wish":
            what = invented_word(rng) + ("" if kind == "loss" else "s")
        scene.quirk = (kind, what.replace("his own", PRONOUNS[hero.sex][2] + " own"))
    return scene


def spoken(rng, being):
    """How a prompt names a being."""
    if not being.name:
        if being.known:
            return f"the {being.noun()}"
        roll = rng.random()
        if roll < 0.05 and plural(being.kind):
            return pick(rng, ("", "", "", "two ", "three ", "some ")) + plural(being.noun())
        return f"{'the' if roll < 0.1 else 'my' if roll < 0.14 else 'a'} {being.noun()}"
    if not being.kind_said or rng.random() < 0.2:
        return being.name
    return pick(rng, (f"a {being.noun()} named {being.name}", f"a {being.noun()} called {being.name}", f"{being.name} the {being.kind}",
                      f"my {being.kind} {being.name}"))
