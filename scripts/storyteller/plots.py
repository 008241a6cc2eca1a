"""Stories in the base voice. A plot is a list of beats; each beat is a list of ways to tell it.

Names in templates: {h} the hero, {hi} "a fox named Pip", {he} {him} {his} {self}; {f} the friend with {fi} {fhe} {fhim} {fhis};
{p} the place, {at} "in the forest", {to}; {t} the thing, {ti} "a silver key", {tk} "key". Every plot uses all four.
"""

from dataclasses import dataclass

from .lexicon import LISTS

OPENINGS = [
    "[Once|Once upon a time|Long ago|Years ago], {at}, there lived {hi}[ who {~habit}|].",
    "There was once {hi} {at} who {~habit}.",
    "{At} lived {hi}[, who {~habit}|]. [Everybody knew {him}, and nobody knew {him} well.|It was a quiet life, and {he} liked it that way.|]",
    "{Hi} had lived {at} for as long as anyone could remember[, and {~habit}|].",
    "If you had gone {to} [in those days|that year|back then], you would have met {hi}, who {~habit}.",
    "Nobody {at} paid much attention to {hi}[, who {~habit}|].",
    "This is the story of {hi}, who lived {at} and {~habit}.",
    "{At}, where the air [always smelled|smelled] of {~smell}, there lived {hi}[ who {~habit}|].",
    "[People still talk about|They still tell of] {hi} {at}[, who {~habit}|].",
]
THING_OPENINGS = [
    "There was once {ti} {at}. It belonged to {hi}, who {~habit}.",
    "This is the story of {ti}, and of {hi} who found it {at}.",
    "{Ti} lay {at}, waiting for somebody to notice it. In the end it was {hi} who did[, a soul who {~habit}|].",
    "Of all the things {at}, the strangest was {ti}. It had come into the hands of {hi}, who {~habit}.",
    "[Nobody knew|No one could say] who had made {t}. It had always been {at}, in the care of {hi}, who {~habit}.",
]
PLACE_OPENINGS = [
    "{At}, [people wake early and talk little|every door has a story behind it|the evenings are long and smell of {~smell}]. That is where {hi} lived.",
    "There is a story they tell {at}. It is about {hi}, who {~habit}.",
    "Everything that happens {at} happens slowly, except this. It began with {hi}, who {~habit}.",
]
THEME_OPENINGS = [
    "This is a story about {theme}. {At} there lived {hi}, who {~habit}.",
    "They say you cannot [teach|explain|understand] {theme}, [only meet it|only tell it]. {Hi} met it {at}.",
    "What is there to say about {theme}? Only this: {at} there once lived {hi}, who {~habit}.",
]
QUIRK_OPENINGS = {
    "fear": [
        "There was once {hi} {at} who was afraid of {what}. [Not a little afraid, either: the very thought of it made {his} knees shake.|{He} hid it well, but it never went away.|Everybody knew it, and everybody was kind about it, which made it worse.]",
        "{Hi} lived {at} and was afraid of nothing in the world except {what}.",
    ],
    "wish": [
        "There was once {hi} {at} who wanted {what} more than anything. [Everybody said it could not be done.|{He} had wanted it since {he} was small.|{He} told nobody, because wishes are shy.]",
        "{At} lived {hi} with a single wish: {what}.",
    ],
    "love": [
        "There was once {hi} {at} who loved {what} above all things. [It was the first thing {he} thought of in the morning and the last at night.|Other people found it odd, and {he} did not mind.]",
        "{Hi} lived {at} and loved {what}, and that is how all of this began.",
    ],
    "loss": [
        "There was once {hi} {at} who had lost {his} {what}. [{He} had looked everywhere that made sense, and then everywhere that did not.|It is a strange thing to lose, and {he} missed it every day.]",
        "One morning {at}, {hi} woke up and found that {his} {what} was gone.",
    ],
}
HABITS = """\
collected {~smallthing}s and gave every one a name
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
could whistle [two tunes at once|so softly that only {~beast}s could hear]
had a habit of [losing things|finding things|turning up at the right moment]
slept with one ear open
swept the doorstep every morning, even in {~month}
was saving {~smallthing}s for a journey that never seemed to begin"""

LISTS["habit"] = tuple(HABITS.splitlines())

