"""How stories begin and end. Names in templates as in plots.py."""

from .lexicon import LISTS

OPENINGS = [
    "[Once|Once upon a time|Long ago|Years ago], {at}, there lived {h}[ who {~habit}|].",
    "There was once {h} {at} who {~habit}.",
    "{At} lived {h}[, who {~habit}|]. [Everybody knew {him}, and nobody knew {him} well.|It was a quiet life, and {he} liked it that way.|Nothing much ever happened there, until it did.]",
    "{H} had lived {at} for as long as anyone could remember[, and {~habit}|].",
    "If you had gone {to} [in those days|that year|back then], you would have met {h}, who {~habit}.",
    "Nobody {at} paid much attention to {h}[, who {~habit}|].",
    "This is the story of {h}, who lived {at} and {~habit}.",
    "{At}, where the air smelled of {~smell}, there lived {h}[ who {~habit}|].",
    "[People still talk about|They still tell of] {h} {at}[, who {~habit}|].",
    "{H} came {to} [with nothing but a suitcase|on the back of a hay cart|one {~season}, by mistake] and stayed. [{He} {~habit}.|]",
    "They say that {at} there lived {h}, who {~habit}. [I cannot say if it is true.|I believe it.|It may well be true.]",
    "Once, when [the winters were longer|the moon was closer|people still wrote letters], there lived {h} {at}.",
    "In a small house {at} lived {h}. [{He} {~habit}.|The roof leaked, and the kettle sang.|]",
    "Some mornings begin like any other. On one such morning {at}, {h} was [counting {~smallthings}|looking for the other sock|having {~drink}].",
    "Everybody {at} had a story to tell, except {h}, who {~habit}. This is how {he} got one.",
    "Of all who ever lived {at}, none was quite like {h}. {He} {~habit}.",
    "You will not have heard of {h}. {He} lived {at} and {~habit}.",
    "\"Nothing ever happens {at},\" sighed {h}, who {~habit}.",
]
PAIR_OPENINGS = [
    "{At} there lived {h} and {f}. [They had never exchanged a word.|They were as different as salt and sugar.|They knew each other only by sight.]",
    "This is the story of {h} and {f}, and of what happened to them {at}.",
    "Once upon a time there were {h} and {f}, and they lived {at}, not far from each other.",
    "Long ago, {at}, {h} and {f} crossed paths. [Neither of them was looking for the other.|Here is how it came about.]",
    "{H} lived at one end, and {f} lived at the other. That is how things were {at}.",
]
THING_OPENINGS = [
    "There was once {t} {at}. It belonged to {h}, who {~habit}.",
    "This is the story of {t}, and of {h}, who came upon it {at}.",
    "{T} stood {at}, waiting for somebody to notice it. In the end it was {h} who did[, a soul who {~habit}|].",
    "Of all the things {at}, the strangest was {t}. It had come into the hands of {h}, who {~habit}.",
    "[Nobody knew|No one could say] who had made {t}. It had always been {at}, in the care of {h}, who {~habit}.",
    "Some things are only things. But {t}, which {h} found {at}, was something more.",
    "Once there was {t}, and it had a story. The story began {at}, with {h}, who {~habit}.",
    "{At} lived {h}, who owned nothing worth mentioning except {t}.",
]
PLACE_OPENINGS = [
    "{At}, [people wake early and talk little|every door has a story behind it|the evenings are long and smell of {~smell}]. That is where {h} lived.",
    "There is a story they tell {at}. It is about {h}, who {~habit}.",
    "Everything that happens {at} happens slowly, except this. It began with {h}, who {~habit}.",
    "Have you ever been {to}? Then you may have heard of {h}, who {~habit}.",
    "They say that nobody who comes {to} leaves as they came. It was certainly true of {h}.",
    "Long before there were any maps of {p}, {h} lived there and {~habit}.",
]
THEME_OPENINGS = [
    "This is a story about {theme}. {At} there lived {h}, who {~habit}.",
    "They say you cannot explain {theme}, only tell a story about it. So: {at} there lived {h}.",
    "What is there to say about {theme}? Only this: {at} there once lived {h}, who {~habit}.",
    "{H} knew nothing about {theme}. {He} lived {at} and {~habit}, and that seemed enough.",
    "\"Tell me about {theme},\" the children {at} used to beg, and {h} always told them this.",
]
QUIRK_OPENINGS = {
    "fear": [
        "There was once {h} {at} who was afraid of {what}. [Not a little afraid, either: the very thought of it made {his} knees shake.|{He} hid it well, but it never went away.|Everybody knew it, and everybody was kind about it, which made it worse.]",
        "{H} lived {at} and was afraid of nothing in the world, except {what}.",
        "{At} lived {h}, and {h} had a secret: {he} was afraid of {what}.",
    ],
    "wish": [
        "There was once {h} {at} who wanted {what} more than anything. [Everybody said it could not be done.|{He} had wanted it since {he} was small.|{He} told nobody, because wishes are shy.]",
        "{At} lived {h} with a single wish: {what}.",
        "{H} lived {at}. Every evening {he} said the same thing: \"All I want is {what}.\"",
    ],
    "love": [
        "There was once {h} {at} who loved {what} above all things. [It was the first thing {he} thought of in the morning and the last at night.|Other people found it odd, and {he} did not mind.]",
        "{H} lived {at} and loved {what}, and that is how all of this began.",
    ],
    "deed": [
        "There was once {h} {at} who {what}.",
        "[Once|Once upon a time|Long ago], {at}, there lived {h} who {what}. [Here is how it came about.|That is not the strange part of it.|{He} also {~habit}.|]",
        "This is the story of {h}, who lived {at} and who {what}.",
        "They still tell of {h} {at}, who {what}. [It happened like this.|I believe every word.|]",
        "{At} lived {h}, who {what}. [Nobody could understand it.|Everybody talked about it.|It could have happened to anyone.|]",
    ],
    "loss": [
        "There was once {h} {at} who had lost {his} {what}. [{He} had looked everywhere that made sense, and then everywhere that did not.|It is a strange thing to lose, and {he} missed it every day.]",
        "One morning {at}, {h} woke up and found that {his} {what} was gone.",
    ],
}
HABITS = """\
collected {~smallthings} and gave every one a name
talked to the {~weather} as if it were an old friend
kept a {~smallthing} in {his} pocket for luck
could never sleep when the {~tree} was in leaf
knew the name of every {~tree} for miles around
made the best {~warmfood} anyone had ever tasted
hummed the same little tune from morning till night
always said good night to the {~flower}
counted the stars every evening and never got the same number twice
wrote long letters and never sent them
had never once been late for [breakfast|supper]
was [famous|known] for asking too many questions
liked {~warmfood} and disliked [hurrying|surprises|loud voices]
could whistle [two tunes at once|so softly that only {~beasts} could hear]
had a habit of [losing things|finding things|turning up at the right moment]
slept with one ear open
swept the doorstep every morning, even in {~month}
was saving {~smallthings} for a journey that never seemed to begin
had read the same book forty times
believed that every {~tree} had a different voice
drank {~number} cups of {~drink} a day
had never been further than the next hill
was always the first to wake and the last to go to bed
could not pass a puddle without jumping into it
remembered everybody's birthday except {his} own
told the same joke every day and laughed at it every time
spoke to strangers as if {he} had known them for years
could smell {~weather} [a day before it came|from three hills away]
ate little else but {~warmfood}
played chess against {self}, and usually lost
was afraid of nothing but {~warmfood}
had once met a queen and found her rather dull
kept {his} door open in every kind of weather
could walk so quietly that even the {~beasts} did not notice
had a laugh that could be heard across the valley
thought a great deal and said very little
knew {~number} songs and sang them all at once
owned {~number} hats and wore them all in {~month}
dreamed of faraway places and stayed at home
was on first-name terms with every {~beast} for miles
gave wrong directions to everyone, always with the best intentions
was said to have [swallowed a bell|danced with the moon|once been struck by lightning]
always had a second cup ready, in case somebody came
kept a list of beautiful words and read it aloud on Sundays
could tell the time by the smell of {~smell}"""

