"""The text on which the tiny tokenizers are trained. Written for this purpose; its content means nothing."""

ENGLISH = """
The lighthouse keeper counted the ships twice every evening. When the count was odd, he lit a second lamp and
wrote the number in a small green book. Nobody had asked him to do it, and nobody ever read the book.
"It's not a matter of being asked," he'd say. "I've counted them since I was twelve; they'd miss it, wouldn't they?"
A library is a machine that stores questions. Most of its answers are out of date, but the questions keep well.
You can't borrow a question without leaving something in its place: a thumbprint, a ticket, a pressed flower.
Once there was a fox who sold umbrellas. In the dry season she sold shade, and in the wet season she sold patience.
We're going to need 3 buckets, 12 metres of rope, 250 grams of salt and about 1,000 candles; that's $47.50 in all.
Please answer the question in one sentence. Tell me a story about the old river, the stone bridge and the baker.
The user asked the assistant for help. The assistant said that it would be happy to help the user with that.
You are a helpful assistant who writes short answers. What is the name of the capital? How many legs has a spider?
There is no such thing as a small storm, there are only large boats. The wind was in the north and the night was cold.
"""

OTHER_LANGUAGES = """
Der Leuchtturmwärter zählte jeden Abend die Schiffe, und wenn die Zahl ungerade war, zündete er eine zweite Lampe an.
Le boulanger du vieux pont n'a jamais vendu de pain le mardi; c'était, disait-il, le jour de la rivière.
El zorro vendía paraguas en la plaza mayor. ¿Cuánto cuesta la sombra? Mañana será más barata.
La biblioteca è una macchina che conserva le domande, perché le risposte invecchiano più in fretta.
Każdej nocy strażnik zapisywał liczbę statków w małej zielonej książce, choć nikt go o to nie prosił.
Смотритель маяка каждый вечер дважды считал корабли и записывал число в маленькую зелёную книгу.
Ο φαροφύλακας μετρούσε τα πλοία δύο φορές κάθε βράδυ και έγραφε τον αριθμό σε ένα μικρό βιβλίο.
灯塔看守人每天晚上都要数两遍船。如果数目是单数,他就再点一盏灯,并把数目写在绿色的小本子里。
灯台守は毎晩、船を二度数えた。数が奇数なら、もう一つのランプに火をともした。
등대지기는 매일 저녁 배를 두 번 세었다. 아무도 그에게 부탁하지 않았다.
كان حارس المنارة يعد السفن مرتين كل مساء ويكتب الرقم في كتاب أخضر صغير.
שומר המגדלור ספר את הספינות פעמיים בכל ערב.
प्रकाशस्तंभ का रखवाला हर शाम जहाजों को दो बार गिनता था।
ผู้ดูแลประภาคารนับเรือสองครั้งทุกเย็น
Người gác hải đăng đếm tàu hai lần mỗi tối và ghi con số vào cuốn sổ nhỏ màu xanh.
"""

CODE = """
def count_ships(log, limit=100):
    total = 0
    for line in log:
        if line.strip() and not line.startswith("#"):
            total += int(line.split(",")[1])
    return min(total, limit)

static int count_ships(const char *log, size_t len) {
    int total = 0;
    for (size_t i = 0; i < len; i++) {
        total += log[i] == '\\n';
    }
    return total;
}

SELECT name, COUNT(*) FROM ships WHERE year >= 1987 GROUP BY name ORDER BY 2 DESC;
{"name": "lamp", "count": 2, "tags": ["green", "small"], "open": true, "parent": null}
<div class="lamp"><a href="https://example.org/ships?id=42&amp;page=1">ships</a></div>
\tif err != nil {\n\t\treturn fmt.Errorf("lamp %d: %w", n, err)\n\t}
"""

EMOJI = """
The fox 🦊 sold an umbrella ☔ to the keeper 👩🏽‍🚒 and the family 👨‍👩‍👧‍👦 waved 👋🏿 from the boat ⛵️ 🇩🇪 🇧🇷 ❤️‍🔥 ½ ² ① ﬁ é é
"""


def lines():
    """Training lines, each as one item."""
    text = ENGLISH * 3 + OTHER_LANGUAGES + CODE * 2 + EMOJI
    return [line + "\n" for line in text.split("\n") if line]


def whole():
    """The corpus in one piece, for trainers that must see newlines and indentation in place."""
    return [ENGLISH * 3 + OTHER_LANGUAGES + CODE * 2 + EMOJI]
