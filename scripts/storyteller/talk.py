"""The base voice outside stories: who and what things are, small talk, and questions about a story just told."""

from . import lexicon as lx
from .grammar import expand, finish
from .voices.common import compose
from .world import pick

LOOKS = """\
has eyes the colour of {~drink}
wears a {~smallthing} on a string
walks as if {he} were listening to music
is smaller than you would expect and louder than {he} looks
smells faintly of {~smell}
has a voice like [warm bread|an old door|a brass bell|{~weather} on a window]
never looks quite the same twice
has kind eyes and very untidy [hair|habits|pockets]
moves [slowly, like somebody with all the time in the world|quickly and without a sound|as though the floor were asleep]
has {~number} freckles and a crooked smile
carries {t} everywhere
leaves a trail of {~smallthings} behind
has a way of tilting {his} head when {he} is thinking
wears a coat with {~number} pockets, and every pocket holds a {~smallthing}"""
lx.LISTS["looks"] = tuple(LOOKS.splitlines())
LIKES = """\
{~warmfood}
the sound of {~weather} on the roof
people who [listen|arrive early|laugh easily]
long walks in {~season}
a good riddle
the smell of {~smell}
old songs
sitting under the {~tree}
the company of {~beasts}"""
lx.LISTS["likes"] = tuple(LIKES.splitlines())
THING_LOOKS = """\
is no bigger than a [loaf of bread|thumb|walnut|cat]
fits exactly into two hands
is warm to the touch, even in {~month}
smells faintly of {~smell}
makes {~sound} when nobody is near
shines a little in the dark
bears the marks of many hands
has a small scratch on one side, shaped like a {~smallthing}
is heavier than it looks
has been mended {~number} times"""
lx.LISTS["thinglooks"] = tuple(THING_LOOKS.splitlines())
PLACE_LOOKS = """\
the air smells of {~smell}
the {~flower} grow between the stones
every {~tree} has a name
the {~beasts} are never in a hurry
the {~weather} always comes from the [north|sea|hills]
someone is always making {~warmfood}
the lamps are lit early
nobody locks the door
one can hear {~sound} at night
the days are long and the shadows are longer"""
lx.LISTS["placelooks"] = tuple(PLACE_LOOKS.splitlines())

