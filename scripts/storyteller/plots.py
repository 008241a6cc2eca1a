"""Stories in the base voice. A plot is a list of beats; each beat is a list of ways to tell it.

Names in templates: {h} the hero with {he} {him} {his} {self}; {f} the friend with {fhe} {fhim} {fhis}; {t} the thing; the first
time a text says one of them it is introduced ("a fox named Pip"). {p} the place, {at} "in the forest", {to}; {beast} and
{villager} are passers-by, the same throughout a story. Every plot uses all of hero, friend, place and thing.
"@ab " before a text says that it belongs to the tracks a and b of its plot only; the first such text chosen fixes the track.
"""

from dataclasses import dataclass

from . import openings  # noqa: F401  (its word lists are part of what plots may use)


@dataclass
class Plot:
    name: str
    beats: list  # of lists of templates
    gist: list  # two sentences that tell it all
    moral: list
    friend: list  # who the friend is in this plot: "the one who ..."
    after: list  # what happened next


PLOTS = []
QUIRK_PLOTS = {"fear": [], "wish": [], "love": [], "loss": []}


def plot(name, beats, gist, moral, friend, after):
    made = Plot(name, beats, gist, moral, friend, after)
    kind = name.split(":")[0]
    (QUIRK_PLOTS[kind] if kind in QUIRK_PLOTS else PLOTS).append(made)


plot(
    "lost",
    [
        [
            "{~Seasonday}, {h} reached for {t} and found that it was gone. {He} looked under the bed, behind the door and inside [the kettle|both boots|the bread bin], and found nothing but [dust|a {~smallthing}|a very surprised spider].",
            "What {h} loved most was {t}. So when it vanished {~seasonday}, {he} could think of nothing else.",
            "Then, {~seasonday}, {t} disappeared. It had been there at breakfast. By tea time there was only an empty space, and {h} stood looking at it {~longtime}.",
            "{H} owned only one thing worth stealing, {t}, and {~seasonday} somebody stole it. There was no broken lock and no open window. There was only [a small muddy footprint|a smell of {~smell}|a trail of crumbs] on the floor.",
        ],
        [
            "{He} asked the {villager}, who shrugged. {He} asked the {~tree}, which said nothing. At last {he} met {f}. \"I have not seen it,\" {~said} {f}, \"but I am good at looking, and two can look in twice as many places.\"",
            "{H} put up a notice: LOST, it said, AND MISSED. Only {f} came. \"I know what it is like to lose something,\" {f} {~said}. \"Let us begin where you were happiest with it.\"",
            "It was {f} who offered to help. Together they followed [a trail of crumbs|tiny footprints|the sound of somebody humming], [through the {~flower}|past the old {~tree}|over the wall and down the lane].",
            "\"When did you last look at it?\" asked {f}, who had come to help. \"Really look, I mean.\" {H} could not remember, and [blushed|felt a little ashamed].",
        ],
        [
            "They searched {~longtime}. And then, behind [the last door|a curtain of ivy|the old {~tree}], they heard {~sound}. There sat a very small {beast}, wrapped up tight beside {t}. \"I only wanted something nice to look at,\" it said. \"It gets so lonely here.\"",
            "In the end they found it {~far}, in the home of a {beast}. \"I thought nobody wanted it,\" said the {beast}. \"You never looked at it any more.\" {H} opened {his} mouth to argue, and closed it again, because it was true.",
            "By evening they had found a {beast} asleep under the {~tree}, with both arms around {t}. It woke, and its eyes filled with tears. \"Please,\" it said. \"It is the only beautiful thing I ever held.\"",
        ],
        [
            "{H} thought about it. Then {he} sat down. \"You may keep it on weekdays,\" {he} said, \"and I shall come and visit it on Sundays.\" {F} laughed, and so the matter was settled.",
            "So {h} did not shout. {He} asked the {beast} home instead, and {t} stood in the middle of the table where all three of them could see it.",
            "\"Then we had better share it,\" said {h} at last, and was surprised to find that {he} meant it.",
        ],
    ],
    [
        "When {t} goes missing {at}, {h} sets out to find it with the help of {f}. A lonely {beast} has taken it, and {h} chooses to share instead of scold.",
        "{H} loses {t} {at} and searches for it together with {f}. It turns up with a little thief who only wanted company, and so a loss ends in friendship.",
    ],
    ["A thing that is shared is never really lost.", "Sometimes what goes missing is only looking for company."],
    ["the one who helped {h} look for {t}", "{h}'s friend, who was good at looking for lost things"],
    ["The {beast} came for Sunday lunch, and then for every lunch. By spring {h} had to buy a bigger table.",
     "{H} and {f} opened a small office for lost things. On the first day somebody brought in {~sound}."],
)

plot(
    "storm",
    [
        [
            "{~Seasonday}, a storm came. It [tore the tiles from the roofs|bent the {~trees} to the ground|swallowed the road] and blew out every light. Everyone stayed indoors, and that would have been that, if {h} had not heard somebody calling.",
            "The trouble came with the wind. {~Seasonday} the sky turned [the colour of slate|black as ink|a strange shade of green], and before anyone could close the shutters, the storm was there. In the middle of it {h} heard a voice.",
            "{~Seasonday} the wind [took the washing|stole three hats and a chimney|learned to howl], and then it stopped playing. It was the worst storm anyone could remember. {H} had just bolted the door when {he} heard a cry.",
        ],
        [
            "It was {f}, caught out in the worst of it and calling for help. {H} was [frightened|no hero|trembling], and {he} knew it. But {he} had {t}, and {he} knew the way, and nobody else was coming.",
            "\"Help!\" it came again. \"Is anybody there?\" It was {f}, who had lost the way. {H} took {t}, because it was the only useful thing {he} owned, and went out into the dark.",
            "Somewhere out there was {f}. \"Someone ought to go,\" said the {villager}. {H} waited for someone. Then {he} picked up {t} and went {self}.",
        ],
        [
            "The wind pushed {him} back three times. The fourth time {he} [held on tight to {t}|thought of a warm bed], lowered {his} head and pushed harder. [\"Follow my voice!\"|\"Hold on!\"] {he} shouted, and began to sing the only song {he} knew.",
            "Step by step {he} went, with {t} held close. Twice {he} fell. The third time {he} stayed down for a moment, and that was when {he} saw {f}, not ten paces away.",
            "{He} could not see and {he} could not hear. But {he} could count, so {he} counted: [forty|sixty|a hundred] steps to the wall, [ten|twenty|nine] to the old {~tree}. At the last step a cold hand caught {his}. It was {f}.",
        ],
        [
            "They came home at dawn, wet to the bone and [laughing|too tired to speak]. \"You are the bravest soul I have ever met,\" said {f}. \"No,\" said {h}. \"I was scared the whole time.\" {F} {~smile}. \"That is what brave means.\"",
            "When the morning came, the storm had blown itself out. {F} sat by the fire with a plate of {~warmfood} and said nothing for a long time. Then: \"Why did you come?\" {H} thought about it. \"Because you called,\" {he} said.",
            "In the morning the sky was washed clean. {F} still had {t} clutched to {fhis} chest and would not let go of it. \"Keep it,\" said {h}. \"It knows the way to my door.\"",
        ],
    ],
    [
        "A terrible storm strikes {at}, and {h} hears {f} calling for help. With nothing but {t} and a trembling heart, {he} goes out and brings the lost one home by dawn.",
        "{H} is no hero, but when {f} is lost in a storm {at}, {he} takes {t} and goes. Both return safely, and {h} learns that brave people are frightened too.",
    ],
    ["Being brave means being frightened and going anyway.", "You do not have to be a hero to answer when somebody calls."],
    ["the one who was lost in the storm", "the one who called for help on the night of the storm"],
    ["The next time the wind howled, {h} and {f} sat it out together, with {~drink} and a pack of cards.",
     "{H} hung a lamp by the door, so that nobody would ever be lost in a storm {at} again."],
)

