"""The words of the little world. Lists here are read by grammar.py as {~name}; tables below feed world.py."""


def words(text):
    """Split a block on commas and line ends."""
    return tuple(w.strip() for line in text.strip().splitlines() for w in line.split(",") if w.strip())


# kind of body -> creatures that have it
CREATURES = {
    "paws": words("""
        fox, badger, hare, rabbit, mouse, squirrel, bear, wolf, hedgehog, otter, beaver, mole, cat, dog, kitten, puppy,
        lion, tiger, leopard, lynx, weasel, stoat, ferret, dormouse, hamster, rat, raccoon, panda, monkey, marten,
        bear cub, wolf cub, lion cub, field mouse, house cat, hound, terrier, shrew, koala, kangaroo, possum, wombat,
        meerkat, mongoose, red panda, polar bear, snow leopard, guinea pig, chipmunk, porcupine, sloth, panther, jaguar"""),
    "wings": words("""
        owl, crow, raven, magpie, sparrow, robin, wren, swallow, heron, goose, duck, duckling, gull, puffin, pigeon,
        nightingale, kingfisher, eagle, hawk, falcon, parrot, bat, moth, butterfly, bee, bumblebee, dragonfly, firefly,
        beetle, jackdaw, penguin, swan, stork, crane, cockerel, hen, finch, lark, cuckoo, peacock, pelican, turkey,
        ladybird, cricket, phoenix, griffin, pixie, fairy, sprite, albatross, woodpecker, hummingbird, flamingo, ostrich"""),
    "hooves": words("""
        horse, donkey, pony, goat, sheep, lamb, deer, stag, fawn, reindeer, cow, calf, pig, piglet, mule, ox, camel,
        giraffe, zebra, moose, elk, unicorn, centaur, boar, ram, antelope, llama, buffalo, rhinoceros, hippopotamus"""),
    "claws": words("""
        dragon, lizard, crab, lobster, tortoise, turtle, gecko, toad, frog, newt, salamander, crocodile, iguana,
        chameleon, dinosaur, wyvern, gargoyle, werewolf, small dragon, sea dragon, ice dragon, hatchling"""),
    "fins": words("""
        whale, dolphin, seal, walrus, salmon, trout, pike, octopus, squid, seahorse, starfish, mermaid, selkie, eel,
        minnow, goldfish, narwhal, shark, manatee, carp, jellyfish, sea serpent"""),
    "hands": words("""
        giant, troll, goblin, gnome, dwarf, elf, witch, wizard, ghost, ogre, imp, vampire, robot, scarecrow, snowman,
        golem, yeti, hobgoblin, boggart, faun, nymph, gorilla, orangutan, alien, zombie, leprechaun, mummy, monster, cyclops,
        house spirit, clockwork man, puppet, skeleton, banshee, elephant, snail, caterpillar, spider, worm, snake, ant"""),
}

ROLES_HE = words("""boy, king, prince, monk, duke, fisherman, grandfather, uncle, brother, wizard, old man, watchman, huntsman,
    milkman, little boy, young man, father, husband, cowboy, postman, nobleman, cabin boy, stable boy""")
ROLES_SHE = words("""girl, queen, princess, grandmother, aunt, sister, witch, seamstress, old woman, duchess, milkmaid, abbess,
    little girl, young woman, mother, wife, washerwoman, fishwife, empress, sorceress, midwife""")
ROLES_ANY = words("""
    baker, miller, lighthouse keeper, knight, pirate, sailor, captain, clockmaker, cobbler, tailor, weaver, potter, blacksmith,
    shepherd, farmer, gardener, beekeeper, carpenter, toymaker, candlemaker, glassblower, bookseller, librarian, mapmaker,
    teacher, doctor, astronaut, detective, thief, burglar, painter, musician, fiddler, piper, poet, juggler, acrobat, clown,
    ferryman, gatekeeper, bell-ringer, chimney sweep, ratcatcher, cook, innkeeper, cheesemaker, brewer, hunter, woodcutter,
    charcoal burner, tinker, pedlar, merchant, soldier, guard, messenger, squire, apprentice, orphan, traveller, hermit,
    pilgrim, fortune teller, storyteller, alchemist, inventor, engineer, scientist, explorer, diver, gravedigger, judge,
    mayor, thatcher, stonemason, goldsmith, locksmith, puppet maker, ropemaker, sailmaker, falconer, spy, child, student, nurse,
    train driver, pilot, programmer, dancer, singer, chef, barber, wanderer, king's messenger, cartographer, astronomer,
    ballerina, pianist, magician, dragon tamer, monster hunter, superhero, janitor, bus driver, goatherd, drummer, hacker""")