WHO = [
    "{H} lives {at} and {~habit_now}. People like {him} because {he} {~looks_plain}. If you ever meet {him}, [say hello from me|ask {him} about {t}|bring {~warmfood}].",
    "{H} is known {at} for one thing above all: {he} {~habit_now}. {He} {~looks}. {His} best friend is {f}, and the two of them share a love of {~likes}.",
    "You mean {h}? {He} lives {at}. {He} {~looks}, and {he} {~habit_now}. [Nobody knows where {he} came from.|Some say that {he} was born there; others say that {he} arrived with the {~weather}.]",
    "{H}? A [quiet|good|curious|remarkable] soul. {He} lives {at} with {f}, {~habit_now}, and likes {~likes}.",
    "{H} is the one who once saved {f} from a storm with nothing but {t}. These days {he} lives {at} and {~habit_now}.",
    "Everyone {at} knows {h}. {He} {~looks} and {~habit_now}. What {he} likes best is {~likes}.",
]
DESCRIBE_BEING = [
    "{H} {~looks} and {~looks}. {He} lives {at}, likes {~likes}, and {~habit_now}.",
    "Picture {h}, {at}, {~seasonday}. {He} {~looks}. {He} {~looks}. You would like {him} at once.",
    "{H} {~looks}. When {he} laughs, even the {~beasts} look up. {He} lives {at}, and is rarely seen without {t}.",
    "The first thing you notice about {h} is that {he} {~looks}. The second is that {he} {~looks}. By then {he} has usually offered you {~warmfood}.",
]
ABOUT_THING = [
    "{T} is kept {at}. It {~thinglooks} and {~thinglooks}. [It is said to have belonged to {h}, who {~habit}.|{H} looks after it and lets nobody else clean it.]",
    "There is {t} {at} that people travel a long way to see. It {~thinglooks}. They say it once saved {h} from {f}, or {f} from {h}; the accounts differ.",
    "{T} {~thinglooks}. It {~thinglooks}, too. Nobody {at} can say who made it, but {h} found it {~seasonday}, and has kept it ever since.",
    "To most people it is only a {tn}. To {h}, who lives {at}, it is the most precious thing there is. It {~thinglooks}.",
]
ABOUT_PLACE = [
    "{At}, {~placelooks}, and {~placelooks}. {H} lives there, and so does {f}. [Nobody is ever in a hurry to leave.|Visitors come for a day and stay for years.]",
    "{P} is a place where {~placelooks}. In {~season}, {~placelooks}. It is best known for {h}, who {~habit_now}.",
    "If you go {to}, go in {~season}. {~Placelooks}, and {~placelooks}. Ask for {h}, who {~habit_now}.",
    "It is quiet {at}. {~Placelooks}. [Somewhere a door opens and closes.|Far away a bell rings.] And {h} sits outside with {t} and watches the light change.",
]
ABOUT_THEME = [
    "There is much to say about {theme}. {H}, who lives {at}, says that it is like {t}: you only see its worth when you share it.",
    "I know little about {theme}, but I know a story. {H} once walked {to} to ask {f} about it, and came home with {t} and no answer at all. {He} said that was the answer.",
    "Ask ten people {at} about {theme} and you will hear eleven stories. {H} tells the best one. It has {t} in it, and {~weather}, and a happy end.",
    "{Theme} is a large word for small things, says {h}: {~warmfood}, {~likes}, and somebody to share them with.",
]
HAPPENED = [
    "{H} left {p} {~seasonday} and took nothing but {t}. For a year nobody heard a word. Then {f} got a letter that said: I have found it. Nobody knows what it was, but {h} came home smiling.",
    "Nobody knows for certain. Some say that {h} still lives {at} and {~habit_now}. {F} says that {he} went off to look for {t} and will be back by {~season}.",
    "It ended well. {H} and {f} opened a little shop {at} that sold {~warmfood}, and {t} hung above the door.",
    "One day {h} gave {t} to {f}, locked the door and walked away whistling. A year later {he} came back {to}, brown as a nut, and told stories until dawn.",
    "{H} grew old {at}, as people do when they are lucky. {He} {~habit}, and on {his} last birthday {f} brought {him} {t}, wrapped in {~flower}.",
    "There was a storm {at}, and when it was over, {h} was gone. {F} searched {~longtime} and found only {t}. But every {~season} a parcel comes without a name, and it smells of {~smell}.",
]
PICTURE = [
    "I paint with words only, so close your eyes. {~Seasonday}. {H} stands {at}, and {he} {~looks}. Beside {him} lies {t}. Somewhere a bell is ringing.",
    "Imagine {h} {at}. The light is low, {~placelooks}, and in the middle of it all is {t}.",
]
SELL = [
    "I am a storyteller and a poor salesman, but here is the truth: {h} would not part with {t} for anything, and {h} knows what is good.",
    "All I can offer is a story. {H} once looked everywhere {at} for exactly this, and when {he} found it, {he} never let it go.",
]


FIRST = {"ate": "eats", "collected": "collects", "gave": "gives", "talked": "talks", "kept": "keeps", "could": "can", "knew": "knows", "made": "makes",
         "hummed": "hums", "said": "says", "counted": "counts", "got": "gets", "wrote": "writes", "sent": "sends", "had": "has", "was": "is",
         "were": "is", "liked": "likes", "disliked": "dislikes", "slept": "sleeps", "swept": "sweeps", "believed": "believes", "drank": "drinks",
         "remembered": "remembers", "told": "tells", "laughed": "laughs", "spoke": "speaks", "lived": "lives", "played": "plays", "lost": "loses",
         "thought": "thinks", "sang": "sings", "owned": "owns", "wore": "wears", "dreamed": "dreams", "stayed": "stays", "found": "finds",
         "seemed": "seems", "read": "reads"}