plot(
    "stranger",
    [
        [
            "{~Seasonday} there came three slow knocks at the door. Outside stood {f}, [wet through|covered in dust|shivering], holding {t} as if it might break. \"May I come in?\" asked the stranger. \"I have come a long way.\"",
            "{~Seasonday} a stranger came. It was {f}, and {fhe} carried nothing but {t}. Doors closed all along the road. Only {h} left a door open, and only a crack.",
            "Nobody ever came to visit. So {h} was quite unprepared when, {~seasonday}, {f} stood on the doorstep with {t} and said, \"I was told that you have a spare chair.\"",
        ],
        [
            "{H} did not trust strangers. But there was soup on the stove, and the night was cold. \"Wipe your feet,\" {he} said at last. They ate without a word, and the stranger fell asleep beside {t}.",
            "\"One night,\" {~said} {h}, \"and not a minute more.\" But the {~weather} lasted a week, and so did the visit. {F} swept the floor, mended the chair, and never once explained {t}.",
            "\"Just until the {~weather} stops,\" said {h}. The {~weather} stopped that same evening. Neither of them mentioned it.",
        ],
        [
            "In the morning the neighbours came. \"Send {fhim} away,\" they said. \"Who knows what a stranger may do?\" {H} looked at {f}, who had already begun to pack. [Something in {his} heart turned over.|{He} thought of the cold road.] \"No,\" {he} said. \"{F} is my guest.\"",
            "On the last evening {h} asked what {t} was for. \"It is for the first one who lets me in,\" {f} {~said}. \"I have knocked at a hundred doors.\"",
            "\"Aren't you going to ask about {t}?\" said {f} one evening. {H} shook {his} head. \"You will tell me when you are ready.\" And because nobody had ever said that before, {f} told {him} everything.",
        ],
        [
            "The stranger stayed. By the time the {~flower} came out, nobody could remember what they had been afraid of, and {t} stood in the window for everyone to see.",
            "When {h} woke, the bed was made and the guest was gone, but {t} was still there, and the whole house was warm. It was never cold again, not even in {~month}.",
            "There are two chairs by that fire now, and both of them are worn.",
        ],
    ],
    [
        "{F} arrives {at} with {t}, and only {h} opens the door. {H} stands up for the stranger against suspicious neighbours, and kindness is repaid with kindness.",
        "On a cold night {at}, {h} lets in {f}, a stranger who carries {t}. What begins as a grudging favour becomes a friendship that warms the whole place.",
    ],
    ["An open door lets friends in.", "A stranger is only someone whose story you have not heard yet."],
    ["the stranger who knocked at {h}'s door", "the guest who came with {t} and stayed"],
    ["The neighbours came one by one to borrow sugar, and stayed to hear the stranger's stories.",
     "The following winter there came three more knocks, and this time it was {f} who got up to open the door."],
)

plot(
    "bargain",
    [
        [
            "@a {~Seasonday}, {h} met {f} at the crossroads. \"I will give you {t},\" said {f}, \"and all I ask in return is [your shadow|your laugh|the last word of every song you know].\" It seemed a small price.",
            "@a One market day {f} set up a stall that nobody had seen before. There was only one thing on it: {t}. \"It costs no money,\" {f} {~said}. \"Only [a secret|one happy memory|your name for a week].\" And {h}, who should have known better, shook hands on it.",
            "@b {H} had always wanted {t}. {F} had one, and {f} liked to bargain. \"Answer me a riddle and it is yours,\" {fhe} said. \"Answer wrong, and you will [carry my bags for a year|sweep my floors until spring|never whistle again].\"",
        ],
        [
            "@a At first everything went well. {T} was even better than it looked. But little by little {h} noticed what was missing. [The {~beasts} no longer came when {he} called.|Songs sounded flat.|Food tasted of paper.] A bargain is easily made and hard to carry.",
            "@a For seven days {h} was the happiest soul {at}. On the eighth {he} woke up and felt a hole where something used to be, and {t} could not fill it.",
            "@b {H} walked up and down {~longtime}, thinking. {He} asked the {villager} for advice, and the {villager} said, \"Never play a game whose rules you have not read.\"",
        ],
        [
            "@a So {he} went back. \"A bargain is a bargain,\" said {f} with a grin. \"True,\" said {h}, \"but you promised me {t} for as long as I wished to keep it, and I do not wish to any more.\" The grin grew smaller.",
            "So {he} thought of a plan. \"I will play you for it,\" {he} told {f}. \"If I can make you laugh, we are even.\" {F} had not laughed in a hundred years. Then {h} [put a bucket on {his} head and danced|told the one about the {beast} and the bishop|tried to look dignified and sat down in a puddle].",
            "@b In the end {h} told the truth: \"I do not know the answer. But I know that you have nobody to play with.\" {F} was silent for a long time. \"That,\" said {f}, \"is the right answer.\"",
        ],
        [
            "They parted as equals, which is rare. {H} walked home with empty hands and a full heart, whistling.",
            "And because {f} was not really wicked, only bored, {t} came back a week later in a brown paper parcel, with a note: [No charge.|You were right.|For the laugh.]",
            "After that {f} came round every Thursday for a game of cards, and always lost, and did not mind.",
        ],
    ],
    [
        "{H} makes a careless bargain {at} and gains {t} from {f}, at a price. Only wit and honesty undo the deal, and the two of them part as friends.",
        "Tempted by {t}, {h} accepts an offer from {f} {at} and soon regrets it. {He} wins back what matters and learns to read the rules before playing.",
    ],
    ["Never trade what you cannot count.", "Read the rules before you play, and be kind to the one who wrote them."],
    ["the trickster who offered {h} the bargain", "the one who loved bargains and had nobody to play with"],
    ["{F} tried to sell {h} a bridge the very next week. {H} bought it for a {~smallthing} and a good story.",
     "Word got around, and soon everyone {at} came to {h} for advice before they signed anything."],
)

plot(
    "contest",
    [
        [
            "@r Every year there was a contest, and every year {f} won it. The prize was {t}. {~Seasonday} {h} put {his} name on the list, and everybody laughed[, though not unkindly|].",
            "@r {~Seasonday} the drums announced the great race. Whoever came first would win {t}. {H} was not fast. {F} was, and said so, often.",
            "@c \"This year,\" said {h}, \"I will enter the {~warmfood} contest.\" The favourite was {f}, who had won eleven times and kept the medals polished. First prize was {t}.",
        ],
        [
            "{He} practised {~longtime}. [{He} practised in the rain.|{He} practised in {his} sleep.] {He} was terrible at it, and then {he} was bad at it, and then, quite suddenly, {he} was not bad at all.",
            "On the morning of the contest {his} knees would not stop shaking. \"Nervous?\" asked {f}. \"Yes,\" said {h}. {F} looked surprised. \"So am I,\" {fhe} {~said}. \"Nobody ever asks.\"",
            "Half of the crowd had come to see {f} win and the other half had come for the {~warmfood}. Nobody had come to see {h}, except the {villager}, who waved a very small flag.",
        ],
        [
            "@r It was close. It was so close that nobody dared to breathe. And then, a moment before the end, {f} stumbled. {H} could have gone on alone. {He} looked at the prize, and at {f}, and turned back.",
            "@r Near the end {h} was ahead. {He} could hardly believe it. Then {he} heard {~sound} and looked round: {f} was sitting on the ground, holding one foot. {H} stopped.",
            "@c When the judges had seen everything, they frowned and whispered {~longtime}. It was {f} who spoke first. \"Mine is perfect,\" {fhe} said, \"and that one is better.\" And {fhe} pointed at {h}.",
        ],
        [
            "@r They crossed the line together, arm in arm, dead last and laughing. The judges argued until supper and then gave {t} to both of them.",
            "So nobody won that year, and it is the only contest that people {at} still remember.",
            "@c {H} won, and for a moment did not know what to do about it. Then {he} put {t} on the table between the two of them and said, \"Tell me how you make yours.\"",
            "@r {H} came second. {He} was given a {~smallthing} on a ribbon, and {he} would not have exchanged it for {t} or for anything else in the world.",
        ],
    ],
    [
        "{H} enters a contest for {t} {at}, although {f} has always won. At the decisive moment kindness counts for more than the prize.",
        "Nobody believes in {h} when {he} takes on {f} for the sake of {t} {at}. The contest ends without a proper winner and with a new friendship.",
    ],
    ["There are things worth more than coming first.", "A rival is a friend who has not been asked yet."],
    ["{h}'s rival, who had won every year until then", "the champion, who was just as nervous as {h}"],
    ["The next year they entered as a team and came last again, to loud applause.",
     "{H} and {f} went on practising together, mostly because it was fun to lose to each other."],
)

