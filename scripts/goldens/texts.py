"""Texts for the tokenizer goldens: languages, emoji, code, white space, and what nobody types. Seeded, without NUL."""

import random
import unicodedata

from . import corpus

# One plain sentence a language, written for this purpose: "The old baker sells bread near the bridge" or a neighbour of it.
SENTENCES = """
The old baker sells bread near the bridge, doesn't he?
Der alte Bäcker verkauft Brot an der Brücke; die Straße ist naß und groß.
Le vieux boulanger vend du pain près du pont, là où l'été s'achève.
El viejo panadero vende pan junto al puente, ¿verdad? ¡Claro que sí!
Il vecchio fornaio vende il pane vicino al ponte: perché no?
O velho padeiro vende pão ao pé da ponte, não é?
De oude bakker verkoopt brood bij de brug, 's ochtends vroeg.
Den gamle bageren sælger brød ved broen på øen.
Den gamla bagaren säljer bröd vid bron i Ångström.
Vanha leipuri myy leipää sillan luona yöllä.
Gamli bakarinn selur brauð við brúna, það er satt.
Stary piekarz sprzedaje chleb przy moście, źdźbło trawy leży obok.
Starý pekař prodává chléb u mostu, příliš žluťoučký kůň.
Az öreg pék kenyeret árul a híd mellett, ősszel is.
Bătrânul brutar vinde pâine lângă pod, în fiecare zi.
Yaşlı fırıncı köprünün yanında ekmek satıyor, İstanbul'da ılık bir gün.
Vecais maiznieks pārdod maizi pie tilta, ļoti lēti.
Senas kepėjas parduoda duoną prie tilto, ąžuolų šešėlyje.
Старый пекарь продаёт хлеб у моста, не правда ли?
Старий пекар продає хліб біля мосту, їжа смачна.
Старият хлебар продава хляб до моста.
Стари пекар продаје хлеб код моста, џеп је празан.
Ο γέρος φούρναρης πουλάει ψωμί κοντά στη γέφυρα, ΣΟΦΟΣ και σοφός.
Ծեր հացթուխը հաց է վաճառում կամրջի մոտ։
მოხუცი მცხობელი პურს ყიდის ხიდთან.
האופה הזקן מוכר לחם ליד הגשר, שָׁלוֹם לכולם.
الخباز العجوز يبيع الخبز قرب الجسر، مَرْحَبًا بكم في ٢٠٢٤.
نانوای پیر کنار پل نان می‌فروشد؛ ۱۲۳ تومان.
بوڑھا نانبائی پل کے پاس روٹی بیچتا ہے۔
बूढ़ा नानबाई पुल के पास रोटी बेचता है, क्षत्रिय और ज्ञान।
বৃদ্ধ রুটিওয়ালা সেতুর কাছে রুটি বিক্রি করে।
வயதான ரொட்டிக்காரர் பாலத்தின் அருகே ரொட்டி விற்கிறார்.
ముసలి రొట్టెలవాడు వంతెన దగ్గర రొట్టె అమ్ముతాడు.
ವಯಸ್ಸಾದ ಬೇಕರ್ ಸೇತುವೆಯ ಬಳಿ ಬ್ರೆಡ್ ಮಾರುತ್ತಾನೆ.
പഴയ ബേക്കറി പാലത്തിനടുത്ത് റൊട്ടി വിൽക്കുന്നു.
ਬੁੱਢਾ ਨਾਨਬਾਈ ਪੁਲ ਕੋਲ ਰੋਟੀ ਵੇਚਦਾ ਹੈ।
වයසක බේකරිකරු පාලම ළඟ පාන් විකුණයි.
คนทำขนมปังแก่ขายขนมปังใกล้สะพาน น้ำใสไหลเย็น
ຄົນເຮັດເຂົ້າຈີ່ເຖົ້າຂາຍເຂົ້າຈີ່ໃກ້ຂົວ
အိုမင်းသော မုန့်ဖုတ်သမား တံတားအနီးတွင် ပေါင်မုန့်ရောင်းသည်။
អ្នកដុតនំចាស់លក់នំប៉័ងក្បែរស្ពាន។
རྒད་པོ་ཞིག་གིས་ཟམ་པའི་འགྲམ་ལ་བག་ལེབ་བཙོང་།
老面包师在桥边卖面包,真好吃!一共12.5元。
老麵包師在橋邊賣麵包,「真好吃」。
年老いたパン屋が橋のそばでパンを売る。カタカナとﾊﾝｶｸ、ゔぁ。
늙은 빵집 주인이 다리 옆에서 빵을 판다.
Người thợ làm bánh già bán bánh mì gần cầu, ừ nhỉ.
Tukang roti tua menjual roti di dekat jembatan.
Mwokaji mzee anauza mkate karibu na daraja.
አሮጌው ጋጋሪ በድልድዩ አጠገብ ዳቦ ይሸጣል።
ᏓᏆᎴᎳ ᎦᏚ ᎠᏂᎦᏚ
ᓄᓇᕗᑦ ᐃᓄᐃᑦ
Mēs, ħafna, ŋ, ɐ, ʃ, ʘ, ŉ, ǅ ǆ Ǆ, ﬁ ﬂ ﬃ, ĳ
""".strip().split("\n")

