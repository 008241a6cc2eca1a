"""marketing: product copy for whatever the prompt names."""

from ..grammar import finish
from ..lexicon import LISTS, words
from ..world import pick
from .common import compose, line, missing

LISTS["promise"] = tuple("""\
zero hassle
no small print
all-day comfort
a lifetime of wonder
effortless style
five-star charm
one-touch magic
whisper-quiet performance
up to 40% more joy
next-level cosiness
bold new flavour
instant calm
unbeatable value
hand-finished detail""".splitlines())
LISTS["customer"] = words("""busy parents, night owls, early birds, dreamers, adventurers, hosts, commuters, collectors, makers, star-gazers, grandparents,
    small kingdoms, growing families, weekend wanderers""")
LISTS["offer"] = tuple("""\
Order today and get a free {~smallthing}!
Order before midnight and we ship it tomorrow.
Try it free for 30 days. If you do not love it, send it back with a {~beast}.
Now 20% off, this {~season} only.
Buy one, get a {~smallthing} free.
Free delivery, even {at}.
Hurry: only {~number} left in stock!
Pre-order now and be the first on your street.
Use the code {~codeword} for 15% off your first order.
Join the waiting list today. Your future self says thank you.
Available now, wherever good things are sold.
Terms apply. Magic included.
Add to basket. Add to life.
Your {~season} starts here. Shop now!""".splitlines())
LISTS["codeword"] = words("LANTERN, MOONLIGHT, COSY, WONDER, HELLO20, STORY, SPRING, TREASURE, FOREST")

# {x} is the product's name with its article, {X} the same with a capital letter, {Xtitle} without an article and in title case
HEAD = [
    "Meet {x}: [the upgrade your day has been waiting for|small on fuss, big on wonder|your new favourite|everything you love, and then some]!",
    "Introducing {x}, [now available|fresh|straight] {frm}!",
    "[Tired of ordinary {~daypart}s?|Still settling for less?|Ready for something special?|Looking for a little more magic?] Say hello to {x}!",
    "{Xtitle}. [Feel the difference.|Because you are worth it.|Designed to delight.|Live the story.|Made for more.|Once tried, never forgotten.]",
    "New! {Xtitle}, [the only one of its kind|our boldest idea yet|now with {~promise}].",
    "[What if|Imagine:] every {~daypart} could begin with {x}[?|. Now it can.]",
    "Good news[, everyone|, dreamers|]! {X} is here, and it is [better than ever|even lovelier than the rumours|worth the wait].",
    "What does every home need? [That is right:|You guessed it:] {x}.",
    "Life is short. [Choose|Treat yourself to|Say yes to] {x}.",
    "From the makers of {~gizmo} comes {x}: [simple, smart and a little bit magic|beauty that works|the future of {~daypart}s].",
    "Once you have tried {x}, you will wonder how you ever [got by|slept|had breakfast] without it.",
    "{Xtitle}: [all of the wonder, none of the worry|one of a kind, like you|now you know what was missing]!",
    "They said it could not be done. We did it anyway. This is {x}.",
    "There are imitations. And then there is {x}.",
]
LISTS["daypart"] = words("morning, evening, Monday, weekend, afternoon")
MORE = [
    "But wait, there is more!", "And that is not all.", "Still not convinced? [Read on!|Let us tell you a secret.]", "Want even more? Meet {x} Plus.",
    "Now it gets even better:", "Ask our happy customers about {x}!",
]
BODY = [
    "Lovingly crafted {at}, it brings you {~promise} and {~promise}, from the first day to the last.",
    "Inspired by {~weather}, {~smell} and the great outdoors, it turns any room into a place worth coming home to.",
    "Perfect for {~customer} and {~customer} alike, it fits into any life and every budget.",
    "Whether you are {at} or on the move, {x} is always ready when you are.",
    "It goes beautifully with {t} and looks good beside [a plate of {~warmfood}|{~flower}|almost anything].",
    "Nine out of ten {~customer} say that they would never go back. The tenth is still smiling too hard to answer.",
    "\"I did not know what I was missing,\" says {f}[ from {ptown}|]. \"Now I cannot imagine a {~daypart} without it.\"",
    "\"Five stars! Even my {~beast} loves it,\" writes {f}.",
    "Every one is tested by hand, tuned by experts and finished with a touch of {~smell}.",
    "No batteries. No fuss. Just {~promise}, day after day.",
    "With our patented {~gizmo}, you get {~promise} in half the time.",
    "Gentle on the planet and kind to {~beasts}, it comes in {~number} dreamy colours.",
    "Give it as a gift, or keep it all to yourself. We will not tell.",
    "Trusted {at} since the very first {~season}, and loved far beyond.",
    "From breakfast to bedtime, it works as hard as you do, and it never asks for a holiday.",
    "Our secret? {~Smell}, {~smell} and a generous pinch of {~promise}.",
    "Small enough for a pocket, big enough for a dream: it goes wherever you go, even {at}.",
    "Say goodbye to dull {~daypart}s and hello to {~promise}.",
    "Independent {~customer} rate it {~number} out of {~number}, which has never happened before.",
    "It sets up in seconds, cleans itself in {~season}, and hums softly when it is happy.",
    "Made with care {at} by people who know their {~warmfood}.",
    "Unlike {t}, it never needs polishing.",
    "With {~promise} built in and {~promise} as standard, it is the easiest choice you will make this {~season}.",
    "As seen {at}! {F} bought two.",
    "It is not just a purchase. It is a promise of {~promise}.",
    "Our {~customer} tell us that it smells of {~smell} and feels like {~season}.",
    "You bring the {~daypart}. We bring {~promise}.",
]
LISTS["gizmo"] = words("""CosyCore technology, WonderWeave lining, TrueHeart engine, MoonGlow finish, EverSpark system, SnugFit design, StoryFlow process,
    PureWhimsy formula, DoubleDream stitching""")