# material or look -> fitting things
THINGS = {
    "metal": words("""lantern, key, bell, ring, kettle, crown, sword, compass, locket, thimble, spoon, whistle, pocket watch,
        candlestick, teapot, trumpet, coin, mirror, medal, shield, anchor, weathervane, music box, chain, padlock, flute, horn,
        brooch, bucket, helmet, frying pan, hammer, cup, goblet, bracelet, clockwork bird, horseshoe, needle,
        bicycle, telescope, dagger"""),
    "wood": words("""boat, chest, fiddle, box, staff, chair, door, drum, cart, spinning wheel, rocking horse, wand, ladder, table,
        cradle, pipe, broom, walking stick, sledge, puppet, oar, harp, rowing boat, clock, raft, bowl, birdhouse, toy ship,
        piano, guitar, violin, bookcase, kite, bench, barrel, wheelbarrow"""),
    "cloth": words("""scarf, cloak, blanket, hat, coat, glove, sail, flag, carpet, pillow, sock, pair of boots, pair of mittens,
        umbrella, tapestry, sack, jumper, tent, ribbon, quilt, apron, handkerchief, curtain, teddy bear, backpack, hammock"""),
    "paper": words("""map, letter, book, diary, recipe, painting, photograph, newspaper, postcard, scroll, songbook, notebook, ticket,
        poem, birthday card, portrait, almanac, dictionary, riddle book, treaty, will"""),
    "glass": words("""bottle, lamp, jar, lens, marble, window, vase, snow globe, crystal ball, bead, hourglass, glass slipper, pearl,
        diamond, ruby, emerald, jewel, crystal, pair of spectacles, light bulb, prism, thermometer"""),
    "food": words("""loaf of bread, apple, pear, pie, cake, cheese, pumpkin, jar of honey, egg, pot of soup, biscuit, pancake, plum,
        cherry tart, turnip, carrot, potato, sandwich, pizza, cup of tea, bar of chocolate, pear tree seed, acorn, walnut, melon,
        gingerbread house, birthday cake, bowl of porridge, banana, cup of coffee, onion, jar of jam, ice cream, hamburger"""),
    "nature": words("""stone, feather, seed, shell, flower, rose, mushroom, leaf, pebble, snowflake, icicle, pine cone, sunflower, thorn,
        bone, egg shell, fallen star, raindrop, nest, tree, branch, rock, dandelion, tulip, cactus, oak, apple tree"""),
    "machine": words("""robot, train, ship, car, rocket, balloon, aeroplane, machine, computer, typewriter, camera, telephone, radio,
        engine, tram, submarine, tractor, clockwork mouse, satellite, toaster, fridge, printer, steam engine, lift, bus, truck,
        spaceship, lawnmower, vacuum cleaner, washing machine, television, laptop, phone, traffic light, drone, hot air balloon,
        airship, vending machine, calculator, lamp post, graphics card, server"""),
}
LARGE = set(words("""bicycle, boat, door, cart, spinning wheel, rocking horse, ladder, table, rowing boat, raft, piano, bookcase, bench, carpet,
    barrel, wheelbarrow, tent, hammock, window, tree, oak, apple tree, rock, cactus, sunflower, anchor, weathervane, gingerbread house, chair, cradle,
    sledge, harp, branch"""))
THING_ADJ = {
    "metal": words("silver, brass, golden, iron, copper, rusty, tarnished, bronze, tin, shining, dented"),
    "wood": words("wooden, carved, painted, oak, creaky, birch, worm-eaten, driftwood, blue-painted, polished"),
    "cloth": words("red, woollen, patched, striped, velvet, silk, moth-eaten, blue, green, embroidered, threadbare"),
    "paper": words("torn, yellowed, folded, unread, secret, faded, unfinished, sealed, ink-stained, burnt"),
    "glass": words("cracked, cloudy, blue, green, glittering, tiny, round, clear, dusty, glowing"),
    "food": words("enormous, warm, golden, sweet, last, round, perfect, lopsided, sugared, spiced"),
    "nature": words("white, black, smooth, speckled, tiny, golden, strange, blue, perfect, silvery"),
    "machine": words("little, rusty, tireless, brand new, noisy, abandoned, steam-driven, clockwork, shiny, cheerful"),
}
ADJ_ANY_THING = words("""old, magic, lost, forgotten, small, stolen, lucky, broken, mysterious, beautiful, enchanted, cursed, humble,
    wonderful, peculiar, ordinary, precious, talking, invisible, borrowed, haunted, singing, ancient""")