plot(
    "map",
    [
        [
            "{~Seasonday}, {h} found a map [in an old coat|between two floorboards|inside a loaf of bread]. In the corner somebody had drawn {t}, and beside it a cross, and beside the cross the word HURRY.",
            "It began with a rumour: {~far}, they said, lay {t}, and whoever found it would never be poor again. {H} was very tired of being poor.",
            "A letter came {~seasonday}, [ninety years late|with no name on it|smelling of {~smell}]. \"Look for {t},\" it said, \"where the {~tree} points at noon.\"",
        ],
        [
            "{He} could not go alone, so {he} asked {f}. They packed {~warmfood}, a rope and a {~smallthing}, and told nobody. [By noon they were lost.|By nightfall they had argued twice and made up three times.]",
            "{F} came along, [partly to help and mostly to complain|because somebody had to read the map the right way up|and brought far too many sandwiches]. They crossed the river and the hills, and slept under the stars.",
            "\"Treasure is heavy,\" said {f}. \"You will need someone to carry the other end.\" So they went together, over the hills and past the last {~tree}, singing out of tune.",
        ],
        [
            "On the third day they reached the place and dug until their arms ached. There was a box. In the box was {t}, and nothing else: no {~treasure}, not one coin. [{H} sat down in the grass.|For a moment nobody spoke.]",
            "They found it, too. But {t} was smaller than it looked on paper, and a little bent. They looked at each other, and then {f} began to laugh, and then neither of them could stop.",
            "At the end of the map was an old {beast}, sitting on {t}. \"I drew that map,\" it said. \"I hoped somebody might come. Would you like some {~drink}?\"",
        ],
        [
            "On the way home it rained, and they told each other everything they had never told anyone. \"You know,\" said {h} at the door, \"I think we did find it after all.\"",
            "Years later {h} still had the map on the wall. Visitors asked about {t}. {H} always told them about the rain, the river and the songs instead.",
            "They never did get rich. But {h} had crossed the hills and come back, and from that day on no road looked too long.",
        ],
    ],
    [
        "{H} discovers a clue to {t} and leaves {p} behind, with {f} for company. The treasure turns out to be small, but the journey makes them friends for life.",
        "A map leads {h} and {f} far from {p} in search of {t}. What they bring home is not riches but a story and each other.",
    ],
    ["The best part of a treasure is the road to it.", "You can find more than you were looking for."],
    ["{h}'s companion on the treasure hunt", "the one who came along and carried the sandwiches"],
    ["They turned the map over and found another one on the back. {F} was already packing.",
     "{H} drew a new map, hid it in an old coat, and waited for somebody else to find it."],
)

plot(
    "broken",
    [
        [
            "@a The pride of the place was {t}. Then, {~seasonday}, it [stopped|fell silent|went dark], and nobody knew why. Experts came. They shook their heads and sent their bills.",
            "@b {~Seasonday}, {h} broke {t}. It was an accident. It took less than a second, and it felt like the end of the world.",
            "@a Something was wrong with {t}. It had always [hummed a little in the evening|shone in the dark|been warm to the touch], and now it did not. {H} was the only one who noticed.",
        ],
        [
            "@a {H} was no expert. {He} simply sat down beside it and listened {~longtime}. \"What are you doing?\" asked {f}, who was passing by. \"Waiting for it to tell me,\" {~said} {h}.",
            "{He} tried glue, and string, and [a strongly worded letter|the other end of the hammer|singing to it]. Nothing helped. Then {f} looked over {his} shoulder and said, \"May I?\"",
            "@b {H} wanted to hide it and say nothing. But {f} had seen everything. \"I won't tell,\" {fhe} {~said}. \"You will.\"",
        ],
        [
            "@a They took it apart on the kitchen table. Inside, no bigger than a pea, was [a nest with one blue egg|a tiny note that said OUCH|a single grain of sand]. They [moved it|lifted it out] as gently as they could.",
            "@a It turned out that {t} was not broken at all. It was tired. It had worked for a hundred years without a day of rest, and nobody had once said thank you. So {h} said it.",
            "@b They worked by candlelight until the last piece was in its place. There was still a crack, and {h} filled it with gold paint, so that nobody could overlook it.",
        ],
        [
            "In the morning {t} was itself again, and better. Everyone cheered for {h}, and {h} pushed {f} to the front, where {fhe} turned quite pink.",
            "@a Now it works a little slower than before. Nobody minds. {H} says that it has earned it.",
            "@b Nobody was angry. \"It was too perfect before,\" they said. \"Now it is ours.\"",
        ],
    ],
    [
        "@a When {t} breaks {at}, the experts give up, but {h} sits down and listens. Together with {f}, {he} finds the small cause and mends it.",
        "@b {H} finds {t} broken {at} and would rather hide it, until {f} lends a hand. What they repair is never quite the same, and all the better for it.",
    ],
    ["Listening mends more than hammers do.", "A mended thing is worth more than a perfect one."],
    ["the passer-by who helped {h} mend {t}", "the one who looked over {h}'s shoulder and knew what to do"],
    ["People began to bring {h} their broken things: clocks, chairs, and once a broken heart. {He} mended most of them.",
     "{H} and {f} put up a sign: EVERYTHING REPAIRED, EXCEPT TEMPERS."],
)

