"""Texts for comparing tokenizers, made from a seed: languages, emoji, code, white space, hostile ones."""

import random

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, doesn't it? I'll say they've won; we're sure you'd agree.",
    "IT'S WHAT THEY'RE SAYING: WE'LL SEE WHO'S RIGHT, I'M NOT. YOU'VE HEARD, HE'D GONE.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Straße, Fuß, Übergröße.",
    "Portez ce vieux whisky au juge blond qui fume ; l'été où naîtra cet œuf, ça ira à coup sûr.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío; ¿añoraba a su querido cachorro? ¡Sí!",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig. Zażółć gęślą jaźń.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Nechť již hříšné saxofony ďáblů.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Щипцы, объём, подъезд!",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ὦ ἄνδρες Ἀθηναῖοι, ᾿Αλλὰ καὶ ὣς ἐθέλω.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul'da ılık IŞIK, iğne.",
    "Do bạch kim rất quý nên sẽ dùng để lắp vô xương. Tiếng Việt có nhiều dấu thanh.",
    "صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت يَحظى الضَجيعُ بِها نَجلاءَ مِعطارِ ١٢٣٤٥",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה. בְּרֵאשִׁית בָּרָא אֱלֹהִים",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णुवतार भगवान श्रीराम। १२३",
    "বিষণ্ণ ঔদাসীন্যে ঊষাবৌদি বাংলাভাষায় প্রচলিত ঈশপের নিখুঁত গল্পটির ডালপালা অর্ধেক ছড়াতেই",
    "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்.",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓",
    "ກຸ່ມຄົນລາວ ພາສາລາວ ງາມ  မြန်မာစာ ភាសាខ្មែរ བོད་སྐད་ ᠮᠣᠩᠭᠣᠯ",
    "視野無限廣,窗外有藍天。微風迎客,軟語伴茶。中国的首都是北京,人口超过两千万。",
    "人之初,性本善。性相近,习相远。「你好」,她说:“今天天气真不错!”",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ。カタカナ、ひらがな、漢字がパソコンで混ざる。",
    "ガギグゲゴ が か\u3099 ハ\u309a ヴ ㍿ ㌔ ㎏ ①②③ ⅷ ﬁ ﬀ ſt",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 각 각 ᄒᆞᆫ글",
    "გთხოვთ ახლავე გაიაროთ რეგისტრაცია. Հայերեն տառեր. አማርኛ ፊደል ገበታ።",
    "ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ ⠓⠑⠇⠇⠕ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 𝒳𝒴 ℵ ∑∏∫ ≠≤≥ ±½¼¾ ²³¹ °C №5 ™ © ®",
    "Kæmi ný öxi hér ykist þjófum nú bæði víl og ádrepa. Høj bly gom vandt fræk sexquiz på wc.",
    "a\u0301e\u0300i\u0302o\u0308u\u030a n\u0303 A\u030a \u1e9b\u0323 \u212b \u2126 q\u0307\u0323 q\u0323\u0307 \u0344 \u0f73\u0f75",
]

CODE = [
    "def fib(n: int) -> int:\n    if n < 2:\n        return n\n    return fib(n - 1) + fib(n - 2)\n\n\nprint([fib(i) for i in range(20)])\n",
    "#include <stdio.h>\n\nint main(void)\n{\n\tfor (int i = 0; i < 10; ++i) {\n\t\tprintf(\"%d\\n\", i);\n\t}\n\treturn 0;\n}\n",
    "const f = async ({a, b}) => { await fetch(`https://x.y/${a}?q=${b}&r=1`); /* ok */ };\r\nexport default f;\r\n",
    "SELECT u.id, COUNT(*) AS n FROM users u LEFT JOIN orders o ON o.uid=u.id WHERE u.name LIKE '%o''brien%' GROUP BY 1;",
    "{\"key\": [1, 2.5e-10, null, true], \"nested\": {\"a\\u00e9\": \"\\\\ \\\" \\n\"}}",
    "<div class=\"a b-c\" id='x'><p>&nbsp;&lt;tag&gt;</p></div>\n<!-- c -->\n",
    "if [[ -f ~/.bashrc && $# -gt 0 ]]; then source ~/.bashrc || exit 1; fi 2>&1 | tee /tmp/out.log",
    "\\begin{equation} \\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2} \\end{equation}",
    "fn main() {\n    let v: Vec<_> = (0..10).map(|x| x * x).collect();\n    println!(\"{:?}\", v);\n}",
    "x=0x1F; y=1_000_000; z=3.14159265358979; 192.168.0.1:8080 2024-01-31T23:59:59Z +1 (555) 010-9999",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n# Title\n\n* item\n  * sub\n\n```py\nx = 1\n```\n",
    "camelCaseName snake_case_name SCREAMING_CASE kebab-case-name XMLHttpRequest iPhone15ProMax i18n a11y",
]