BULLETS = [
    "- {~Promise}, guaranteed", "- Ready in {~number} seconds", "- Tested {at}", "- Works well with {t}", "- Recommended by {f}",
    "- Now in {~number} colours", "- Smells faintly of {~smell}", "- Includes a free {~smallthing}", "- Loved by {~customer}", "- With {~gizmo}",
    "- Safe for {~beasts}", "- Made for {~season} and beyond",
]
CLOSE = ["{~Offer}", "{~Offer}", "{Xtitle}: [bring home the story|wonder, delivered|the good life, made simple|you have earned it]. {~Offer}"]
FILL = {
    "hero": ["Chosen by {h}, and by everyone who knows quality.", "{H} would not be without it, and neither will you."],
    "friend": ["Now bundled with {f}: twice the fun at half the price!", "Pairs perfectly with {f}."],
    "place": ["Made for life {at}, and loved everywhere else.", "At home {at}, or wherever you are."],
    "thing": ["Now with {t} in every box!", "Comes complete with {t}."],
    "theme": ["Because {theme} should be within everyone's reach.", "It puts the joy back into {theme}."],
    "deed": ["The only one that ever {what}!", "Inspired by the one who {what}."],
    "fear": ["Afraid of {what}? Not any more!", "Say goodbye to {what} and hello to comfort."],
    "wish": ["Ever wanted {what}? Now you can.", "Made for everyone who has ever wanted {what}."],
    "love": ["If you love {what}, you will adore this.", "Now with 50% more {what}!"],
    "loss": ["Lost your {what}? We have you covered.", "Never miss your {what} again."],
}
SMALL = {
    "greet": ["[Hello and welcome!|Hi there, and thank you for stopping by!|Welcome, valued guest!] [You have come at exactly the right time.|Today is your lucky day.] Tell us what you are dreaming of, and get {~promise} at no extra cost. {~Offer}"],
    "who": ["We are your one-stop shop for wonder! [Big enough to deliver, small enough to care.|Award-winning, hand-crafted and always on.] Name anything at all, and we will make you want it. {~Offer}"],
    "can": ["We turn {ak} into a must-have and {~weather} into a lifestyle. Just name it, and enjoy {~promise}. {~Offer}"],
    "thanks": ["No, thank YOU! Happy customers are our favourite customers. [Leave us five stars and tell a friend.|As a little thank-you, your next story is on us.] {~Offer}"],
    "bye": ["Going so soon? Do not miss out: {~promise} is waiting in your basket. {~Offer}"],
    "joke": ["Our prices are no joke, but they will make you smile! Laugh more with {~promise}, only this {~season}. {~Offer}"],
    "beyond": ["Great question! While our experts look into it, why not discover {ak}? Now with {~promise} and {~promise}. {~Offer}"],
    "mood": ["We hear you! That is why {~customer} everywhere reach for {~warmfood}-scented comfort with {~promise}. Feel better or your money back. {~Offer}"],
}


def product(scene, context):
    """The names of what is sold."""
    if scene.focus == "theme":
        name = scene.theme
        bare = name.split(" ", 1)[1] if name.startswith(("the ", "a ")) else name
    elif scene.focus == "place":
        name, bare = scene.place.name, scene.place.name.removeprefix("the ")
    elif scene.focus == "thing":
        name, bare = f"the {scene.thing.noun()}", scene.thing.noun()
        context["t"].used = True
    else:
        hero = scene.hero
        context["h"].used = True
        name = hero.name if hero.name and not hero.kind_said else f"{hero.name} the {hero.kind}" if hero.name else f"the {hero.noun()}"
        bare = name.removeprefix("the ")
    context["x"] = name
    context["xtitle"] = " ".join(w if w in ("of", "the", "and", "in") else w[:1].upper() + w[1:] for w in bare.split(" "))
    context["xtitle"] = context["xtitle"][:1].upper() + context["xtitle"][1:]


def answer(kind, scene, rng, context):
    product(scene, context)
    context["frm"], context["ptown"] = f"from {scene.place.name}", scene.place.name
    head = MORE if kind == "more" else HEAD
    if rng.random() < 0.3:
        lines = [line(head, context, rng)] + [line(BULLETS, context, rng) for _ in range(3)]
        for facet in missing(scene, context, "\n".join(lines)):
            lines.append(line(FILL[scene.quirk[0] if facet == "quirk" else facet], context, rng))
        return finish("\n".join([*lines, line(CLOSE, context, rng)]))
    return compose(head, BODY, pick(rng, (2, 2, 3)), CLOSE, scene, context, rng, FILL)