plot(
    "wish",
    [
        [
            "{~Seasonday}, {h} polished {t}, and out of it came a voice. \"Two wishes,\" it said. [\"And be quick about it.\"|\"Read the small print.\"|\"I have not got all day.\"]",
            "Whoever made a wish while holding {t} would have it granted. That is what the {villager} said, and {h}, who did not believe a word of it, tried it at once.",
            "It was {f} who gave {t} to {h}. \"It can grant two wishes,\" {fhe} said. \"I have never dared to use it.\"",
        ],
        [
            "@a {H} wished [to be rich|never to work again|for a little more time|to be admired by everyone]. There was {~sound}, and then it was so. It was wonderful for a day. By the third day {he} [could not close the door for visitors|had nobody to share it with|was bored to tears].",
            "@a {He} did not stop to think. \"I wish that everyone {at} would do as I say,\" said {h}. And they did. They agreed with everything, and laughed at every joke, and it was the loneliest week of {his} life.",
            "@b {H} thought about it {~longtime}. {He} could wish for {~treasure}. {He} could wish for fame. In the end {he} wished for {~warmfood}, because {he} was hungry, and then {he} could have kicked {self}.",
        ],
        [
            "@a Only {f} did not change. \"You look unhappy,\" {fhe} said, just as before. \"I am,\" said {h}, and it was such a relief to say so that {he} nearly cried.",
            "{He} went to find {f}. \"I made a mistake,\" {he} said. {F} {~smile}. \"Everyone does, with the first wish. That is why you should give the second one away.\"",
            "@a \"There must be some way back,\" {h} said to {f}. \"There is,\" {~said} {f}. \"You have to wish something for somebody else, and mean it.\"",
        ],
        [
            "So {h} closed {his} eyes and wished something for {f}. {He} never said what it was. But {f} [laughs more easily now|has slept well ever since|came dancing down the road the next morning], and {t} has been quiet ever since.",
            "@a It took one more wish to undo the first. Afterwards {h} put {t} on the highest shelf, with its face to the wall, and made {~warmfood} with {his} own two hands.",
            "@a When it was done, everything was as it had been: the leaking roof, the cold floor, the long days. {H} had never seen anything so beautiful.",
        ],
    ],
    [
        "{T} grants {h} a wish {at}, and it goes wrong almost at once. With some good advice from {f}, {he} learns that the best wishes are made for others.",
        "{H} is given a wish {at} by means of {t} and spends it badly. Only {f} stays the same, and a second wish, made for somebody else, puts everything right.",
    ],
    ["The best wishes are the ones you make for somebody else.", "Be careful what you wish for, and generous with the rest."],
    ["the friend who did not change when everything else did", "the one who knew how to undo a wish"],
    ["Somebody else found {t} on its shelf, and one hears that {he} was seen running after a flying cake. But that is another story.",
     "{H} still makes wishes now and then, but only on birthdays, and only small ones."],
)

plot(
    "enemies",
    [
        [
            "{H} and {f} had not spoken for years. It was about {t}: each said that it was theirs. There was a line of chalk down the middle of the road, and neither of them ever crossed it.",
            "Everybody knew that {h} could not stand {f}. {F} could not stand {h} either. They had once quarrelled over {t}, and by now nobody remembered who had started it.",
            "Next door lived {f}, who [sang too early|snored too loudly|knew everything better]. {H} had built a fence, and then a higher fence. On top of the fence, just out of reach of both, lay {t}.",
        ],
        [
            "@a Then, {~seasonday}, the river rose. It took the bridge and the road, and in the morning two enemies sat on the same roof with {t} between them and water all around.",
            "@b Then winter came early, and it was a hard one. {H} had wood but no food. {F} had food but no wood. They looked at each other across the snow for three days.",
            "@c {~Seasonday} there was {~sound} from beyond the wall. {H} listened. It came again. It was {f}, and {fhe} was crying.",
        ],
        [
            "@a \"Nice weather,\" said {f} after an hour. {H} said nothing. After two hours {he} said, \"You can have half my sandwich.\" It was the longest talk they had had in years.",
            "@b \"I suppose,\" said {h} at last, \"that you might come in. For a moment. Because of the cold.\" \"I suppose I might,\" said {f}. {Fhe} had brought {~warmfood}.",
            "@c {H} climbed up, [grumbling all the way|tearing {his} good coat], and looked over. \"What is it?\" {he} asked. \"It is my birthday,\" said {f}, \"and nobody knows.\" {H} was quiet. \"I know now,\" {he} said.",
        ],
        [
            "@a When the water fell, it had washed the quarrel away with everything else.",
            "They never did find out whose {tk} it was. It hangs between the two doors now, and on warm evenings they argue about it for the fun of it.",
            "What had stood between them came down in spring. They made a bench out of it, long enough for two.",
        ],
    ],
    [
        "{H} and {f} are sworn enemies {at} because of an old quarrel over {t}. A hard night forces them together, and they discover how little there was to fight about.",
        "Years of silence over {t} divide {h} and {f}, who are neighbours {at}. When one of them needs help, the quarrel melts away.",
    ],
    ["It takes two to quarrel and only one to stop.", "Most fences would be better as benches."],
    ["{h}'s old enemy, who became a friend", "the neighbour who had quarrelled with {h} over {t}"],
    ["The two of them still disagree about everything, every evening, over {~drink}.",
     "When somebody new moved in next door, they went over together to warn each other about it, and came back with a third friend."],
)

plot(
    "gift",
    [
        [
            "It was nearly {f}'s birthday, and {h} wanted to give the best present in the world. {He} saved for months, and at last {he} held {t} in {his} hands.",
            "{H} had promised to bring {t} to {f}, who lived {~far}. It was not a heavy thing to carry. But the road was long, and full of people.",
            "All year {h} had worked on a gift for {f}: {t}, made from nothing but patience and {~smallthings}.",
        ],
        [
            "On the way {he} met a {beast} shivering in the {~weather}. It said nothing, and only looked. {H} gave it {his} coat. A little further on sat the {villager}, with nothing to eat. There went the {~warmfood}. And at the last bridge there was somebody who needed {t} more than anyone needs a present.",
            "But at the bridge sat the old {villager}, weeping. \"I have lost everything I had,\" she said. {H} held {t} behind {his} back. Then, [slowly|with a sigh|before {he} could change {his} mind], {he} held it out to her.",
            "Halfway there {he} slipped on the ice, and {t} rolled down the hill and was gone. {H} looked for it {~longtime}. In the end {he} went on with empty hands.",
        ],
        [
            "So {he} came to the door late, tired and cold. \"I had a present for you,\" {he} said, \"when I set out.\" {F} looked at {him} for a while and then threw both arms around {him}.",
            "{H} did not know what to say. {He} told {f} the whole story instead, from the beginning. It took until midnight, and when it was over, {f} was smiling.",
            "\"I have nothing to give you,\" said {h}. \"You walked all this way in the {~weather},\" said {f}, \"and you call that nothing?\"",
        ],
        [
            "The next morning there was a parcel outside the door. Nobody knows who put it there. In it lay {t}, polished like new, and a {~smallthing} for luck.",
            "They ate {~warmfood} from the same plate and told stories until the candle went out. {F} said it was the best birthday since the world began.",
            "Years later, when {f} was asked about the finest gift of all, {fhe} did not mention {t}. {Fhe} said: \"Once, somebody came.\"",
        ],
    ],
    [
        "{H} sets out from {p} with {t} as a gift for {f}, and gives away all {he} has on the road. Arriving with empty hands, {he} finds that coming at all was the gift.",
        "{H} wants to surprise {f} with {t}, but there is always somebody {at} who needs help more. The finest present turns out to be the story of how it was lost.",
    ],
    ["The best present is to come yourself.", "What you give away on the road is not lost."],
    ["the friend for whom the gift was meant", "the one whose birthday it was"],
    ["{F} set out the next year to bring {h} a gift, and met every one of those people on the road.",
     "The {beast} in the warm coat is seen now and then, and it always bows when {h} goes by."],
)