ENDINGS = [
    "And if you go {to} [today|in {~season}|on a quiet evening], you [may|might] still [see|meet] {h} there, [smiling|humming a little tune|with {f} close by|in no hurry at all].",
    "[From that day on|After that], {h} and {f} [were never far apart|shared everything, even {~warmfood}|met every evening to talk about nothing in particular].",
    "That night {h} slept [better|more soundly] than {he} had in years.",
    "As for {t}, it is still {at}, [on a shelf by the window|wrapped in a soft cloth|where anyone may borrow it], [and nobody has ever locked it away|a little dusty and greatly loved].",
    "{H} never forgot it. [Neither did {f}.|And now you know it too.]",
    "They had {~warmfood} for supper, and it was the best that {h} had ever eaten.",
    "And when people asked {h} how it had all happened, {he} only {~smile} and said, \"[One thing led to another|It started with {ti}|You should ask {f}].\"",
    "{H} [looked up at the stars|put the kettle on|opened the window], and for once there was nothing left to wish for.",
    "The {~weather} came back that evening, and {h} did not mind it at all.",
]
THEME_ENDINGS = [
    "And that, {h} thought, was really all there was to know about {theme}.",
    "Ask {h} about {theme} today, and {he} will tell you this story and nothing else.",
    "It was a small story about {theme}, but it was a true one.",
    "So if anyone asks you about {theme}, tell them about {h} and {f}.",
]


@dataclass
class Plot:
    name: str
    beats: list  # of lists of templates
    gist: list  # what the summary voice says: two sentences
    moral: list  # answers to "what is the moral?"


PLOTS = []


def plot(name, beats, gist, moral):
    PLOTS.append(Plot(name, beats, gist, moral))


plot(
    "lost",
    [
        [
            "{~Seasonday}, {h} reached for {t} and found that it was gone. {He} looked under the bed, behind the door and inside [the kettle|both boots|the bread bin], and found nothing but [dust|a {~smallthing}|a very surprised spider].",
            "What {h} loved most was {ti}. So when it vanished {~seasonday}, {he} could think of nothing else.",
            "Then, {~seasonday}, {t} disappeared. It had been there at breakfast. By {~drink} time there was only an empty space, and {h} stood looking at it {~longtime}.",
        ],
        [
            "{He} asked the {~villager}, who shrugged. {He} asked the {~beast}, who pretended to be asleep. At last {he} met {fi}. \"I have not seen it,\" {~said} {f}, \"but I am good at looking, and two can look in twice as many places.\"",
            "{H} put up a notice: LOST, it said, AND MISSED. Only {fi} came. \"I know what it is like to lose something,\" {f} {~said}. \"Let us begin where you were happiest with it.\"",
            "It was {fi} who offered to help. Together they followed [a trail of crumbs|tiny footprints|the sound of somebody humming], [through the {~flower}|past the old {~tree}|over the wall and down the lane].",
        ],
        [
            "They searched {~longtime}. And then, behind [the last door|a curtain of ivy|the old {~tree}], they heard {~sound}. There sat a very small {~beast}, wrapped up tight beside {t}. \"I only wanted something nice to look at,\" it said. \"It gets so lonely here.\"",
            "In the end they found it {~far}, in the nest of a {~beast}. \"I thought nobody wanted it,\" said the {~beast}. \"You never looked at it any more.\" {H} opened {his} mouth to argue, and closed it again, because it was true.",
        ],
        [
            "{H} thought about it. Then {he} sat down. \"You may keep it on weekdays,\" {he} said, \"and I shall come and visit it on Sundays.\" {F} laughed, and so the matter was settled.",
            "So {h} did not shout. {He} asked the {~beast} home instead, and {t} stood in the middle of the table where all of them could see it.",
        ],
    ],
    [
        "When {ti} goes missing {at}, {h} and {f} set out to find it. They discover that a lonely {~beast} took it, and {h} chooses to share instead of scold.",
        "{H} loses {ti} {at} and searches for it with the help of {f}. It turns up with a little thief who only wanted company, and so a loss ends in friendship.",
    ],
    ["A thing that is shared is never really lost.", "Sometimes what goes missing is only looking for company."],
)

