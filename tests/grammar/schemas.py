"""Random JSON Schemas with instances that satisfy them, from a seed."""
import random

# A pattern, and texts that match it.
PATTERNS = [
    ("^[a-z]{2,5}$", ["ab", "abcde", "xyz"]),
    ("^(foo|bar)-[0-9]+$", ["foo-1", "bar-0042"]),
    ("o", ["o", "foo", "\u00e9o\n", 'a"o\\']),
    ("^[^\"\\\\]*$", ["", "plain", "\u4e2d\u6587"]),
    ("^\\d{3}-\\d{4}$", ["555-1234"]),
    ("^[A-Z][a-z]*( [A-Z][a-z]*)*$", ["Anna", "Anna Lee"]),
    ("\\.(png|jpe?g)$", ["a.png", "b/c.jpeg", "\t.jpg"]),
    ("^(a|ab)(c|bcd)(d*)$", ["abcd", "acd", "abcdddd"]),
    ("^x?y?z?$", ["", "x", "yz"]),
    ("^(?=.*[A-Z])(?=.*\\d).{4,9}$", ["aB3d", "1234567X"]),
    ("^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$", ["1", "-0.5", ".5", "007."]),
    ("b(?!c)", ["b", "abd", "bcb"]),
    ("[\\u00e0-\\u00ff]{2}", ["\u00e9\u00e8", "caf\u00e9\u00e8s"]),
]
FORMATS = {
    "date": ["2024-02-29", "1999-12-31"],
    "time": ["23:59:59Z", "00:00:00.123+02:00"],
    "date-time": ["2024-02-29T12:00:00Z", "2000-01-01T00:00:00.5-11:30"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "email": ["a.b+c@example.com", "x@y-z.org"],
    "ipv4": ["0.0.0.0", "255.254.1.99"],
    "ipv6": ["::", "::1", "fe80::1:2", "1:2:3:4:5:6:7:8"],
    "hostname": ["a", "www.example.com"],
    "uri": ["https://example.com/a%20b?q=1#f", "mailto:x@y.z"],
}
TEXTS = ["", "a", "hello", 'say "hi"', "back\\slash", "line\nbreak", "tab\t", "\u00e9\u00e8\u00ea", "\u4e2d\u6587\u5b57", "\U0001f600", "\x7f", "\x01", "/"]
NAMES = ["name", "id", "a", "ab", "b c", "x\"y", "\u00fc", "size", "tags", "kind", "n/a", "t~x"]


def text(rng, low, high):
    return "".join(rng.choice("abcXYZ019 _-\u00e9\u4e2d\U0001f600\"\\\n") for _ in range(rng.randint(low, high)))


class Maker:
    """make() returns (schema, sample): sample(rng) is an instance, members in the schema's order."""

    def __init__(self, rng):
        self.rng = rng
        self.defs = {}

    def scalar(self):
        return self.rng.choice([self.string, self.string, self.integer, self.integer, self.number, self.boolean, self.null, self.enum, self.const])()

    def string(self):
        rng, pick = self.rng, self.rng.randrange(5)
        if pick == 0:
            return {"type": "string"}, lambda r: r.choice(TEXTS)
        if pick == 1:
            low = rng.randint(0, 4)
            high = low + rng.randint(0, 8)
            return {"type": "string", "minLength": low, "maxLength": high}, lambda r: text(r, low, high)
        if pick == 2:
            pattern, texts = rng.choice(PATTERNS)
            return {"type": "string", "pattern": pattern}, lambda r: r.choice(texts)
        if pick == 3:
            pattern, texts = rng.choice(PATTERNS)
            low, high = min(map(len, texts)), max(map(len, texts))
            return {"type": "string", "pattern": pattern, "minLength": low, "maxLength": high}, lambda r: r.choice(texts)
        name = rng.choice(list(FORMATS))
        return {"type": "string", "format": name}, lambda r: r.choice(FORMATS[name])

    def integer(self):
        rng, pick = self.rng, self.rng.randrange(5)
        low = rng.choice([-1000, -7, -1, 0, 1, 3, 99, 100, -12345678901, 10**15 + 7])
        high = low + rng.choice([0, 1, 9, 12, 1000, 987654321])
        if pick == 0:
            return {"type": "integer"}, lambda r: r.randint(-10**9, 10**9)
        if pick == 1:
            return {"type": "integer", "minimum": low, "maximum": high}, lambda r: r.randint(low, high)
        if pick == 2:
            return {"type": "integer", "exclusiveMinimum": low - 1}, lambda r: low + r.randint(0, 10**6)
        if pick == 3:
            return {"type": "integer", "exclusiveMaximum": high + 1}, lambda r: high - r.randint(0, 10**6)
        of = rng.choice([1, 2, 3, 5, 7, 10, 12])
        return {"type": "integer", "multipleOf": of, "minimum": -100}, lambda r: of * r.randint(0, 5000)

    def number(self):
        rng, pick = self.rng, self.rng.randrange(4)
        low = rng.choice([-1.5, -0.25, 0, 0.1, 1, 2.75, 100])
        high = low + rng.choice([0.5, 1, 10, 1000.125])
        if pick == 0:
            return {"type": "number"}, lambda r: r.choice([0, -1, 1.5, -0.0625, 1e-7, 2.5e10, 3])
        if pick == 1:
            return {"type": "number", "minimum": low, "maximum": high}, lambda r: min(high, max(low, round(r.uniform(low, high), 3)))
        if pick == 2:
            return {"type": "number", "exclusiveMinimum": low}, lambda r: round(low + r.uniform(0.01, 5), 3)
        return {"type": "number", "exclusiveMaximum": low}, lambda r: round(low - r.uniform(0.01, 5), 3)

    def boolean(self):
        return {"type": "boolean"}, lambda r: r.random() < 0.5

    def null(self):
        return {"type": "null"}, lambda r: None

    def values(self):
        pool = ["red", "green", 'qu"ote', "\u00fc", "", 1, 2, -3.5, None, True, False, [1, "a"], {"k": [None]}]
        return self.rng.sample(pool, self.rng.randint(1, 5))

    def enum(self):
        values = self.values()
        return {"enum": values}, lambda r: r.choice(values)

    def const(self):
        value = self.values()[0]
        return {"const": value}, lambda r: value

    def array(self, depth):
        rng = self.rng
        schema, item = self.make(depth - 1)
        if rng.random() < 0.3:
            first = [self.make(0) for _ in range(rng.randint(1, 3))]
            closed = rng.random() < 0.5
            out = {"type": "array", "prefixItems": [s for s, _ in first], "items": False if closed else schema}
            low = rng.choice([0, len(first)])
            if low:
                out["minItems"] = low
            return out, lambda r: [f(r) for _, f in first] + ([] if closed else [item(r) for _ in range(r.randint(0, 2))])
        low = rng.randint(0, 3)
        high = low + rng.randint(0, 3)
        out = {"type": "array", "items": schema}
        if rng.random() < 0.7:
            out.update(minItems=low, maxItems=high)
        return out, lambda r: [item(r) for _ in range(r.randint(low, high))]

    def object(self, depth):
        rng = self.rng
        names = rng.sample(NAMES, rng.randint(0, 5))
        members = {n: self.make(depth - 1) for n in names}
        required = [n for n in names if rng.random() < 0.6]
        out = {"type": "object", "properties": {n: s for n, (s, _) in members.items()}, "required": required}
        extra = None
        pick = rng.randrange(4)
        if pick < 2:
            out["additionalProperties"] = False
        elif pick == 2:
            out["additionalProperties"], extra = self.make(0)
        pattern = None
        if rng.random() < 0.15:
            schema, pattern = self.make(0)
            out["patternProperties"] = {"^p_": schema}

        def sample(r):
            got = {n: f(r) for n, (_, f) in members.items() if n in required or r.random() < 0.5}
            if extra:
                got.update({"zz" + str(i): extra(r) for i in range(r.randint(0, 2))})
            if pattern and r.random() < 0.7:
                got["p_" + r.choice("ab")] = pattern(r)
            return got
        return out, sample

    def any_of(self, depth):
        parts = [self.make(depth - 1) for _ in range(self.rng.randint(2, 3))]
        return {"anyOf": [s for s, _ in parts]}, lambda r: r.choice(parts)[1](r)

    def one_of(self, depth):
        tags = self.rng.sample(["cat", "dog", "cow"], self.rng.randint(2, 3))
        parts = []
        for tag in tags:
            schema, sample = self.make(depth - 1)
            parts.append((tag, {"type": "object", "properties": {"tag": {"const": tag}, "v": schema}, "required": ["tag", "v"], "additionalProperties": False}, sample))

        def sample(r):
            tag, _, make = r.choice(parts)
            return {"tag": tag, "v": make(r)}
        return {"oneOf": [s for _, s, _ in parts]}, sample

    def all_of(self, depth):
        a, make_a = self.object_open(depth, ["name", "id"])
        b, make_b = self.object_open(depth, ["size", "tags"])
        return {"allOf": [a, b]}, lambda r: {**make_a(r), **make_b(r)}

    def object_open(self, depth, names):
        members = {n: self.make(depth - 1) for n in names}
        return ({"type": "object", "properties": {n: s for n, (s, _) in members.items()}, "required": list(names)},
                lambda r: {n: f(r) for n, (_, f) in members.items()})

    def ref(self, depth):
        name = self.rng.choice(["leaf", "a/b", "c~d"])
        if name not in self.defs:
            made = self.make(max(0, depth - 1))
            self.defs.setdefault(name, made)
        return {"$ref": "#/$defs/" + name.replace("~", "~0").replace("/", "~1")}, self.defs[name][1]

    def tree(self):
        """A recursive schema."""
        schema, make = self.scalar()
        self.defs["tree"] = ({"type": "object", "properties": {"v": schema, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 3}},
                              "required": ["v"], "additionalProperties": False}, None)

        def sample(r, depth=2):
            got = {"v": make(r)}
            if depth and r.random() < 0.8:
                got["kids"] = [sample(r, depth - 1) for _ in range(r.randint(0, 2))]
            return got
        return {"$ref": "#/$defs/tree"}, sample

    def make(self, depth):
        if depth <= 0:
            return self.scalar()
        kinds = [self.object] * 5 + [self.array] * 3 + [self.any_of] * 2 + [self.one_of, self.all_of, self.ref]
        if self.rng.random() < 0.25:
            return self.scalar()
        return self.rng.choice(kinds)(depth)