plot(
    "mystery",
    [
        [
            "@a Things began to vanish. First a {~smallthing}, then a spoon, then the {villager}'s left shoe. When {t} went too, {~seasonday}, {h} decided to solve the mystery.",
            "@b Every night, at exactly midnight, {~sound} came from the room with {t} in it. Every morning something had been moved. [\"Ghosts,\" said the {villager}.|\"Mice,\" said the {villager}.] {H} was not so sure.",
            "@c {~Seasonday}, somebody left {t} on {h}'s doorstep. The next day there was a {~smallthing} beside it. The day after there was a cake. {H} made up {his} mind to find out who it was.",
        ],
        [
            "{He} sprinkled flour on the floor, hid behind the curtain and waited. Beside {him} waited {f}, who [had brought biscuits|kept sneezing|could not keep still]. The clock struck ten, eleven, twelve.",
            "{He} asked questions. {He} wrote the answers down in a small book. \"It is always the one you least suspect,\" said {f}, who was helping. So they tried to suspect everyone a little.",
            "{He} asked {f} to keep watch as well, because four eyes stay open longer than two. They drank {~drink} to stay awake and told each other riddles in a whisper.",
        ],
        [
            "@ab And then the door opened. In came [a {beast} in a nightcap|a very small {beast} on very quiet feet]. It took what it had come for, [hummed a little|sighed], and went out again. They followed on tiptoe.",
            "A shadow moved. \"Now!\" cried {h}, and [lit the lamp|pulled the string|jumped out of the cupboard]. There, blinking in the light, sat a {beast}, more frightened than they were.",
            "@a The trail led {~far}, to a hole under the roots of a {~tree}. {H} put {his} head inside and saw {his} own {tk} looking back at {him}, and behind it, in the warm dark, six tiny {beasts}.",
        ],
        [
            "@c \"But why?\" asked {h}. \"You smiled at me once,\" said the {beast}, \"in {~month}. Nobody else ever did.\"",
            "@ab It had only been building a home, and it had a whole winter to get ready for. \"Case closed,\" said {h}, and wrote in the little book: No thief. One neighbour.",
            "\"Next time,\" said {h} kindly, \"knock.\" And ever since, at exactly midnight, there is a knock at the door {at}.",
            "@a They went home without a word. The next evening {h} put out a plate of {~warmfood} and an old blanket, and nothing ever vanished again, except the {~warmfood}.",
        ],
    ],
    [
        "Strange things happen around {t} {at}, so {h} and {f} keep watch by night. The culprit is a harmless {beast} in need of a home, and the case ends with a plate of supper.",
        "{H} turns detective {at} when {t} is at the centre of a puzzle, with {f} as a restless assistant. Behind the mystery they find not a thief but a neighbour.",
    ],
    ["Most mysteries are only neighbours we have not met.", "Look twice before you call somebody a thief."],
    ["{h}'s assistant, who kept watch all night", "the one who helped to solve the mystery, and who brought the biscuits"],
    ["{H} had cards printed: MYSTERIES SOLVED, GENTLY. The first client was a goose with a stolen alibi.",
     "On the following night there was a second plate beside the first. Nobody asked whose it was."],
)

plot(
    "letter",
    [
        [
            "{~Seasonday} a letter came to the wrong door. It was not for {h} at all. It was for {f}, who lived {~far}, and with it came {t}, wrapped in brown paper.",
            "{H} found a bottle with a letter inside. \"Whoever reads this,\" it said, \"please bring {t} to {f}. It is more important than you think.\"",
            "An old woman pressed {t} into {h}'s hands. \"Take it to {f},\" she whispered. \"Tell {fhim} I was wrong.\" And before {h} could ask, she was gone.",
        ],
        [
            "It would have been easy to forget about it. {H} tried to, until supper. Then {he} put on {his} warmest scarf and set off with {t} under one arm.",
            "The road was long. A {beast} told {him} to turn left, and a signpost told {him} to turn right. {H} [tossed a coin|followed {his} nose|asked the {villager}], and it rained all the same.",
            "{He} walked for two days, slept in a haystack and shared {his} bread with a {beast}, who knew the way. \"Few people go there,\" it said. \"Fewer knock.\"",
        ],
        [
            "{F} opened the door only a little way. [{Fhe} had not had a visitor in seven years.|{Fhe} had been waiting for so long that {fhe} had forgotten what for.] Then {fhe} saw {t}, and {fhis} face changed.",
            "At last {he} stood before {f}. {H} had practised a speech, but when the moment came, {he} simply held out {t}. {F} took it in both hands and began to weep.",
            "\"You are late,\" said {f}. \"I know,\" said {h}. \"I came as soon as it was not mine to keep.\" And {f}, who had been angry for years, could not remember why.",
        ],
        [
            "\"It is from my sister,\" said {f}. \"She wants me to come home.\" So they walked back together, and the way was only half as long.",
            "{H} never learned what it all meant. But that night every window in the house was lit, for the first time in years.",
            "\"Stay for supper,\" said {f}. It was {~warmfood}, and it was past midnight when they had finished talking.",
        ],
    ],
    [
        "By mistake a message reaches {h} {at}: {t} must be brought to {f}. The journey is long, but it ends an old sorrow and begins a friendship.",
        "{H} leaves {p} to deliver {t} to {f}, who has given up waiting. One small errand turns out to mend a family.",
    ],
    ["Some errands are worth the walk, even if they are not yours.", "It is never too late to deliver good news."],
    ["the one to whom {t} had to be brought", "the one who had waited years for a message"],
    ["A second letter came in spring, and this one had {h}'s own name on it.",
     "{H} became a messenger after that, the slowest and most welcome one for miles."],
)

plot(
    "garden",
    [
        [
            "{~Seasonday}, {h} planted {t} in the ground. \"It will not grow,\" said {f}. \"It is not that kind of thing.\" {H} watered it all the same.",
            "Nothing grew {at}, not so much as a nettle. Everyone had given up, except {h}, who dug a hole, laid {t} in it and covered it up like a sleeping child.",
            "{H} had one patch of earth no bigger than a tablecloth. {F} laughed at it. \"What will you grow there?\" {fhe} asked. \"That,\" said {h}, and put {t} into the ground.",
        ],
        [
            "A week went by, and a month. {H} sat beside the bare patch every evening and told it the news. In {~month} it snowed. {He} put {his} own blanket over it and went to bed cold.",
            "Spring came and nothing happened. {F} came by on the way to market and shook {fhis} head. The {villager} shook hers. {H} went on watering, in sun and in {~weather}.",
            "\"Why do you bother?\" asked {f} one evening. {H} thought about it. \"Because it has only got me,\" {he} said. {F} said nothing, but the next day {fhe} brought a second watering can.",
        ],
        [
            "And then, one morning, there was a crack in the earth. In the crack was something green. {H} did not dare to breathe. [By noon it had reached {his} knee.|By evening it was as tall as a door.]",
            "It was {f} who saw it first: a single shoot, thin as a thread. \"Come quickly!\" {fhe} shouted, and the two of them lay on their bellies in the mud and looked at it until dark.",
            "On the hundredth day it broke through, and it was not like anything that anybody had seen. It had leaves of silver, and it [hummed when the wind blew|smelled of {~smell}|turned to follow {h} like a sunflower].",
        ],
        [
            "It bore fruit in autumn, and each one tasted of something different. {H} gave them all away. The first one went to {f}, who ate it without a word and asked for a spade.",
            "Today it is the tallest tree for miles, and children climb in it. They know nothing about {t}. {H} does, and sometimes pats the trunk in passing.",
            "Nobody ever called it foolish again. But {h} would have gone on watering it anyway.",
        ],
    ],
    [
        "{H} plants {t} {at}, although {f} and everybody else thinks it foolish. Patience wins in the end, and something wonderful grows.",
        "In poor soil {at}, {h} cares for {t} as if it were a seed, while {f} first mocks and then helps. After a long wait it breaks through and makes believers of them all.",
    ],
    ["Things grow for those who wait beside them.", "Patience looks foolish until it blooms."],
    ["the doubter who came back with a watering can", "the one who laughed at first and then helped"],
    ["{F} planted a boot the following spring. So far there is nothing to see, but they are both hopeful.",
     "People came from far away for a cutting, and {h} gave one to everyone who promised to talk to it."],
)