ENDINGS = [
    "And if you go {to} [today|in {~season}|on a quiet evening], you [may|might] still see {h} there, [smiling|humming a little tune|with {f} close by|in no hurry at all].",
    "[From that day on|After that], {h} and {f} [were never far apart|shared everything, even {~warmfood}|met every evening to talk about nothing in particular].",
    "That night {h} slept [better|more soundly] than {he} had in years.",
    "As for {t}, it is still {at}, [polished every Sunday|where anyone may borrow it|and nobody has ever locked it away|a little dusty and greatly loved].",
    "{H} never forgot it. [Neither did {f}.|And now you know it too.|Would you?]",
    "They had {~warmfood} for supper, and it was the best that {h} had ever eaten.",
    "And when people asked {h} how it had all happened, {he} only {~smile} and said, \"[One thing led to another|It is a long story|You should ask {f}].\"",
    "{H} [looked up at the stars|put the kettle on|opened the window], and for once there was nothing left to wish for.",
    "The {~weather} came back that evening, and {h} did not mind it at all.",
    "It was, all in all, a very good {~season}.",
    "\"Well,\" said {f}, \"that was quite a day.\" \"It was,\" said {h}. \"Shall we do it again tomorrow?\"",
    "Some say the story ends there. {H} says that it was only the beginning.",
    "And outside the window, very softly, it began to snow.",
    "Nobody {at} was surprised, except {h}.",
    "If you listen carefully {at}, just before sleep, you can hear them laughing still.",
    "The {beast} told everyone, of course. It always does.",
    "And so a day that had begun badly ended with {~warmfood}, which is all that one can ask of a day.",
    "{H} blew out the candle. \"Good night,\" {he} said to nobody in particular, and from somewhere in the dark {f} answered, \"Good night.\"",
    "Every year on that day they light a lantern {at}, and the oldest of them tells the children why.",
    "",
    "",
]
THEME_ENDINGS = [
    "And that, {h} thought, was really all there was to know about {theme}.",
    "Ask {h} about {theme} today, and {he} will tell you this story and nothing else.",
    "It was a small story about {theme}, but it was a true one.",
    "So if anyone asks you about {theme}, tell them about {h} and {f}.",
    "{F} had always wondered about {theme}. Now there was nothing left to wonder about.",
    "Whenever the talk turned to {theme}, the two of them looked at each other and smiled.",
]

LISTS["habit"] = tuple(HABITS.splitlines())