SNIPPETS = [
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // dot",
    "x = {'a': [1, 2, 3], \"b\": None}\nprint(f\"{x['a']!r:>10}\")",
    "#include <stdio.h>\r\n\r\nint main(void)\r\n{\r\n\treturn 0;\r\n}\r\n",
    "SELECT * FROM t WHERE a<>b AND c IS NOT NULL; -- it's 'quoted''text'",
    "<p class=\"x\">1 &lt; 2 &amp;&amp; 3 &gt; 2</p>\n\n\n<!-- done -->",
    "fn main() -> Result<(), Box<dyn Error>> { let s: &'static str = \"hi\"; Ok(()) }",
    "curl -s 'http://127.0.0.1:8080/v1/models' | jq '.data[].id' >out.txt 2>&1 && echo $?",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9\\n\"}],\"max_tokens\":16}",
    "\\documentclass{article}\n\\begin{document}\n$\\sum_{i=0}^{n} x_i^2 \\le \\infty$\n\\end{document}",
    "def f(x):\n    if x:\n        return x\n\n    return None\n",
    "\tall: a.o b.o\n\t\t$(CC) -o $@ $^\n",
    "version = 1.2.3-rc.4+build.567; date=2024-02-29T23:59:60Z; id=0xDEADBEEF; 1_000_000; 3.14e-10; 1,234,567.89",
    "https://example.org/a/b/../c?d=e&f=%20g#h user@example.org +49 (0)30 123456-789",
    "i++; --j; a?.b ?? c; (x) => x**2; !==; <=>; ::; ->*; /*...*/ #{} @@ ~~ ``` ''' \"\"\"",
]

CONTRACTIONS = "it's It'S IT'S we're WE'RE they've I'm I'M she'll He'D don't DON'T 'tis 's's 're' 'LL 'lL it\u2019s it'\u017f 'K 'd've '"
EMOJI = ("😀 😀😀 👍🏽 👩🏽‍🚒 👨‍👩‍👧‍👦 👩‍❤️‍💋‍👨 🏳️‍🌈 🏴‍☠️ 🇩🇪 🇩🇪🇧🇷 🇩 ❤️ ❤ ☺︎ ☺️ 1️⃣ #️⃣ *⃣ 🧑🏿‍🦽‍➡️ 🫠 🪿 🏴󠁧󠁢󠁥󠁮󠁧󠁿 "
         "🤷🏻‍♀️ 👋🏿 ⛵️ ☔ ♥ © ® ™ 🀄 🃏").split(" ")
SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\u00a0", "\u0085", "\u1680", "\u180e", "\u2000", "\u2003",
          "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", "\u2060", "\x1c", "\x1f"]
NORMAL_FORMS = [
    "e\u0301 \u00e9", "A\u030a \u00c5 \u212b", "\u1100\u1161\u11a8 \uac01 \u1112\u1161\u11ab", "a\u0323\u0307 a\u0307\u0323 \u1ea1\u0307",
    "\u0958 \u0915\u093c", "\u2126 \u03a9", "\ufb01 \ufb03 \u0132", "\u00bd \u2460 \u00b2 x\u00b2", "\uff21\uff42\uff43 \uff11\uff12\uff13",
    "\uff8a\uff9f \u30d1", "\u1e9b\u0323", "\u0344", "\u0390 \u1fd3", "\u2000\u2001", "\u00a8 \u00b8", "\u0e33 \u0eb3", "\u3392 \u33a5",
    "\ufdfa", "q\u0307\u0323\u0307", "\u0041\u0300\u0301\u0302\u0303", "\u05e9\u05c1\u05bc \ufb2c", "\u0627\u0653 \u0622", "\u09c7\u09be \u09cb",
    "\U0001d15e \U0001d157\U0001d165", "\u00c5\u0327 \u0041\u0327\u030a", "\u2f00 \u4e00 \uf900 \u8c48", "\u017f\u0307", "\u01c4 \u01c5",
]  # fmt: skip
HOSTILE = [
    "\ufffd", "\ufffd\ufffd\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\U000f0000 \ue000", "\u0378 \u0380", "\x01\x02\x03", "\x7f", "\x80\x9f",
    "\x1b[31mred\x1b[0m", "\u202eabc\u202c", "\u200d", "\u200d\u200d\u200d", "\ufe0f", "\u0301", "\u0301\u0301", "a" + "\u0301" * 60, "z\u0335\u0321\u0353a\u0317\u0347l",
    "\u200e\u200f\u2066x\u2069", "\u00ad\u00ad", "\u034f", "\u115f\u1160\u3164", "\U000e0001\U000e0020", "\u2581", "\u2581\u2581 \u2581", " \u2581 ",
    "\u0120hello \u010a\u0109", "<0x0A>", "<0x41><0xE2><0x96>", "<0xZZ>", "\u00c3\u00a9 \u00e2\u20ac\u2122", "\\u0041 \\x41 &#65; %41",
]  # fmt: skip