plot(
    "star",
    [
        [
            "{~Seasonday} something fell from the sky. It came down [behind the barn|in the middle of the path|with a hiss in the wet grass], and when {h} ran to look, there sat {f}, shining a little. \"I have lost my way,\" {fhe} said. \"I belong up there.\"",
            "{~Seasonday}, {h} found {f} crying [under the {~tree}|on the doorstep|beside the road]. \"I want to go home,\" {fhe} said. \"But home is [on the moon|at the top of the sky|behind the stars], and my ladder broke.\"",
            "Nobody knew where {f} came from. {Fhe} had simply been there {~seasonday}, wrapped in [moonlight|a curtain|leaves], and asked {h}: \"Is this the way up?\"",
        ],
        [
            "They tried everything. They tried a tower of chairs. They tried a very large kite. They tried asking a {~beast}, who said that it was not that sort of bird. Nothing went high enough.",
            "\"How do you get to the sky?\" {h} asked the {villager}. \"You need something that is lighter than you are,\" said the {villager}. \"What have you got?\" {H} had only {t}.",
            "{H} owned nothing that could fly. But {he} had {t}, and {he} had an idea, which is the lightest thing of all.",
        ],
        [
            "So at midnight they climbed the highest [hill|roof|tree], and {h} held {t} up to the moon. For a long time nothing happened. Then, softly, {t} began to glow, and a thin silver stair came down out of the dark.",
            "So they built it out of {t}, [three bedsheets|an old sail|nine umbrellas] and all the string in the house. It looked like nothing on earth. It wobbled, it creaked, and it rose.",
            "{H} whispered into {t} what {he} had never told anyone: that {he} would rather {f} stayed. It was the truest thing {he} had ever said, and true things are light. {T} lifted from the ground.",
        ],
        [
            "\"Will you be lonely?\" asked {f}. \"Yes,\" said {h}, \"but I will look up.\" And every clear night one star {at} blinks twice, and {h} blinks back.",
            "{F} turned round once, and waved, and was gone among the others. In the morning {t} lay in the grass, still warm.",
            "In the end {f} stayed one more day, and then one more. \"Home can wait,\" {fhe} said. \"It has been there for a million years.\"",
        ],
    ],
    [
        "{F} has come down from the sky and cannot get back, until {h}, who lives {at}, takes pity. With {t} and an odd idea, {h} finds a way, though it is hard to say goodbye.",
        "{H} meets {f} {at}, lost and far from home. Only {t} can open the way back, and the parting leaves behind a light that never quite goes out.",
    ],
    ["To love somebody is to help them go home.", "True things are lighter than air."],
    ["the visitor from the sky who wanted to go home", "the lost one whom {h} helped to get home"],
    ["On the first clear night of the year a parcel fell down the chimney. It was full of stardust, and a note: For {~drink}.",
     "{H} took up astronomy, and the neighbours were kind about it."],
)

plot(
    "bridge",
    [
        [
            "There was only one way across the gorge, and in the middle of the bridge sat {f}. \"Nobody passes,\" said {f}, \"unless they give me what I want.\" {~Seasonday}, {h} had to get to the other side.",
            "{~Seasonday}, {h} was on {his} way to market with {t} when {f} stepped out and blocked the road. \"There is a toll,\" {fhe} said. \"I have not decided yet what it is.\"",
            "All {h} wanted was to go home. But the gate was shut, and in front of it stood {f}, arms folded. \"Password,\" {fhe} said.",
        ],
        [
            "{H} offered a {~smallthing}. {F} shook {fhis} head. {H} offered {t}. {F} yawned. \"Everyone offers me things,\" {fhe} {~said}. \"It is very dull.\"",
            "{H} tried politeness. {He} tried running. {He} tried a false beard. Each time {he} found {self} back where {he} had started, with mud on {his} nose, and {f} not even out of breath.",
            "\"Is it a {~smallthing}?\" asked {h}. \"No.\" \"Is it {~warmfood}?\" \"No.\" They went on like this {~longtime}. It was almost companionable.",
        ],
        [
            "At last {h} sat down and unpacked {his} {~warmfood}. \"I am in no hurry,\" {he} said. \"Would you like half?\" {F} stared. In a hundred years nobody had thought of that.",
            "So {h} did the only thing left. \"How are you?\" {he} asked. There was a long silence. \"Nobody,\" said {f}, in quite a different voice, \"has ever asked me that.\"",
            "{H} looked closely at {f}. \"You don't really know what you want, do you?\" {he} said. {F} looked at the ground. \"No,\" {fhe} said in a small voice. \"I only know that everybody goes away.\"",
        ],
        [
            "They talked until the stars came out. When {h} went on at last, {f} walked along, \"just to the next bend\", and is walking still.",
            "{H} crosses there twice a week now and brings {~warmfood}. There is still a toll. It is one story, and it has to be new.",
            "{H} left {t} there as a present, and on the way back found the gate wide open and a sign on it: WELCOME. MIND THE STEP.",
        ],
    ],
    [
        "Near {p}, {h} finds the way blocked by {f}, who demands a toll that neither {t} nor cunning can pay. In the end a kind word opens the road.",
        "{H} wants to pass {at}, but {f} stands guard and is not impressed even by {t}. What the guard really lacks is company, and {h} is the first to offer it.",
    ],
    ["Ask people how they are before you ask them to move.", "Loneliness often looks like anger from far away."],
    ["the guard who would not let {h} pass", "the lonely gatekeeper with the toll"],
    ["Travellers now come out of their way to pay the toll, and some of the stories are quite good.",
     "One day somebody else blocked the road, and this time {f} knew exactly what to ask."],
)

plot(
    "lie",
    [
        [
            "@a It started with a very small lie. \"I have fought a giant,\" said {h}, \"with nothing but {t}.\" Everyone gasped. It felt so good that {he} said it again, and by evening there were three giants.",
            "@b {~Seasonday}, {f} asked who had broken {t}. \"It was not me,\" said {h}. \"It was [a giant bird|the wind|a travelling circus].\" And that was the first lie.",
            "@a \"Of course I can use {t},\" said {h}. \"I am the greatest master of it alive.\" It was not true. It was not even nearly true.",
        ],
        [
            "@a A lie needs feeding. Soon {h} had to invent a scar, a witness and a song about it. {F} listened to it all with shining eyes, and that was the worst part.",
            "The lie grew. It needed a second lie to lean on, and a third to hold the second. {H} lay awake at night and counted them.",
            "@a Word spread. People came from {~far} to hear about it, and {f} sold tickets. {H} smiled until {his} face hurt.",
        ],
        [
            "@a Then, one evening, a real one came: [a giant as high as the church|a storm as black as a boot|a beast with too many teeth]. Everyone turned to {h}. \"You know what to do,\" they said, and put {t} into {his} hands.",
            "@a Then {f} came running. \"We need you!\" {fhe} cried. \"You are the only one who can do it!\" And {h} understood that there was no way round it any more.",
            "One night {f} said quietly, \"I know it isn't true. I have known since the first day.\" {H} went red to the tips of {his} ears. \"Why did you never say so?\" \"I was waiting for you to.\"",
        ],
        [
            "So {h} told the truth. It was very short, after all those lies. There was a silence. Then {f} took {his} hand and said, \"Good. Now we can think of something real.\" And together they did.",
            "\"I made it up,\" said {h}. \"All of it.\" It was the bravest thing {he} had ever done, and this time it really happened.",
            "{He} climbed on a chair and told everyone. Some laughed, and some were cross, and one of them clapped. It was {f}, and {fhe} did not stop until the others joined in.",
        ],
    ],
    [
        "{H} tells a small lie about {t} {at}, and it grows until nobody can control it. With {f} looking on, {he} finally admits the truth and finds that it is lighter to carry.",
        "A boast about {t} makes {h} famous {at}, and {f} believes every word. When it comes to the test, {he} confesses, and that turns out to be the bravest deed of all.",
    ],
    ["The truth is lighter to carry.", "A small lie needs a large house."],
    ["the one who believed every word, or pretended to", "{h}'s friend, who waited for the truth"],
    ["The next time somebody asked for a story, {h} said, \"This one is made up,\" and it was even better.",
     "{F} wrote the whole thing down. It is quite a good book, and every word of it is true, except the title."],
)