def random_schema(seed):
    """(schema, [instance, ...])"""
    rng = random.Random(seed)
    maker = Maker(rng)
    schema, sample = maker.tree() if rng.random() < 0.05 else maker.make(rng.choice([1, 2, 2, 3]))
    if maker.defs:
        schema = {**schema, "$defs": {n: s for n, (s, _) in maker.defs.items()}}
    schema = {**schema, "title": "T", "description": "D"}
    return schema, [sample(rng) for _ in range(4)]


def mutate(rng, value):
    """A neighbour of an instance, which may or may not be valid."""
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        pick = rng.randrange(4)
        if pick == 0:
            return {k: v for k, v in value.items() if k != key}
        if pick == 1:
            return {**value, "extra": 1}
        return {k: mutate(rng, v) if k == key else v for k, v in value.items()}
    if isinstance(value, list) and value:
        i = rng.randrange(len(value))
        pick = rng.randrange(3)
        if pick == 0:
            return value[:i] + value[i + 1:]
        if pick == 1:
            return value + [value[i]]
        return value[:i] + [mutate(rng, value[i])] + value[i + 1:]
    if isinstance(value, str):
        return rng.choice([value + "x", value[1:], value.upper(), value + "\n", 5, None])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return rng.choice([value + 1, -value, value * 10, value + 0.5, str(value)])
    return rng.choice([None, True, 0, "", [], {}])