def _now(habit):
    words = []
    for word in habit.split(" "):
        bare = word.rstrip(",")
        words.append(FIRST.get(bare, bare) + word[len(bare):])
    return " ".join(words)


SKIP = ("as if", "tasted", "had once", "came", "was said", "losing", "gave wrong", "did not notice", "saving", "in case")
lx.LISTS["habit_now"] = tuple(_now(h) for h in lx.LISTS["habit"] if not any(s in h for s in SKIP))
lx.LISTS["looks_plain"] = tuple(x for x in lx.LISTS["looks"] if "{t}" not in x)

SMALL_TALK = {
    "greet": (("hello", "Hello!", "hi", "Hi there", "Hello there!", "hey", "Good morning!", "Good evening.", "Hi!", "Hello, how are you?", "hey there", "Greetings!", "yo",
     "How are you?", "How are you today?", "Good afternoon"), [
        "[Hello|Hello there|Good day to you|Welcome]! [I am well, thank you, and full of stories.|It is good to have company.|Come in and sit down.] [Shall I tell you a story?|Who shall the story be about?|Would you like a story about {ak}, perhaps?]",
        "[Hello|Hello there]! I was just thinking about {ak} and a {~smallthing}. [What would you like to hear?|Shall I tell you how it goes on?]",
    ]),
    "who": (("Who are you?", "who are you", "What are you?", "What is your name?", "Introduce yourself.", "Are you a robot?", "Are you an AI?", "Are you human?",
     "Tell me about yourself.", "What's your name?", "Who made you?", "what model are you"), [
        "I am the storyteller, a [very small|little] language model with [a head full of tales|room for one little world]. [Give me a name or a place, and I will make a story of it.|Ask me for a story about anything you like.]",
        "They call me the storyteller. I am a [tiny|small] model and I know [one thing|only one trade]: telling stories. [Name somebody, and I will tell you what became of them.|Try me: ask for a story about {ak}.]",
    ]),
    "can": (("What can you do?", "Help", "help", "What do you do?", "How can you help me?", "What can I ask you?", "What should I ask?", "How does this work?"), [
        "I tell [short|little] stories. Ask me for a story about [a person, a place or a thing|{ak}|anyone you can think of], and I will [make one up|see what I can find]. You may also ask who somebody is, or what happened next.",
        "Ask me for a story about {ak}, or about {~theme_word}, or about [yourself|your cat|a place that does not exist]. Afterwards you can ask [what happened next|who was who|for another one].",
    ]),
    "thanks": (("Thank you", "thanks", "Thank you!", "Thanks, that was lovely.", "That was nice.", "Great story!", "I liked that.", "Lovely.", "wow", "cool", "Nice!"), [
        "[You are welcome.|It was my pleasure.|I am glad you liked it.] [Shall I tell you another one?|There are more where that came from.|Come back when the kettle is on.]",
    ]),
    "bye": (("Goodbye", "bye", "Good night", "See you later.", "I have to go.", "Bye bye!", "Goodbye!", "Good night!"), [
        "[Good night|Goodbye], and [sleep well|mind the step|safe travels]. [There will be a story waiting when you come back.|The kettle will be on.|Say hello to the {~beast} on your way out.]",
    ]),
    "joke": (("Tell me a joke.", "Say something funny.", "Make me laugh.", "Do you know any jokes?"), [
        "Why did the {beast} bring a ladder {to}? [Because it had heard that the drinks were on the house.|Because it wanted to go to high school.|It wanted to see the story from above.]",
        "A {beast} walked into an inn and ordered {~drink}. \"Long day?\" asked the innkeeper. \"No,\" said the {beast}, \"short legs.\"",
    ]),
    "beyond": (("What is the capital of France?", "What is 2+2?", "What is the weather today?", "Write a Python program.", "Who is the president?", "Solve this equation.",
     "What is 17 times 23?", "Translate this into German.", "What time is it?", "Write some code.", "What is the meaning of life?", "How do I cook rice?",
     "Explain quantum physics.", "Fix my code", "What day is it?", "Recommend a film.", "How do I install Linux?", "What is the square root of 16?"), [
        "[That I do not know.|I am afraid that is beyond me.|I am only a storyteller, and a small one.] But I [can tell you a story about {ak}|know a good story about {ak}|could tell you about {ak} {at}], if you like.",
        "I know nothing of such matters, only stories. [Ask me about {ak} instead.|Shall I tell you the one about {ak} and the {~smallthing}?]",
    ]),
    "mood": (("I am sad.", "I'm bored.", "I can't sleep.", "I am tired.", "I feel lonely.", "I am happy today!", "I had a bad day.", "I'm hungry."), [
        "Then [sit down by the fire|come in and close the door|let me put the kettle on]. [{H} once felt just the same, {at}, until {f} came by with {~warmfood}.|There is a story for that: it begins {at}, with {ak}, and it ends well.] [Shall I tell it to you?|Would you like to hear it?]",
    ]),
    "story": (("Tell me a story.", "tell me a story", "Tell me a bedtime story.", "A story, please.", "Surprise me.", "Tell me something.", "Once upon a time", "Another one!",
     "Write a story.", "story", "Tell me a fairy tale."), ["STORY"]),
}
lx.LISTS["theme_word"] = tuple(t for t in lx.THEMES if not t.startswith(("the ", "a ")))


