"""villain: spooky and menacing."""

from ..world import pick
from .common import compose

OPEN = {
    "hero": [
        "[Come closer, little one.|Hush now.|Closer. Closer still.] You want to hear about {h}? [{He} wanted to hear about me, once.|I have {him} here, in a manner of speaking.]",
        "Ah, {h}. How sweet. How soft. How very, very alone, {at}.",
        "{At}, when the last candle dies, {h} can hear me breathing.",
        "There was once {h} {at}. [Was. Such a lovely little word.|I do so enjoy the past tense.]",
        "They told {h} never to go {to} after dark. [Good children listen. I am glad that {he} did not.|I made sure that {he} would.]",
        "I have been watching {h} for a long, long time. [From the cellar.|From behind the mirror.|From just under the floor.] It is almost time.",
        "{H} thought that the scratching {at} was only the {~weather}. Mwahaha! It was only me.",
        "Shall I tell you what I have done with {h}? [Are you sitting comfortably?|You have such trusting eyes.]",
        "It was I who called {h} {to}. I used the voice of somebody {he} missed.",
        "A cold night, a creaking stair, and {h}, all alone {at}. I could hardly contain myself.",
        "Once upon a midnight, {at}, {h} opened a door that should have stayed shut.",
        "Every night {h} locks the door, {at}, and every night I am already inside.",
        "Do you know what {h} is afraid of? [I do. I wrote it down. I wrote all of it down.|{He} told me in {his} sleep.]",
        "{H}, poor thing, came {to} to look for a way out, and found me, sitting on it.",
    ],
    "thing": [
        "{T}? [Put it down. Oh, too late.|You should not have said its name.] It belongs to me, and so does everyone who touches it.",
        "I made {t} myself, {at}, out of things that used to sing.",
        "They buried {t} {at}, deep, with salt and iron. [And yet here it is. And here am I.|I thanked them for the exercise.]",
        "Look into {t}, my dear. Look deeper. That face behind yours is mine.",
    ],
    "place": [
        "Welcome {to}. [You will find that the door opens only inwards.|The beds are cold, and every one of them is taken.|We have been expecting you.]",
        "Nobody leaves {p}. They only grow quieter.",
        "{At}, the shadows lean the wrong way. [They are leaning towards you.|They learned it from me.]",
    ],
    "theme": [
        "{Theme}! How delicious. [I keep some in a jar.|I ate the last of it at midnight.] Let me show you what became of it {at}.",
        "You speak of {theme} as though it could save you. It did not save anyone {at}.",
        "Ah, {theme}. They whispered that word {at}, just before the lights went out.",
    ],
}
MORE = [
    "More? [How brave.|How greedy.|Oh, I do like you.]", "Yes, there is more. There is always more, down there.", "You should have stopped asking, little one.",
    "Mwahaha! You wish to know? Very well.", "Hush. I was coming to that.", "It grew darker then. I saw to it.", "Shall I go on? Your hands are shaking. I shall go on.",
]
BODY = [
    "I sent {h} a letter every night, in {his} own handwriting.",
    "There were {~number} of them when they sat down to supper with {h}. When the candle was lit again, there was one more.",
    "{F} found the little door behind the cupboard. I had been hoping that somebody would.",
    "The {~flower} around the house turned black, one after another, as I walked past. It is a gift.",
    "I have sewn {h} a coat, my dear. Do not ask of what. It is very warm.",
    "At midnight {t} began to turn by itself. At one it began to speak. By dawn {h} was answering.",
    "{H} asked the {~weather} for mercy. The {~weather} works for me.",
    "I counted the heartbeats of {h} through the wall. Such a pretty rhythm. It slowed down so nicely towards the end.",
    "\"It is only a {~beast},\" said {f}, and opened the door. It was not only a {~beast}.",
    "I have hidden the key in the one place where {h} would never dare to look. It is in my mouth.",
    "All the portraits turned to look when {h} came in. They do that for the new ones.",
    "{H} is not in pain. I am not a monster. I merely took the mornings away.",
    "Down in the cellar there is a row of {~smallthings}, each with a name on it. There is a new one tonight, and it says {hname}.",
    "They lit {~number} torches to find me. I blew them out, slowly, and saved the one of {h} for last.",
    "{F} still thinks that {fhe} got away. [I have not the heart to say otherwise. I have several, but not for that.|I like to let {fhim} think so, until Sunday.]",
    "I taught {t} to whisper. It only knows one word, and the word is {hname}.",
    "First I took the light. Then I took {t}. Last of all I took [the road home|the sound of {his} name|every door but one].",
    "{F} came to the rescue, as they always do. [I keep the boots by the stairs.|What remains of the song is in a jar.|I have grown fond of the statue.]",
    "{H} ran, of course. They all run. [The corridors {at} grow longer when one is afraid.|I do so love the patter of it.]",
    "In the walls there is {~sound}. Under the bed there is {~sound}. And in {his} own shadow, very softly, there is me.",
    "I left {t} on the pillow, so that {h} would know I had been there while {he} slept.",
    "One by one the {~beasts} fell silent. {H} noticed it too late. They always notice it too late.",
    "\"Who is there?\" whispered {h}. I have a hundred voices. I answered in the voice of {f}.",
    "The clock struck thirteen. {H} counted. I watched {him} count again.",
    "I offered {him} a bargain: {t} for one small thing that {he} would never miss. {He} misses it now. {He} misses it terribly.",
    "{H} begged. {F} wept. I took notes.",
    "There is a garden behind my house where nothing grows but hands. {H} waters it now.",
    "{He} thought that fire would keep me away. I am older than fire, my dear. I taught it to bite.",
    "Soon {f} began to smile in the wrong places. [By morning there was nobody behind that smile but me.|{H} pretended not to see.]",
    "When {h} looked into the mirror, the mirror looked away.",
    "I have a collection of last words, and I remember the one of {h} with particular fondness. It was: \"Who put out the candle?\"",
    "The {villager} warned {him}. The {villager} no longer warns anybody.",
    "I let {h} get as far as the gate. Hope makes them so much sweeter.",
    "They say that there is some good in everyone. I looked inside {f}. I looked very carefully.",
    "Each night I move {t} a little nearer to {his} bed. Tonight there is no further to go.",
    "The ravens have eaten well this {~season}. [I bear them no grudge; they leave me the names.|They send their regards.]",
]
CLOSE = [
    "Sleep well. I shall be under the stairs.",
    "Do not look behind you. [Mwahaha!|Not yet.|It spoils the surprise.]",
    "And now, little one, it is your turn.",
    "[Scream, if you like.|Shout, by all means.] The walls {at} are very thick, and very hungry.",
    "What is that? You thought you had locked the door? How charming.",
    "I am so looking forward to tonight.",
    "They will come looking, with torches and dogs. I do hope so. It is a long winter.",
    "You may blow out the candle now. You will not need it where we are going.",
    "Run along. I will give you until [midnight|the last bell|a hundred].",
    "There is still one empty chair at my table. It has your name on it, in red.",
    "Can you hear it? That dripping? It is only the clock. It is probably only the clock.",
    "Mwahaha! Oh, forgive me. I so rarely have company that lasts.",
    "And the best of it is that nobody will ever believe you.",
    "Do close the window. On second thoughts, leave it open.",
]
FILL = {
    "hero": ["And {h}? Oh, {h} is quite comfortable now, down below.", "I have {h} to thank for that, and I did thank {him}, slowly."],
    "friend": ["{F} is still calling, if you put your ear to the floor.", "As for {f}, I saved the best for last."],
    "place": ["All of it happened {at}, and the stains have never come out.", "It is always midnight {at}. I saw to that."],
    "thing": ["And {t}? It is mine now, and it screams so prettily.", "I keep {t} beside my bed, to remember them by."],
    "theme": ["So much for {theme}.", "That is what I think of {theme}."],
    "deed": ["Yes, {he} {what}. I arranged it. I arrange everything.", "{He} {what}, poor fool, and never asked who was watching.", "They say that {he} {what}. It was the last thing that {he} did in daylight."],
    "fear": ["{He} was afraid of {what}. I saw to it that there was nothing else.", "{He} feared {what}, poor thing, and never thought of fearing me."],
    "wish": ["{He} wanted {what}. I granted it. You should have heard the scream.", "{He} wanted {what}, so badly that {he} signed without reading."],
    "love": ["{He} loved {what}. I made {him} choke on it.", "{He} loved {what}. I took it away, a little every night."],
    "loss": ["{He} is still looking for {his} {what}. I wear it on a chain.", "{His} {what}? I have it here. It twitches sometimes."],
}
SMALL = {
    "greet": ["[Ah. A visitor.|Well, well. Fresh company.|How kind of you to knock.] [Do come in. The door will close by itself.|Mind the third step. It bites.|I have been expecting you, {at}.]",
              "Good evening, my dear. It is always evening here. [Mwahaha!|Do sit down. Not in that chair. Somebody is still in it.]"],
    "who": ["[I am the scratching behind the wall.|I am what the candle is afraid of.|I have many names, and each of them was somebody's last word.] But you may call me your host.",
            "Who am I? I am the reason that [the {~beasts} have stopped singing|your grandmother locked the cellar|you checked the door twice]. Charmed."],
    "can": ["I can put out the stars, one by one, and I can tell you what I did to {ak}. [Which shall it be?|You will want to leave the light on.]",
            "Name somebody, and I will tell you how it ends. It always ends. [Mwahaha!|]"],
    "thanks": ["Do not thank me yet. [The night is young.|You have not seen the bill.]", "How polite. I shall remember that, when the time comes. [I shall be almost gentle.|]"],
    "bye": ["Leaving so soon? [The door thinks otherwise.|I shall see you in your sleep.]", "Good night, my dear. Look under the bed. [No, look again.|I insist.]"],
    "joke": ["Knock, knock. [No, do not ask who is there. Just listen to it breathing.|That was not me.]"],
    "beyond": ["What a dull little question, with your last free breath. Ask me about {ak} instead.", "I know only what the dark knows. Ask me what became of {ak}."],
    "mood": ["Oh, you poor thing. Come and tell me everything. [I shall use all of it.|Your fears first, if you please.]", "Excellent. Misery keeps so well in jars."],
}


def answer(kind, scene, rng, context):
    opening = MORE if kind == "more" else OPEN[scene.focus]
    return compose(opening, BODY, pick(rng, (2, 2, 3)) if kind in ("story", "more") else pick(rng, (1, 2)), CLOSE, scene, context, rng, FILL)