plot(
    "song",
    [
        [
            "@a {~Seasonday} a giant came down from the hills and fell asleep across the only road. Nothing could wake it. \"It needs the old song,\" said the {villager}, \"but nobody remembers how it goes.\"",
            "@b For weeks nobody had slept. At night a terrible wailing came from [the well|the hills|under the floor], and nobody dared to look, until {h} took {t} and went to see.",
            "@c One {~season} all the birds stopped singing. It grew so quiet that you could hear the {~flower} grow. {H} could not bear it.",
        ],
        [
            "Only {f} knew a part of it, and {f} [was too shy to sing|had sworn never to sing again|could only hum]. {H} sat down beside {fhim} with {t} and waited.",
            "{He} went from door to door and collected what was left of the old tune. The {villager} knew three notes. The {beast} knew two. And {f} knew how it ended, and had never told anyone.",
            "\"Perhaps somebody has to begin,\" said {f}. So {h} began. {He} had a voice like a rusty hinge, and {he} kept time by knocking on {t}.",
        ],
        [
            "They put the pieces together like a broken cup. At first it was dreadful. A window slammed. Then {f} joined in, very softly, and all at once it was a song.",
            "Note by note it came back. {H} beat time on {t}, {f} sang, and one after another the doors opened and people stood on their steps, with their mouths open and their eyes wet.",
            "@b In the deepest dark {he} found it: something huge and sad that had forgotten how its lullaby went. {H} sang what {he} knew. {F} sang the rest.",
        ],
        [
            "@a By sunrise it was over. The giant stretched, smiled, and said, \"I have not dreamed so well in ages.\" Then it went home on tiptoe, so as not to wake anyone.",
            "@bc That night everyone slept {at}, down to the last {beast}, and in the morning the birds had learned the tune.",
            "They sing it every year now, all together and a little off key. {H} still keeps time on {t}.",
        ],
    ],
    [
        "A lost song is all that can restore peace {at}, and {h} sets out to find it. With {t} and the shy voice of {f}, the pieces come together again.",
        "{H} and {f} bring an old tune back to life {at}, keeping time on {t}. Their song puts an ancient trouble to rest, and everybody sleeps well at last.",
    ],
    ["Nobody knows the whole song alone.", "Somebody has to begin, even out of tune."],
    ["the shy one who knew how the song ended", "the singer who helped {h} remember the old song"],
    ["The giant sent a thank-you card the size of a barn door. They made it into a barn door.",
     "{F} sings on Saturdays now, and has to be asked only twice."],
)

plot(
    "winter",
    [
        [
            "@a It was the hardest winter anyone could remember. By {~month} the cupboards were bare. {H} had one thing left that was worth anything: {t}.",
            "@a The snow came early and stayed. {H} counted what was left: two onions, a candle, and {t}. \"That will do,\" {he} said, [to keep up {his} spirits|though it would not].",
            "@c One cold evening {f} knocked at {h}'s window. \"I am hungry,\" said {f}. \"So am I,\" said {h}, \"but come in. It is warmer to be hungry together.\"",
        ],
        [
            "\"We could make soup,\" said {h}. \"From what?\" asked {f}. \"From {t},\" said {h}, and put it in the pot. {F} thought {he} had gone mad, and fetched some salt to be polite.",
            "@a {He} carried {t} to the market to sell it. But there {he} met {f}, who had even less. So {h} came home with {t} still under {his} arm, and with {f} as well.",
            "@c They burned the old chair and told each other about the best meals they had ever eaten. Beside them on the table stood {t}, the last thing that nobody had the heart to sell.",
        ],
        [
            "The smell, or the rumour, brought the neighbours. One had a carrot. One had a bone. The {villager} had an onion that she had been hiding from herself. It all went into the pot.",
            "At midnight there was {~sound} outside. It was the {beast}, with three nuts in its cheeks. Behind it came the {villager} with half a loaf. Everyone had thought they were the only ones.",
            "\"We have a candle,\" said {h}. \"We have {t}, and we have each other. Let us have a feast.\" They put on their best coats and invited everyone {at}, and everyone brought the little they had.",
        ],
        [
            "It was the best meal in the world, and nobody could say why. {H} put {t} back in its place, for next time.",
            "There was enough. There was even a little left over. And when the snow melted, nobody went back to eating alone.",
            "That is how they came through the winter: not one by one, but all at one table.",
        ],
    ],
    [
        "In a hungry winter {at}, {h} has nothing left but {t} and a guest, {f}. By sharing the little they have, they bring everyone to one table.",
        "Snow and hunger come {to}, and {h} takes in {f} although there is nothing to eat but hope and {t}. One pot of soup teaches everyone to share.",
    ],
    ["A little shared is more than a lot alone.", "It is warmer to be hungry together."],
    ["the hungry guest who knocked in the middle of winter", "the one who came in from the cold"],
    ["In summer they held a feast to remember the winter by, and nobody was allowed to bring more than an onion.",
     "Spring came, and {f} planted two rows of carrots, just in case."],
)

# Plots for prompts that say something about the hero; {what} is what the prompt names: "the dark", "to fly", "music", "hat".

plot(
    "fear: out there",
    [
        [
            "One evening {f} did not come home. There was only one way to find {fhim}, and on that way there was {what}. {H} stood at the door {~longtime}.",
            "{~Seasonday}, {f} came running. \"We need {t},\" {fhe} gasped, \"and you are the only one who knows where it is.\" {H} knew. It was on the other side of the thing {he} feared most: {what}.",
            "\"Everyone is afraid of something,\" said {f} kindly. \"I am afraid of {~smallthings}.\" {H} laughed. But that very night there was nobody else to help, and there was no way round {what}.",
        ],
        [
            "{He} took {t} in both hands, because it is easier to be brave when you are holding something. {He} took one step. [Nothing happened.|{His} knees knocked together.] {He} took another.",
            "\"I can't,\" {he} told {t}. {T} did not answer, which was just as well. So {he} counted to ten, and then to twenty, and then {he} went.",
            "{F} gave {him} {t}. \"Hold on to this,\" {fhe} said, \"and think of {~warmfood}.\" So {h} thought of {~warmfood} as hard as {he} could, and put one foot in front of the other.",
        ],
        [
            "And there it was: {what}. {H} looked at it for the first time in {his} life, really looked, and had to admit that it was [smaller than {he} had thought|not even looking back|almost beautiful].",
            "Halfway there {he} noticed something odd. {He} was still afraid. But the fear had become something {he} carried, and no longer something that carried {him}.",
            "\"Excuse me,\" said {h} to the thing {he} was most afraid of, in a voice that hardly shook. \"I have to get past.\" And {he} did.",
        ],
        [
            "When {f} saw {him} coming, {fhe} could not believe it. \"But you are afraid of {what}!\" {fhe} cried. \"Yes,\" said {h}. \"I still am. I was just busy.\"",
            "Nobody ever teased {h} about {what} again. And when {he} meets somebody who is trembling, {he} does not say that there is nothing to fear. {He} holds out {t} and says, \"Come, I know the way.\"",
            "That night {h} wrote in {his} diary: Met {what}. We are not friends yet. But we nodded.",
        ],
    ],
    [
        "{H}, who lives {at}, is afraid of {what}, until {f} needs help. With {t} to hold on to, {he} goes anyway and finds that fear can be carried.",
        "Everyone {at} knows that {h} fears {what}. When {f} is in trouble, {he} takes {t} and faces it, one step at a time.",
    ],
    ["You may be afraid and go all the same.", "Fear grows smaller when you look at it."],
    ["the one for whose sake {h} faced {what}", "{h}'s friend, who needed help that night"],
    ["A week later {h} met {what} again, quite by chance. {He} said good evening."],
)