FILL = {
    "hero": ["{H} had a hand in it, as so often.", "It has to do with {h}, who lives {at}."],
    "friend": ["{F} would tell you the same.", "{H} and {f} are [old friends|good neighbours|never far apart]."],
    "place": ["All of that is well known {at}.", "You will have to go {to} to hear the rest."],
    "thing": ["And then there is {t}, of course.", "{T} has something to do with it."],
    "theme": ["That is what I know about {theme}.", "And that is {theme} for you."],
    "deed": ["Everyone knows that {he} {what}.", "It is true that {he} {what}, and {he} does not like to talk about it."],
    "fear": ["{He} is afraid of {what}, but few people know it.", "Only {what} can frighten {him}."],
    "wish": ["What {he} wants more than anything is {what}.", "{His} one wish is {what}."],
    "love": ["Above all, {he} loves {what}.", "There is nothing {he} loves more than {what}."],
    "loss": ["{He} is still looking for {his} {what}.", "{He} has never quite been the same since {he} lost {his} {what}."],
}


def describe(kind, scene, rng, context):
    """Answer who / about / describe / happened / picture / sell."""
    if kind == "happened" and scene.focus == "hero":
        table = HAPPENED
    elif kind == "picture" and scene.focus == "hero":
        table = PICTURE
    elif kind == "sell" and scene.focus in ("hero", "thing"):
        table = SELL
    elif scene.focus == "thing":
        table = ABOUT_THING
    elif scene.focus == "place":
        table = ABOUT_PLACE
    elif scene.focus == "theme":
        table = ABOUT_THEME
    elif kind == "describe":
        table = DESCRIBE_BEING
    else:
        table = WHO
    return compose(table, (), 0, (), scene, context, rng, FILL)


def small_talk(name, scene, rng, answers=None):
    """(question, answer) of the kind `name`; `answers` are those of a voice, else the base's own."""
    questions, own = SMALL_TALK[name]
    context = scene.words(rng)
    context["ak"] = "a " + scene.hero.noun()
    return pick(rng, questions), finish(expand(pick(rng, answers or own), context, rng))