# "in" / "on" / "at" / "by" places of the kind one names with "the"
PLACES = {
    "in": words("""forest, woods, village, harbour town, valley, castle, old mill, swamp, market, garden, desert, mountains, city, cave,
        orchard, library, palace, jungle, hidden valley, old tower, kitchen, haunted house, bakery, inn, monastery, toy shop, ruins,
        meadow, marshes, pine forest, walled garden, snow, rain, fog, attic, cellar, museum, school, barn, graveyard, dark forest, town,
        old quarter, salt marsh, bamboo grove, deep woods, clock tower, greenhouse, circus, theatre, hospital, office, kingdom,
        frozen north, deep sea, clouds, land of giants, city of bells, enchanted forest, floating market, underground city,
        abandoned mine, observatory, bookshop, windmill, dungeon, cathedral, subway, bathhouse, laundry, zoo, big city"""),
    "on": words("""island, moor, hill, mountain, beach, farm, river, cliffs, edge of the world, moon, roof, high road, ferry, lake,
        windy plain, glacier, coast, railway, red planet, pirate ship, far shore, space station, heath, battlefield"""),
    "at": words("""lighthouse, crossroads, end of the road, edge of the forest, bottom of the sea, harbour, old bridge, market square,
        railway station, foot of the mountain, ferry landing, top of the tower, city gate, world's end, north pole, airport,
        waterfall, mouth of the river, king's court, end of the pier, bus stop, night market, fair"""),
    "by": words("river, sea, lake, old well, mill pond, stream, canal, frozen lake, sea wall, campfire, hearth, fountain"),
}
PLACE_ADJ = words("""old, quiet, windy, snowy, misty, forgotten, sleepy, lonely, silent, moonlit, dark, green, far-off, frozen, golden,
    crooked, sunlit, haunted, little, great, hidden, wild, peaceful, rainy, foggy""")

TOWN_HEAD = words("""Alder, Ash, Bramble, Briar, Brindle, Copper, Crow, Dun, Elder, Fern, Fox, Grey, Hazel, Heather, Hollow, Iron, Juniper,
    Kettle, Lantern, Larch, Linden, Mallow, Marsh, Moss, Needle, Oak, Otter, Pebble, Pine, Quill, Raven, Reed, Rook, Rowan, Salt, Silver,
    Snow, Stone, Swan, Thistle, Thorn, Tumble, Wick, Willow, Winter, Wolf, Wren, Yarrow""")
TOWN_TAIL = words("""bridge, brook, bury, by, combe, dale, fell, field, ford, gate, ham, haven, hollow, holt, hurst, ley, mere, mill, moor,
    mouth, port, ridge, stead, stow, ton, wade, watch, water, well, wick, wold, worth""")

NAMES_HE = words("""Tom, Pip, Otto, Finn, Jasper, Hugo, Milo, Oskar, Bram, Felix, Edwin, Silas, Rufus, Ned, Kit, Barnaby, Linus, Magnus, Ivo,
    Conrad, Tobias, Walter, Emil, Anton, Gus, Henry, Jonas, Leo, Marek, Niels, Omar, Percy, Quentin, Ravi, Sami, Theo, Ulf, Victor, Wilf, Yusuf,
    Albert, Basil, Caspar, Dylan, Elias, Fergus, George, Hamish, Idris, Jack, Kenji, Lorenzo, Mateo, Noah, Orson, Pavel, Robin, Stefan, Arthur,
    Bertram, Cyril, Darius, Ernest, Floyd, Gilbert, Horace, Boris, Alfie, Sam, Max, Ben, Peter, Oliver, Hassan, Diego, Luca, Ivan, Chen, David,
    Michael, Daniel, James, John, Alex, Charlie, Dmitri, Kofi, Lars, Nico, Rowan, Jürgen, José, Søren, André, Łukasz, Åke, Jean-Luc, Tomáš, Çetin, O'Hara, D'Artagnan""")