plot(
    "wish: three tries",
    [
        [
            "\"You?\" said {f}. \"You will never manage it.\" {H} said nothing. {He} only had {t} and a great deal of patience, and {he} began that same day.",
            "{He} had no teacher and no money. {He} had {t}, and {he} had {f}, who believed in {him} on every day but Monday.",
            "\"What you need,\" {~said} {f}, \"is {t}. Everyone who ever did it had one.\" So {h} went and found one.",
        ],
        [
            "The first time {he} tried, {he} fell into the duck pond. The second time {he} fell into the duck pond again, but with more style.",
            "{He} practised in the morning before anyone was awake. It went badly. It went badly for a whole {~season}. [The {~beasts} laughed.|The {villager} closed her shutters.] {H} tried again.",
            "{He} read every book on the matter, which was three. Then {he} went outside and did everything the books said one must not do.",
        ],
        [
            "{~Seasonday}, when {he} was about to give up, {f} came and sat down beside {him}. \"Why do you want it so much?\" {fhe} asked. {H} had never thought about it. {He} thought about it {~longtime}, and then {he} knew, and after that it was easy.",
            "Then, {~seasonday}, while {he} was thinking of something else, it simply happened. It lasted no longer than a breath. {F} dropped {fhis} cup. \"Do that again,\" {fhe} whispered.",
            "\"Once more,\" said {h}, \"and then I shall stop.\" And once more was enough.",
        ],
        [
            "\"So that is what it is like,\" said {h} afterwards. \"And what is it like?\" asked {f}. {H} {~smile}. \"Like being exactly where you are.\"",
            "People {at} talk about it to this day. {H} wanted {what}, and {h} did it. It is as simple as that, and it took a hundred and one tries.",
            "Now {he} teaches others. Every lesson begins with {t}, and with the same words: \"First of all, you will fall into the pond.\"",
        ],
    ],
    [
        "{H} lives {at} and wants {what}, and nobody thinks it possible. With {t}, the company of {f} and countless failures, {he} gets there in the end.",
        "All that {h} wishes for is {what}. {F} doubts it at first, but with patience and {t} the dream comes true {at}.",
    ],
    ["Everyone falls into the pond first.", "A wish is only a plan that has not been practised."],
    ["the friend who sat down beside {h} at the right moment", "the one who doubted, and then cheered loudest"],
    ["{H} made a new wish the next morning. It was even bigger, and {f} groaned and fetched a towel."],
)

plot(
    "love: forbidden",
    [
        [
            "@a Then {f} became mayor, and {f} had no patience for such things. A notice went up {at}: NO WHISTLING. NO DANCING. And at the very bottom, in red, it forbade the one thing that {h} loved most.",
            "@b There was only one who did not understand it, and that was {f}. \"What is it good for?\" {fhe} asked. \"You can't eat it, and it won't keep you warm.\" {H} tried to explain it and could not find the words.",
            "@c {~Seasonday}, {f} offered {h} a trade: {t} for {what}, all of it, for ever. {T} was worth a fortune.",
        ],
        [
            "{H} thought about it {~longtime}. A life without {what}? {He} tried it for one day, to be fair. It was a very grey day, and it lasted about a year.",
            "So {h} packed {t} and a little {~warmfood} and invited {f} for a walk. \"I can't explain it,\" {he} said, \"but I can show you.\"",
            "That night {he} could not sleep. {He} got up, lit a candle and sat beside {t}, and thought of {what} until the sun came up.",
        ],
        [
            "In the morning {he} knocked at {f}'s door. \"Give me one hour,\" {he} said. {F} looked at the clock and sighed. When the hour was over, {f} asked, in a small voice, whether there might be another.",
            "They went {~far}, and there {h} shared it all, everything {he} knew about {what}, and why it mattered. {F} did not say a word. But {fhe} forgot to look at {fhis} watch.",
            "\"I loved it too, once,\" {f} admitted at last. \"When I was small. Then somebody laughed at me.\" {H} did not laugh. {He} moved over and made room.",
        ],
        [
            "@a The next day there was a new notice: ALLOWED AGAIN, it said, ESPECIALLY ON TUESDAYS. Under it stood {t}, for anyone to borrow.",
            "{F} is worse than {h} now. They meet every week {at}, and there is nothing they like better than {what}.",
            "@c And {t}? They gave it to the {villager}, who had always wanted one. What {h} loved was not for sale.",
        ],
    ],
    [
        "{H} loves {what} above everything, but {f} sees no use in it {at}. Not even {t} can tempt {him} to give it up, and in the end the doubter is won over.",
        "{At}, {h} and {f} are at odds over {what}, with {t} at stake. Instead of arguing, {h} shows what it means and gains a friend.",
    ],
    ["Do not explain what you love; share it.", "What you love is not useless because somebody cannot eat it."],
    ["the one who saw no use in {what} at first", "the doubter whom {h} won over"],
    ["{F} began to collect everything about it, and now there is hardly room in the house for a chair."],
)

plot(
    "loss: the search",
    [
        [
            "\"Where did you see it last?\" asked {f}, who was sensible. {H} could not say. That is the trouble with {his} {what}: one only notices it when it is gone.",
            "{H} asked {f}, who had an eye for such things. \"Lost things go where they are needed,\" {fhe} {~said}. \"Take {t} and come along.\"",
            "{He} tried to manage without. {He} tried to put {t} in its place. It was no good; even {f} noticed. \"You are not yourself,\" {fhe} said. \"Let us go and look.\"",
        ],
        [
            "They looked in the usual places. They asked the {villager}, who had lost hers years ago and never missed it. They asked a {beast}, who offered them somebody else's.",
            "They followed the river to the sea and the sea to the end of the beach. There they found [an umbrella|eleven gloves|a grand piano] and a great many other lost things, but not the right one.",
            "Far from home they came to a little shop. LOST PROPERTY, said the sign, PLEASE BE PATIENT. They were patient {~longtime}.",
        ],
        [
            "On the way back, {h} stopped. A {beast} was sitting by the road, and it was plain to see that it had found something. \"Is this yours?\" it asked. \"I looked after it. I think it was homesick.\"",
            "And who should come towards them down the lane? It was the {villager}, out of breath, and waving. \"You left it at my place,\" she called, \"the night we laughed so much!\"",
            "It was {f} who understood. \"Close your eyes,\" {fhe} said. \"When were you last happy?\" {H} remembered, and walked straight there with {his} eyes still closed, and put out {his} hand.",
        ],
        [
            "So {h} had {his} {what} back. It was a little changed, and so was {h}. They have been more careful with each other ever since.",
            "{He} wept, and then {he} laughed, and then {he} gave {t} to {f}. \"For looking with me,\" {he} said. \"Most people only tell you to look harder.\"",
            "That evening {h} checked three times that {his} {what} was there. It was. It had never liked being away.",
        ],
    ],
    [
        "{H} has lost {his} {what} and cannot rest {at}. With {f} and {t} {he} goes out to search, and finds it where {he} was last happy.",
        "Nothing is right {at} since {h} lost {his} {what}. {F} comes along to look for it, with {t} in hand, and the search brings back more than was missing.",
    ],
    ["Lost things go where they are needed.", "Look first where you were last happy."],
    ["the sensible one who helped {h} search", "the friend who did not just say: look harder"],
    ["The week after, {f} lost something too. {H} was at the door with a lamp before {fhe} had finished the sentence."],
)