# Added tokens of the styles, whole, cut, doubled and beside text.
SPECIALS = ["<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<|begin_of_text|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>",
            "</think>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<|start|>", "<|message|>", "<bos>", "<start_of_turn>", "<|user|>", "<|end|>", "<pad>",
            "<mask>", "<one>"]


def assigned(rng, low, high):
    """A random character of [low, high] that Unicode 3.2 knew, so that no library's tables can be too old for it."""
    while True:
        c = chr(rng.randint(low, high))
        if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs"):
            return c


BLOCKS = [(0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2AF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x530, 0x58F),
          (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F), (0x10A0, 0x10FF), (0x1100, 0x11FF),
          (0x1200, 0x137F), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x23FF), (0x2460, 0x24FF),
          (0x2500, 0x27BF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3130, 0x318F), (0x3300, 0x33FF), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3),
          (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE70, 0xFEFC), (0xFF00, 0xFFEF), (0x10300, 0x1034F), (0x1D100, 0x1D1FF),
          (0x1D400, 0x1D7FF), (0x20000, 0x2A6D6), (0xF0000, 0xF0FFF)]


def fixed():
    out = ["", " ", "a", "\n", "Hello", " Hello", "Hello ", "Hello world", CONTRACTIONS, *CONTRACTIONS.split(" ")]
    out += SENTENCES + [s.upper() for s in SENTENCES[:25]] + SNIPPETS + EMOJI + NORMAL_FORMS + HOSTILE + SPACES
    out += [unicodedata.normalize("NFD", s) for s in SENTENCES if unicodedata.normalize("NFD", s) != s]
    out += [line for line in corpus.CODE.split("\n") if line] + [line for line in corpus.ENGLISH.split("\n") if line]
    out += ["".join(EMOJI), " ".join(EMOJI), "x".join(SPACES), "".join(SPACES), "1".join(SPACES), "!".join(SPACES)]
    for s in SPACES:
        out += [f"a{s}b", f"{s}a", f"a{s}", f"a{s * 5}b", f"{s * 3}", f"a {s} b", f"{s}\n{s}x", f"!{s}?"]
    for t in SPECIALS:
        out += [t, t + t, f"a{t}b", f" {t} ", f"a {t} b", t[:-1], t[1:], f"{t[:-1]} {t[-1]}", t.upper(), f"\n{t}\n", f"{t}{t[:-1]}", f"x {t}s"]
    return out


def repeats():
    out = []
    for unit in ["a", " ", "\n", "=", "-", "ab", "the ", "0", "7 ", "\t", "\r\n", "é", "e\u0301", "灯", "😀", "👩🏽‍🚒", "'s", "\u200d", "▁", "<s>", ".\n", "{}"]:
        for count in (2, 3, 4, 7, 16, 33, 100, 1000):
            out.append(unit * count)
    out += ["a" * 20000, " " * 20000 + "x", "ab" * 8000, "\n" * 5000, "word " * 4000, "9" * 5000, "a\u0301" * 3000, "灯台守" * 1500]
    return out


def digits(rng):
    out = ["0", "00", "007", "1234567890", "1e9", "3.14159", "1,234.5", "٠١٢٣٤٥٦٧٨٩", "०१२३", "一二三", "Ⅳ ⅷ", "²³¹", "½¾", "①②③", "1st 2nd 3rd", "x1y22z333"]
    for n in range(1, 25):
        out.append("".join(rng.choice("0123456789") for _ in range(n)))
        out.append("".join(rng.choice("0123456789 .,-") for _ in range(n)))
    return out


def random_texts(rng, count):
    """Mixtures: pieces of everything glued in random order, with random blanks between; then single-block noise."""
    pieces = [w for s in SENTENCES for w in s.split(" ")] + SNIPPETS[:4] + EMOJI + NORMAL_FORMS + HOSTILE + SPECIALS
    out = []
    for i in range(count):
        kind = i % 4
        if kind == 0:
            parts = [rng.choice(pieces) + rng.choice(SPACES + [""] * 12 + [" "] * 20) for _ in range(rng.randint(2, 12))]
        elif kind == 1:
            low, high = rng.choice(BLOCKS)
            parts = [assigned(rng, low, high) if rng.random() < 0.85 else " " for _ in range(rng.randint(1, 24))]
        elif kind == 2:
            parts = [assigned(rng, *rng.choice(BLOCKS)) for _ in range(rng.randint(1, 24))]
        else:
            alphabet = rng.choice(["ab \n", " \t\r\n", "aA1. '", "<|>s/[]", "é e\u0301'", "-_=+ x", "\u4e00a1 ", "'sSdDmMtTlLvVrReE "])
            parts = [rng.choice(alphabet) for _ in range(rng.randint(1, 40))]
        out.append("".join(parts))
    return out


def all_texts(seed=2024, random_count=1400):
    rng = random.Random(seed)
    texts = fixed() + repeats() + digits(rng) + random_texts(rng, random_count)
    return list(dict.fromkeys(texts))  # order kept, doubles dropped