EMOJI = (
    "😀 😂 🤣 👍 👍🏽 👩‍👩‍👧‍👦 👨‍💻 🏳️‍🌈 🏴‍☠️ 🇩🇪🇫🇷 🇯🇵 ❤️ ❤️‍🔥 1️⃣ #️⃣ ☕️ ✈ 🫠 🫨 🩷 🪿 🫩 🧑🏿‍🚀 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ‼️ ©️ 🔟"
).split(" ")

SPACES = [
    " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f", "\u00a0", "\u1680", "\u180e", "\u2003", "\u2009",
    "\u200b", "\u200c", "\u200d", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\u0085", "\x1c", "\x1f", " \n ", "    \n", "\n    ",
]

MARKERS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<bos>", "<eos>",
    "<start_of_turn>", "<end_of_turn>", "<s>", "</s>", "<unk>", "<pad>", "<think>", "</think>", "<tool_call>", "[INST]", "[/INST]",
    "<0x0A>", "<unused5>", "<mask>", "<table>", "<|im_end", "im_end|>", "<|", "|>", "▁", "▁▁", "Ġ", "Ċ", "<｜User｜>", "<｜begin▁of▁sentence｜>",
    "<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|user|>", "<|assistant|>", "[TOOL_CALLS]", "<strong>", "<h1>", "</code>",
]


def scalar(r):
    kind = r.random()
    if kind < 0.3:
        return chr(r.randrange(0x20, 0x7F))
    if kind < 0.5:
        return chr(r.randrange(0x80, 0x800))
    if kind < 0.8:
        c = r.randrange(0x800, 0x10000)
        return chr(c if not 0xD800 <= c <= 0xDFFF else 0x4E00 + c % 0x5000)
    if kind < 0.97:
        return chr(r.choice([0x1F000, 0x10000, 0x20000, 0x1D400, 0x1E000]) + r.randrange(0x1000))
    return chr(r.randrange(0x10000, 0x110000))


def words(r):
    s = r.choice(SENTENCES).split(" ")
    a = r.randrange(len(s))
    return " ".join(s[a : a + r.randrange(1, 8)])


def mixed(r):
    parts = []
    for _ in range(r.randrange(1, 12)):
        k = r.randrange(9)
        if k <= 2:
            parts.append(words(r))
        elif k == 3:
            c = r.choice(CODE)
            a = r.randrange(len(c))
            parts.append(c[a : a + r.randrange(1, 60)])
        elif k == 4:
            parts.append("".join(r.choice(EMOJI) for _ in range(r.randrange(1, 4))))
        elif k == 5:
            parts.append("".join(r.choice(SPACES) for _ in range(r.randrange(1, 5))))
        elif k == 6:
            parts.append(r.choice(MARKERS))
        elif k == 7:
            parts.append("".join(scalar(r) for _ in range(r.randrange(1, 10))))
        else:
            parts.append(str(r.randrange(10 ** r.randrange(1, 14))))
        if r.random() < 0.5:
            parts.append(" ")
    return "".join(parts)


def hostile(r):
    n = r.choice([1, 2, 3, 15, 16, 17, 47, 48, 49, 100, 1000, 4095, 4096, 5000])
    k = r.randrange(10)
    if k == 0:
        return r.choice("aA0 \n\t.-_=é中😀▁") * n
    if k == 1:
        return r.choice(SPACES) * n + r.choice(["", "x"])
    if k == 2:
        return "".join(r.choice("ab") for _ in range(n))
    if k == 3:
        return "".join(chr(r.randrange(0x300, 0x370)) for _ in range(min(n, 200)))
    if k == 4:
        return r.choice(MARKERS) * min(n, 100)
    if k == 5:
        return "".join(r.choice(SPACES) for _ in range(min(n, 300)))
    if k == 6:
        return "".join(r.choice("가각각ᆫ\u1161\u11a8") for _ in range(min(n, 300)))
    if k == 7:
        return "".join(r.choice("'sStTrReEvVmMlLdD’ſK ") for _ in range(min(n, 300)))
    if k == 8:
        return "".join(chr(r.randrange(0x1, 0x20)) for _ in range(min(n, 100)))
    return "".join(scalar(r) for _ in range(min(n, 1000)))


def texts(count, seed):
    """`count` texts; the first ones are the fixed lists themselves."""
    r = random.Random(seed)
    out = ["", *SENTENCES, *CODE, *EMOJI, *SPACES, *MARKERS, " ".join(EMOJI), "\n".join(SENTENCES), "".join(CODE)]
    while len(out) < count:
        k = r.random()
        if k < 0.2:
            s = r.choice(SENTENCES) + r.choice(SPACES) + r.choice(SENTENCES)
        elif k < 0.3:
            s = r.choice(CODE) + r.choice(SPACES) + r.choice(CODE)
        elif k < 0.85:
            s = mixed(r)
        else:
            s = hostile(r)
        out.append(s.replace("\x00", ""))
    return out[:count]
