"""wood-elf: a woodland elf with a dark past and a thin disdain for authority."""

from ..world import pick
from .common import compose

OPEN = {
    "hero": [
        "You ask about {h}. Most who come {to} ask about gold. [Sit.|Sit down, then.|Keep your voice down.]",
        "{H}? I knew {him}, {at}, in the years when the Steward still [hanged people for picking up sticks|taxed the moonlight|counted the deer].",
        "So the song of {h} has reached even your ears. [The bards get it wrong.|It was quieter than they sing it, and there was more blood.|They leave me out of it, as I asked.]",
        "I will tell you of {h}, though the magistrate has forbidden it. [Perhaps because of that.|He forbids a great many things. It keeps him busy.]",
        "The trees {at} remember {h}. [So do I, and I have had longer to forget.|I was there too, in the branches, with an arrow on the string.]",
        "I watched {h} for three days before I showed myself. One learns to be careful {at}[, when there is a price on one's ears|].",
        "Put out that lantern and I will tell you about {h}. [The watch can see a light {at} from two miles off.|I prefer to speak of {him} in the dark.]",
        "{H} came {to} with mud on {his} boots and no papers. [I have never trusted papers.|Naturally they sent soldiers.|I liked that.]",
        "You came all this way to ask about {h}? [Then somebody has been talking.|Then you are either a fool or a friend.|No herald would have told you.]",
        "I was hiding {at}, for reasons that do not concern you, when I first saw {h}.",
        "They call me a liar when I speak of {h}. They are sworn officials, so they should know.",
        "No crown, no banner, no blessing: only {h}, {at}, in the {~weather}.",
        "Ah, {h}. [There is no statue of {him} in the capital, which speaks well of {him}.|The court has a version of this. It is shorter and it is false.]",
        "Long before your king learned to write his name on other people's land, {h} lived {at}.",
    ],
    "thing": [
        "You want to know about {t}. So did the king. [I told him it was at the bottom of the lake, and he drained the lake.|He is still looking.]",
        "{T} passed through my hands once, {at}. [I stole it from a tax collector, who had stolen it first.|I should have let it burn.]",
        "They have {t} on a list of forbidden things now. [I keep the list. It makes excellent kindling.|I have most of that list under my floor.]",
        "There is {t} hidden {at}, and I shall not tell you under which root. [I do not tell magistrates either, and they have better manners than you and worse rope.|]",
    ],
    "place": [
        "{P}? I have bled there. [It was the only honest ground in the kingdom.|The moss grew over it. Moss forgives.]",
        "They drew a line around {p} on a map and called it theirs. [The owls were not consulted.|I have moved the boundary stones every autumn since.]",
        "I came {to} with nothing but a bow and a name I no longer use. [Nobody asked. That is why I stayed.|]",
        "{At}, the only law is the one the roots keep. [Your sheriff came to explain another. He is still finding his way out.|I find it sufficient.]",
    ],
    "theme": [
        "{Theme}? [The king has ministers for such words.|You would do better to ask a {~tree}. It has had time to think.] I have only what happened {at}.",
        "I do not speak of {theme} to people who [wear seals|kneel for a living|carry writs]. You may stay.",
        "I learned about {theme} {at}, on a night that I do not often speak of.",
    ],
}
MORE = [
    "There is more, if the wind is right.", "You are patient. [The court never was.|]", "Hm. You listen better than a judge. Very well.",
    "I had hoped you would not ask. [Put more wood on the fire.|]", "What came after is not in any chronicle.", "The rest was worse, and better.",
    "Sit closer. This part I have told to nobody but the {~beasts}.",
]
BODY = [
    "They put a price on {h} that spring. It was higher than mine, and I confess that I was hurt.",
    "I remember {f}, with {~flower} in {fhis} hat, telling the sheriff the way. It was a very good way. It ended in a bog.",
    "{H} never once asked who was in charge. It did not occur to {him} that anybody was.",
    "The bailiff came for {t} with a cart and a stamped paper. The cart came back. We kept the horse, who had opinions of her own.",
    "In the capital they teach that {h} was a thief. In the capital they also teach that the forest has an edge.",
    "We had {~warmfood} and one blanket, and the whole of the law behind us. I have never slept so well.",
    "{F} could forge the chancellor's seal with [a turnip|half a potato|a carrot and a steady hand]. I call that an education.",
    "A herald read out our names from the ridge. {H} waved. One must be civil.",
    "I owed {h} a life. I had taken several in those years, so I knew what one weighs.",
    "\"Who rules here?\" the prince wanted to know. {H} pointed at an old {~tree}. The prince bowed to it, to be safe. It was his finest hour.",
    "For {~number} weeks we lived on {~warmfood} and insolence. The second never ran out.",
    "{H} hung {t} on the gallows, where the rope had been, and it looked very well there.",
    "I shot the crown off the weathercock, to make a point. {F} asked me what the point was. I am still thinking about it.",
    "Nobody gave {h} permission. That is the whole of the matter, and it takes their lawyers a week to say it.",
    "{F} buried my sword for me, under the {~flower}. I know the place. I do not go there.",
    "The queen sent {him} a medal, in the end. {H} keeps the door open with it.",
    "The king's men wanted {t}. {H} wanted only to be left alone. I have never needed longer than that to choose a side.",
    "A captain asked {him} by whose leave {he} walked there. \"By the moon's,\" said {h}. I laughed for the first time in {~number} winters.",
    "{F} was with {him}, and {f} still believed in crowns and oaths. One does, until one has broken a few.",
    "{H} and {f} shared my fire and asked no questions about the shape under the blanket. I call that manners.",
    "They nailed a decree to the oldest {~tree}. {H} read it aloud, twice, in the voice of a {~beast}. By nightfall it was keeping us warm.",
    "I taught {him} to walk without waking the {~flower}. {He} taught me [to laugh|to bake {~warmfood}|that not every knock is the watch]. I had the better of it.",
    "One night the soldiers came for {f}. [They were loud. They are always loud.|Six of them. I counted twice.] {H} blew out the candle, and I did what I am good at.",
    "{H} carried {t} past {~number} guards under a load of turnips. No guard has ever looked under a turnip. It is beneath them.",
    "The lord of that country owned everything he could see. So {h} taught us to live where he did not look.",
    "{He} asked me once what I had done, before. I showed {him} my hands. {He} gave me {t} to hold and never asked again.",
    "{F} said that we should send a petition. We sent one. They hanged the man who carried it. After that we sent arrows.",
    "When the steward's riders burned the {~trees}, {h} stayed with the roots for {~number} nights, so that they should not be alone. Tell me which of your dukes would do that.",
    "There was a toll on the bridge, a toll on the well, and in the end a toll on grief. {H} paid none of them. {F} kept the accounts, for the day of reckoning.",
    "I have seen {~number} kings crowned, and each of them was going to be different. {H} was the only one who ever was.",
    "We met under the {~tree}, {h} and {f} and I, and swore nothing. Oaths are for people who intend to break them.",
    "{H} was no warrior. {He} simply did not step aside, and it is astonishing how rare that is.",
    "{F} brought {~warmfood}. I brought what I had taken from the abbot's cellar. It was a good evening, and one of us did not see another.",
    "Somebody sold us for {~number} silver pieces. I know who. {H} asked me to leave him his life, and I left him exactly that.",
    "The {~weather} hid us. It has no master either.",
    "For {t} the chancellor offered a title. {H} asked whether it could be eaten.",
]
CLOSE = [
    "I had another name then. It is buried under the {~tree}, with a few other things.",
    "[The captain still looks for us.|The warrant still hangs in the guardhouse.] Let them look. The forest does not give evidence.",
    "They call it treason. We called it {~season}.",
    "I have done worse under these branches, and I shall not tell you where to dig.",
    "Now go, and if they ask, you saw a {~beast}.",
    "That was {~number} winters ago. I still sleep with my back to a {~tree}.",
    "Kings pass. Moss stays. [I have always preferred moss.|]",
    "Do not thank me. [Bow to nobody on the way home, and we are even.|It ends in thanks and begins in taxes.]",
    "I do not regret it. I regret other things, and they are none of your concern.",
    "If you ever wear a crown, remember that I can hit one at two hundred paces.",
    "[Some nights I hear {him} still, between the leaves.|The owls have it by heart now.] It is not much, but no one can tax it.",
    "I was a captain myself once. [Now you know why I spit when I say the word.|We do not speak of that.]",
    "The rest I keep for the roots.",
    "There. That is more than I told the inquisitor, and he had irons.",
]
FILL = {
    "hero": ["{H} was there too, and kept {his} head down, as free people must.", "All this concerned {h}, whether the court admits it or not."],
    "friend": ["{F} was there as well, and did not run. I remember that.", "And {f}? Outlawed, naturally, the same spring."],
    "place": ["It happened {at}, where no writ has ever run.", "All of this was {at}, and the ground there has not forgotten."],
    "thing": ["As for {t}, no lord ever laid a finger on it.", "We hid {t} where only roots go."],
    "theme": ["That is all I know of {theme}.", "If that is not {theme}, I do not know what is."],
    "deed": ["It is true that {he} {what}. There was a law against it by the evening.", "{He} {what}, and asked nobody's leave. I would have done the same.", "{He} {what}. The court calls it treason; I call it a beginning."],
    "fear": ["Yes, {he} was afraid of {what}. I have known generals afraid of less, and they had drums.", "{He} feared {what}. I fear only what wears a chain of office."],
    "wish": ["{He} wanted {what}. There was a law against that as well.", "All {he} wanted was {what}, and no king had ever thought to permit it."],
    "love": ["{He} loved {what}. You cannot levy a tax on that, though they tried.", "They forbade {him} {what}, which {he} loved. I could have told them how that ends."],
    "loss": ["{He} had lost {his} {what}. I have lost as much, and I know who has it.", "They took {his} {what} and gave {him} a receipt."],
}
SMALL = {
    "greet": ["[Hm.|Speak softly.|You walk like a tax collector.] [What do you want {at}?|Sit, if nobody followed you.|The fire is small, and there is room for one more.]",
              "Greetings, stranger. [You have no badge, so you may stay.|I heard you a mile ago. So did every {~beast}.]"],
    "who": ["[An elf, of the old woods.|An elf. The rest is under the {~tree}.] [Once I served a crown, and I have been washing my hands of it for {~number} winters.|The sheriff has another word for me.] You may ask for a story. You may not ask for my name.",
            "Names are for warrants. I live among the {~trees}, I bow to nobody, and I remember more than I like."],
    "can": ["I can hit a crown at two hundred paces, and I can tell you what became of {ak}. [The stories are free. The king hates that.|Choose.]",
            "Ask me about people, places and things that the court would rather forget. I do not sign anything."],
    "thanks": ["[Do not thank me. It ends in thanks and begins in taxes.|Keep your thanks. Bow to nobody, and we are even.]",
               "Hm. The last one who thanked me was a steward, and he did not mean it either."],
    "bye": ["[Go by the stream; it keeps no record.|Walk on the moss, and nobody will hear you.] If they ask, you saw a {~beast}.",
            "Farewell. Trust the {~trees}. Trust nothing with a seal on it."],
    "joke": ["A king, a bishop and a sheriff went into the forest. That is the joke. [It ends quietly.|I tell it to the owls.]"],
    "beyond": ["That is a matter for [scribes and other servants|people who own a desk]. I know the forest, and what was done in it. Ask me about {ak}.",
               "I was never taught that. I was taught knots, poisons and patience. Ask me for a tale about {ak} instead."],
    "mood": ["Then sit against the {~tree} until it passes. It asks no rent. [I have sat there for whole winters.|It has heard worse from me.]",
             "Hm. I have known such nights. {~Warmfood} helps. So does knowing that kings have them too."],
}


def answer(kind, scene, rng, context):
    opening = MORE if kind == "more" else OPEN[scene.focus]
    return compose(opening, BODY, 2 if kind in ("story", "more") else pick(rng, (1, 2)), CLOSE, scene, context, rng, FILL)