NAMES_SHE = words("""Mira, Ada, Nell, Wren, Elsa, Greta, Ida, Juno, Lotte, Maud, Nora, Olive, Petra, Rosa, Saskia, Tilda, Una, Vera, Willa,
    Yara, Zelda, Agnes, Beatrix, Clara, Dora, Edith, Flora, Hazel, Iris, Josephine, Kira, Luna, Mabel, Nina, Ottilie, Pearl, Quilla, Ruth,
    Signe, Thea, Ursula, Violet, Winnie, Xenia, Yuki, Zora, Amina, Bella, Cora, Daphne, Elin, Freya, Ginger, Hilda, Ingrid, Jana, Katja, Lena,
    Marta, Noor, Odette, Poppy, Rana, Sofia, Tess, Alice, Anna, Emma, Mary, Lucy, Sarah, Jane, Eva, Lily, Maya, Priya, Leila, Aisha, Mei, Olga,
    Carmen, Chloe, Grace, Ella, Astrid, Brigid, Matilda, Nadia, Zoë, Élise, Mårta, Inès, Šárka, Renée, Anne-Marie, Bärbel, Sofía, Chloé""")
# never used in training texts: the held-out loss and the samples of the model card use them
HELD_NAMES_HE = words("Corwin, Ambrose, Thaddeus, Benedikt, Lucian, Rafferty")
HELD_NAMES_SHE = words("Isolde, Marguerite, Philippa, Tamsin, Oriane, Henrietta")
HELD_CREATURES = words("pangolin, armadillo, toucan, basilisk, axolotl, lemur, capybara")
HELD_THINGS = words("astrolabe, accordion, chandelier, samovar, gramophone")
HELD_PLACES = (("in", "vineyard"), ("in", "catacombs"), ("on", "archipelago"), ("at", "aqueduct"), ("in", "planetarium"))

SYLLABLE_START = words("""b, br, c, cl, d, dr, f, fl, g, gl, gr, h, j, k, kr, l, m, n, p, pl, qu, r, s, sh, sk, sl, sn, st, t, th, tr, v, w, y, z""")
SYLLABLE_MID = words("a, e, i, o, u, ae, ai, ee, ie, oo, ou, y, a, e, o, i")
SYLLABLE_END = words("b, ck, d, ff, g, l, ll, m, n, nd, ng, p, r, rk, rn, s, sh, st, t, th, x, zz, n, r, l, m")

TITLES_HE = words("Captain, Old, Little, King, Prince, Sir, Mr, Uncle, Professor, Doctor, Lord, Brother, Young, Grandfather")
TITLES_SHE = words("Captain, Old, Little, Queen, Princess, Lady, Mrs, Miss, Aunt, Professor, Doctor, Sister, Young, Grandmother, Mother")

EPITHETS = words("""Great, Terrible, Unbearable, Bold, Small, Brave, Wise, Unready, Lost, Red, Magnificent, Quiet, Second, Third, Impaler, Clumsy, Younger,
    Elder, Invisible, Destroyer, Fearless, Kind, Dreaded, Pale""")
BEING_ADJ = words("""little, old, young, brave, shy, clever, lonely, lazy, curious, grumpy, gentle, tiny, proud, cheerful, hungry, quiet, clumsy,
    kind, stubborn, sleepy, wise, nervous, forgetful, patient, mischievous, lost, homesick, stray, friendly, timid, bold, restless, dreamy,
    small, thin, fat, bad-tempered, polite, absent-minded, one-eyed, white, red, blue, grey, black, golden, giant, greedy, jealous, magical,
    sad, happy, angry, silly, funny, mysterious, ancient, noble, cowardly, vain, snobbish, talkative, wild, tired, enchanted, invisible""")

THEMES = words("""friendship, courage, love, winter, time, hope, music, dreams, kindness, silence, patience, honesty, forgiveness, loneliness,
    luck, greed, home, freedom, memory, autumn, spring, summer, the sea, the moon, the stars, the wind, rain, snow, night, magic, trust, curiosity,
    jealousy, growing up, growing old, saying goodbye, a long journey, a broken promise, a secret, a great storm, a lost treasure,
    the end of the world, bravery, the first day of school, family, bedtime, Christmas, a birthday, war and peace, betrayal, revenge,
    a rainy day, a mistake, a dream, a family, a mystery, an adventure, a shipwreck, the future, the past, happiness, sadness, wisdom, science""")