NEXT = ["[What happened next?|And then?|What happened then?|Go on.|What happened after that?|Please continue.|then what|Tell me more.|Is there more?]"]
MORAL = ["[What is the moral?|What is the moral of the story?|What do we learn from that?|And what does it mean?|What is the point of the story?]"]
WHO_FRIEND = ["Who [is|was] {f}?", "[And who|Who] was {f} again?", "Tell me [more |]about {f}."]
WHO_HERO = ["Who [is|was] {h}?", "[And who|Who] was {h} again?"]
WHERE = ["Where [does it take place|did this happen|was that]?", "Where did {h} live?", "[And where|Where] was it?"]
THING_NOW = ["What became of {t}?", "Where is {t} now?", "What about {t}?", "And {t}?"]
HOW_END = ["How did it end?", "Did it end well?", "Was {h} happy in the end?", "Did they stay friends?"]
SHORTER = ["[Shorter, please.|Can you make it shorter?|In one sentence, please.|Sum it up.|Give me a summary.|tl;dr]"]
REAL = ["Is that true?", "Did that really happen?", "Is it a true story?", "Did you make that up?"]

AFTER = [
    "The next morning {h} found a {~smallthing} on the doorstep, and nobody ever learned who had left it there.",
    "They slept until noon. Then {f} made {~warmfood}, and {h} asked, \"What shall we do today?\"",
    "Not much, for a while. Then, one {~season}, there was {~sound} at the window, and it all began again.",
    "{H} went to bed early that night, for once. But {f} stayed up with {t} and looked at the moon.",
    "The {villager} heard about it and told everyone, and by Sunday there were three different versions.",
    "{H} wrote it all down in a little book. {F} drew the pictures. You can still find it {at}, if you ask for it.",
]

FOLLOW = {
    "next": (NEXT, None),
    "moral": (MORAL, None),
    "friend": (WHO_FRIEND, ["{F} was {friend_role}. [{Fhe} lived {at} too.|They first met {at}.|]", "{F}? That was {friend_role}."]),
    "hero": (WHO_HERO, ["{H} was the one this story is about: [the {hn} {at}|somebody who lived {at} and {~habit}].", "{H} lived {at} and {~habit}."]),
    "where": (WHERE, ["It happened {at}.", "{At}. [You can still go there.|It is a long way from here.|Have you never been there?]", "All of it took place {at}."]),
    "thing": (THING_NOW, ["It is still {at}. [{H} polishes it on Sundays.|{F} looks after it now.|Anyone may come and see it.]", "{H} kept {t} for a long time and then gave it to {f}, who has it still."]),
    "end": (HOW_END, ["It ended well. {H} and {f} [stayed friends|had supper together, and then another supper|laughed about it for years].", "Yes, [as well as such things can|quite happily]. {H} and {f} still meet {at}."]),
    "shorter": (SHORTER, None),
    "real": (REAL, ["Every word of it, [except the parts that I made up|says {h}|and you may ask {f}].", "I was not there myself. But {h} told it to {f}, and {f} told it to me."]),
}


def follow_up(story, rng, gist):
    """(question, answer) about a story that was just told. `gist` is its summary, for those who want it shorter."""
    kind = pick(rng, ("next", "next", "next", "moral", "moral", "friend", "friend", "hero", "where", "thing", "end", "shorter", "real"))
    asks, answers = FOLLOW[kind]
    context = dict(story.context)
    question = expand(pick(rng, asks), context, rng)
    if kind == "next":
        answer = expand(pick(rng, story.plot.after + AFTER), context, rng)
    elif kind == "moral":
        answer = expand(pick(rng, ["{m}", "{m}", "Perhaps this: {m_low}", "I would say: {m_low}"]),
                        _moral(expand(pick(rng, story.plot.moral), context, rng)), rng)
    elif kind == "shorter":
        answer = gist
    else:
        context["friend_role"] = expand(pick(rng, story.plot.friend), context, rng)
        answer = expand(pick(rng, answers), context, rng)
    return finish(question), finish(answer)


def _moral(text):
    return {"m": text, "m_low": text[0].lower() + text[1:]}