plot(
    "storm",
    [
        [
            "{~Seasonday}, a storm came. It [tore the tiles from the roofs|bent the {~tree}s to the ground|swallowed the road] and blew out every light {at}. Everyone stayed indoors, and that would have been that, if {h} had not heard somebody calling.",
            "The trouble came with the wind. {~Seasonday} the sky turned [the colour of slate|black as ink|a strange shade of green], and before anyone could close the shutters, the storm was there. In the middle of it {h} heard a voice.",
        ],
        [
            "It was {fi}, caught out in the worst of it and calling for help. {H} was [frightened|no hero|trembling], and {he} knew it. But {he} had {ti}, and {he} had two legs, and nobody else was coming.",
            "\"Help!\" it cried. \"Is anybody there?\" It was {fi}, who had lost the way. {H} took {ti} down from its hook, because it was the only useful thing {he} owned, and went out into the dark.",
        ],
        [
            "The wind pushed {him} back three times. The fourth time {he} [held {t} high above {his} head|tucked {t} under {his} arm], lowered {his} head and pushed harder. [\"Follow my voice!\"|\"Hold on!\"] {he} shouted, and began to sing the only song {he} knew.",
            "Step by step {he} went, holding {t} in front of {him}. Twice {he} fell. The third time {he} stayed down for a moment, and that was when {he} saw {f}, not ten paces away.",
        ],
        [
            "They came home at dawn, wet to the bone and [laughing|too tired to speak]. \"You are the bravest soul I have ever met,\" said {f}. \"No,\" said {h}. \"I was scared the whole time.\" {F} {~smile}. \"That is what brave means.\"",
            "When the morning came, the storm had blown itself out. {F} sat by the fire with a bowl of {~warmfood} and said nothing for a long time. Then: \"Why did you come?\" {H} thought about it. \"Because you called,\" {he} said.",
        ],
    ],
    [
        "A terrible storm strikes {at}, and {h} hears {f} calling for help. With nothing but {ti} and a trembling heart, {he} goes out and brings {f} home by dawn.",
        "{H} is no hero, but when {f} is lost in a storm {at}, {he} takes {ti} and goes. Both return safely, and {h} learns that brave people are frightened too.",
    ],
    ["Being brave means being frightened and going anyway.", "You do not have to be a hero to answer when somebody calls."],
)

plot(
    "stranger",
    [
        [
            "{~Seasonday} there came three slow knocks at the door. Outside stood {fi}, [wet through|covered in dust|with snow on {fhis} shoulders], holding {ti} as if it were made of glass. \"May I come in?\" {fhe} asked. \"I have come a long way.\"",
            "{~Seasonday} a stranger came {to}. It was {fi}, and {fhe} carried nothing but {ti}. Doors closed all along the street. Only {h} left {his} open a crack.",
        ],
        [
            "{H} did not trust strangers. But there was [soup on the stove|a second chair by the fire], and the night was cold. \"Wipe your feet,\" {he} said at last. They ate without a word, and the stranger fell asleep still holding {t}.",
            "\"One night,\" {~said} {h}, \"and not a minute more.\" But the {~weather} lasted a week, and so did the visit. {F} swept the floor, mended the chair, and never once explained {t}.",
        ],
        [
            "In the morning the neighbours came. \"Send {fhim} away,\" they said. \"Who knows what {ti} like that can do?\" {H} looked at {f}, who had already begun to pack. [Something in {his} heart turned over.|{He} thought of the cold road.] \"No,\" {he} said. \"{F} is my guest.\"",
            "On the last evening {h} asked what {t} was for. \"It is for the person who lets me in,\" {f} {~said}. \"I have knocked at a hundred doors.\" And {fhe} put it into {h}'s hands.",
        ],
        [
            "The stranger stayed. By the time the {~flower} came out, nobody {at} could remember what they had been afraid of, and {t} stood in {h}'s window for everyone to see.",
            "When {h} woke, the bed was made and the guest was gone, but {t} was still there, and the whole house was warm. It was never cold again, not even in {~month}.",
        ],
    ],
    [
        "{F} comes {to} with {ti}, and only {h} opens the door. {H} stands up for the stranger against suspicious neighbours, and kindness is repaid with kindness.",
        "On a cold night {h} lets in {f}, a stranger who carries {ti}. What begins as a grudging favour becomes a friendship that warms the whole place.",
    ],
    ["An open door lets the warmth out and the friends in.", "A stranger is someone whose story you have not heard yet."],
)