FEARS = words("""the dark, water, thunder, heights, strangers, the sea, fire, spiders, mice, the moon, falling, loud noises, the forest, ghosts,
    flying, deep water, mirrors, snow, dogs, bridges, the wind, being alone, speaking aloud, stairs, crowds, his own shadow, storms, cats,
    small places, ladders, flowers, bees, winter, mornings, singing, letters, doors, fish, feathers, the city""")
WISHES = words("""to fly, to dance, to sing, to see the sea, to read, to paint, to swim, to be tall, to be brave, to travel, to go home, to be a knight,
    to touch the moon, to cook, to play the fiddle, to write a book, to sail around the world, to be invisible, to find a friend, to climb the mountain,
    to catch a star, to build a ship, to tell stories, to sleep all winter, to be king, to learn magic, to play the piano, to bake bread,
    to ring the great bell, to become a poet, to make people laugh, to cross the ocean, to grow a garden, to win the race, to see snow""")
LOVES = words("""music, books, honey, maps, old songs, thunderstorms, cheese, riddles, stars, shiny things, bread, buttons, stories, dancing,
    clocks, flowers, trains, puzzles, pancakes, birds, jokes, tea, apples, mathematics, snow, soup, chess, gardening, secrets, ships,
    gold, poetry, silence, fireworks, kites, lemon cake, letters, adventure""")
# what somebody does, as a prompt may say it and as a story tells it; * stands for a thing or a creature
DEEDS = tuple(tuple(x.strip() for x in line.split("/")) for line in """\
finds * / found *
found * / found *
steals * / stole *
stole * / stole *
builds * / built *
loses * / lost *
eats * / ate *
hides * / hid *
buys * / bought *
breaks * / broke *
guards * / guarded *
repairs * / repaired *
makes * / made *
wins * / won *
meets * / met *
met * / met *
talks to * / talked to *
falls in love with * / fell in love with *
is looking for * / was looking for *
dreams of * / dreamed of *
carries * everywhere / carried * everywhere
turns into * / turned into *
was turned into * / had been turned into *
wants * / wanted *
lives in * / lived in *
finds a map / found a map
cannot sleep / could not sleep
can't sleep / could not sleep
cannot stop laughing / could not stop laughing
could not fly / could not fly
can't fly / could not fly
cannot swim / could not swim
never sleeps / never slept
never smiles / never smiled
sells dreams / sold dreams
lives alone / lived alone
lived alone / lived alone
lives under a bridge / lived under a bridge
lives in a shoe / lived in a shoe
talks too much / talked too much
tells lies / told lies
collects shadows / collected shadows
wakes up one day as a king / woke up one day as a king
gets lost / got lost
got lost in the snow / got lost in the snow
saves the village / saved the village
saves the world / saved the world
learns to dance / learned to dance
learns to be brave / learned to be brave
runs away from home / ran away from home
comes home after many years / came home after many years
goes to school / went to school
has no friends / had no friends
makes a new friend / made a new friend
opens a bakery / opened a bakery
discovers a secret door / discovered a secret door
travels through time / travelled through time
forgets everything / forgot everything
keeps a secret / kept a secret
is always late / was always late
is tired of winter / was tired of winter
grows wings / grew wings
can see the future / could see the future
speaks to the dead / spoke to the dead
refuses to go to bed / refused to go to bed
does not believe in magic / did not believe in magic
is too small / was too small
cannot read / could not read""".splitlines())
LOSSES = words("""hat, shadow, voice, way, home, memory, name, key, boots, tail, glasses, map, courage, mother, temper, smile, ring, ship, heart,
    favourite song, umbrella, best friend, left sock, crown, treasure, diary, magic, brother, sister, job""")

SENSES = {
    "weather": words("""rain, snow, fog, wind, mist, frost"""),
    "season": words("spring, summer, autumn, winter"),
    "seasonday": words("""one [cold|wet|grey|bright|clear] [morning|evening|afternoon] in [spring|autumn|winter|March|November|October],
        one [windy|rainy|foggy|frosty|moonless|starry] night, one [warm|golden|lazy|quiet] [evening|afternoon] in [summer|June|late August],
        on the [first|last|longest|shortest|coldest] day of the year, late one [Friday|Sunday|Tuesday|Thursday],
        on a morning that [smelled of rain|smelled of snow|seemed like any other], on the night of the first [frost|snow|thunderstorm],
        just before [sunrise|midnight|dinner|the first snow], in the week before the [harvest|winter fair|spring floods]"""),
    "longtime": words("""for a very long time, for three days and three nights, until the candle burned out, for the whole of that night, for nearly an hour,
        until the kettle went cold, for as long as it takes to count to a hundred, all afternoon, until the moon had crossed the sky"""),
    "warmfood": words("""hot soup, buttered toast, warm bread, apple cake, honey cakes, chestnut soup, blackberry pie, pancakes, baked apples,
        ginger biscuits, plum dumplings, onion soup, potato pie, cinnamon buns, pear tart, mushroom stew"""),
    "tree": words("oak, birch, willow, rowan, hazel, pine, elm, alder, beech, apple tree, chestnut, hawthorn, yew, lime tree"),
    "flower": words("snowdrops, bluebells, foxgloves, primroses, wild roses, poppies, violets, cowslips, heather, lavender, marigolds, daisies"),
    "smell": words("""wet leaves, woodsmoke, salt, fresh bread, old books, pine needles, rain, oranges, lamp oil, cut grass, ginger, apples,
        candle wax, warm dust, tar and rope, thyme, peat smoke, beeswax"""),
    "smallthing": words("""button, acorn, thimble, blue feather, copper coin, bent nail, ribbon, pine cone, candle stub, sea shell, paper boat,
        lump of sugar, hazelnut, glass bead, pebble, piece of string, daisy, crumb of cheese, matchbox, teaspoon"""),
    "sound": words("""a creak, a whisper, a tapping, a soft cough, a sneeze, a splash, three slow knocks, a tiny sob, a hum, a rustle, a jingle,
        a sigh, a low whistle, a scratching"""),
    "number": words("two, three, four, five, six, seven, nine, eleven, twelve"),
    "far": words("""beyond the last farm, past the seven hills, at the edge of the map, behind the north wind, three days away, across the water,
        where the road ends, on the far side of the hills, beyond the salt marshes, a long way from anywhere"""),
    "nice": words("gentle, kind, warm, soft, friendly, bright, tender, merry, happy, easy"),
    "smile": words("smiled, grinned, laughed, chuckled, beamed, nodded"),
    "said": words("said, said, said, said, murmured, replied"),
    "slowly": words("slowly, carefully, very quietly, bit by bit, step by step, with great care, without a word, gently"),
    "walked": words("walked, wandered, trudged, hurried, set off, strode, tiptoed, marched"),
    "villager": words("""old ferrywoman, postmistress, schoolmistress, innkeeper's wife, washerwoman, apple seller, old midwife,
        miller's daughter, baker's wife, lamplighter's widow, goose girl, old seamstress, lady next door, woman from the corner shop"""),
    "beast": words("owl, crow, toad, hedgehog, heron, snail, cat, magpie, goat, moth, robin, badger, goose, hare, otter, bat, donkey, mouse"),
    "drink": words("tea, cocoa, mint tea, hot milk, cider, elderflower tea, coffee, blackcurrant juice"),
    "treasure": words("gold, silver, rubies, pearls, coins, diamonds, crowns, amber"),
    "month": words("January, February, March, April, May, June, July, September, October, November, December"),
}

LISTS = dict(SENSES)  # plots.py and the voices add their own lists


def plural(noun):
    """The plural of a regular noun, "" of others."""
    if noun.endswith(("man", "mouse", "goose", "sheep", "deer", "fish", "f", "fe", "s", "x", "ox", "child", "elf", "salmon", "trout", "calf", "wife", "thief")):
        return ""
    if noun.endswith(("ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


IRREGULAR = {"goose": "geese", "mouse": "mice"}
LISTS["beasts"] = tuple(IRREGULAR.get(w) or plural(w) for w in LISTS["beast"])
LISTS["trees"] = tuple(plural(w) for w in LISTS["tree"])
LISTS["smallthings"] = tuple(plural(w) or w + "es" for w in LISTS["smallthing"] if " of " not in w)
