"""Random templates from a grammar that knows types, so that most of them render; a few are ill-typed on purpose.

Two things stay out, because jinja2's constant folding makes them behave unlike the same expression over variables: dict
literals with unhashable keys (an error even where they are not reached) and slices of constants that can't be sliced.
"""
import random

NAMES = {
    "int": ["n", "z", "neg", "l[0]", "ld[0].v", "loop.index", "loop.index0", "ns.i"],
    "float": ["f", "one", "nums[1]"],
    "str": ["s", "t", "u", "e", "html", "lines", "quote", "ld[1]['name']", "messages[0].role", "messages[1]['content']", "ns.s"],
    "bool": ["yes", "no", "loop.first", "loop.last"],
    "list": ["l", "ls", "le", "nums", "mixed", "ld", "messages", "ns.l"],
    "dict": ["d", "de", "nest", "ld[0]", "messages[2]", "messages[-1]"],
    "none": ["nil", "missing", "d.nope", "none"],
}
WORDS = ["a", "", "World", " ", "o", "l", ",", "\\n", "é", "<b>", "x'y", "日本", "%s|%5s", "{}-{}", "A b", "  pad ", "1", "-3.5", "0x1f", "ß"]


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.macros = 0

    def pick(self, *options):
        return self.r.choice(options)

    def literal(self, kind):
        r = self.r
        if kind == "int":
            return str(r.choice([0, 1, 2, 3, -1, 7, 10, 255, 1000]))
        if kind == "float":
            return r.choice(["0.5", "2.0", "1e3", "-3.25", "1e-7", "0.1"])
        if kind == "str":
            w = r.choice(WORDS)
            return f'"{w}"' if "'" in w or r.random() < 0.5 else f"'{w}'"
        if kind == "bool":
            return r.choice(["true", "false"])
        if kind == "list":
            return "[" + ", ".join(self.literal(self.pick("int", "str", "int", "float", "bool")) for _ in range(r.randint(0, 4))) + "]"
        if kind == "dict":
            return "{" + ", ".join(f"{self.literal('str')}: {self.literal(self.pick('int', 'str', 'list'))}" for _ in range(r.randint(0, 3))) + "}"
        return "none"

    def leaf(self, kind):
        return self.r.choice(NAMES[kind]) if self.r.random() < 0.6 else self.literal(kind)

    def any(self, depth):
        return self.expr(self.pick("int", "float", "str", "bool", "list", "dict", "str", "list", "none"), depth)

    def expr(self, kind, depth):
        if self.r.random() < 0.03:
            kind = self.pick("int", "str", "list", "dict", "bool", "none")
        if depth <= 0 or kind == "none":
            return self.leaf(kind)
        make = getattr(self, "make_" + kind)
        text = make(depth - 1)
        return f"({text})" if self.r.random() < 0.8 else text

    def make_int(self, d):
        e = self.expr
        return self.pick(
            lambda: f"{e('int', d)} {self.pick('+', '-', '*', '//', '%')} {e('int', d)}",
            lambda: f"-{e('int', d)}",
            lambda: f"{self.seq(d)}|length",
            lambda: f"{e('str', d)}|int",
            lambda: f"{e('float', d)}|int",
            lambda: f"{e('int', d)}|abs",
            lambda: f"{e('str', d)}.{self.pick('find', 'rfind', 'count')}({e('str', d)})",
            lambda: f"{e('list', d)}|select('number')|sum",
            lambda: f"{e('int', d)} if {e('bool', d)} else {e('int', d)}",
            lambda: f"{e('str', d)}|wordcount",
            lambda: f"{e('int', d)}|round",
            lambda: f"range({self.r.randint(-3, 9)})|{self.pick('length', 'sum', 'last|default(5)', 'first|default(4)', 'max|default(0)')}",
        )()

    def make_float(self, d):
        e = self.expr
        return self.pick(
            lambda: f"{e('float', d)} {self.pick('+', '-', '*', '/', '//', '%')} {e('float', d)}",
            lambda: f"{e('int', d)} / {e('int', d)}",
            lambda: f"{e('float', d)}|round({self.r.randint(0, 3)})",
            lambda: f"{e('float', d)}|round({self.r.randint(0, 2)}, '{self.pick('ceil', 'floor')}')",
            lambda: f"{e('str', d)}|float",
            lambda: f"{e('int', d)} * {e('float', d)}",
        )()

    def make_str(self, d):
        e = self.expr
        return self.pick(
            lambda: f"{e('str', d)} + {e('str', d)}",
            lambda: f"{self.any(d)} ~ {self.any(d)}",
            lambda: f"{e('str', d)}|{self.pick('upper', 'lower', 'title', 'capitalize', 'trim', 'string', 'reverse', 'escape', 'urlencode', 'indent', 'indent(2, true)', 'truncate(9)', 'center(9)')}",
            lambda: f"{e('str', d)}.{self.pick('upper', 'lower', 'title', 'capitalize', 'strip', 'lstrip', 'rstrip', 'swapcase')}()",
            lambda: f"{e('str', d)}.{self.pick('strip', 'lstrip', 'rstrip', 'removeprefix', 'removesuffix')}({e('str', d)})",
            lambda: f"{e('str', d)}|replace({e('str', d)}, {e('str', d)})",
            lambda: f"{e('str', d)}.replace({e('str', d)}, {e('str', d)}, {self.r.randint(-1, 3)})",
            lambda: f"{self.r.choice(NAMES['str'])}[{self.slice()}]",
            lambda: f"{e('str', d)}[{self.r.randint(-3, 3)}]|default('none')",
            lambda: f"{e('list', d)}|join({e('str', d)})",
            lambda: f"{self.any(d)}|tojson",
            lambda: f"{self.pick(e('dict', d), e('list', d))}|tojson(indent={self.r.randint(0, 4)})",
            lambda: f"{self.any(d)}|string",
            lambda: f"{e('str', d)} * {self.r.randint(-1, 4)}",
            lambda: f"'{self.pick('%s', '%5s', '%-6s|', '%.3s', '%r')}' % ({self.any(d)},)",
            lambda: f"'{self.pick('%d', '%5d', '%05d', '%+d', '%x', '%.2f', '%e', '%g', '%8.3f')}' % {self.pick(e('int', d), e('float', d))}",
            lambda: f"'{self.pick('{}', '{!r}', '{:>8}', '{:^9}', '{:*<7}', '{:.2}')}'.format({e('str', d)})",
            lambda: f"'{self.pick('{}', '{:5}', '{:<5}|', '{:+}', '{:,}', '{:.3f}', '{:e}', '{:08.2f}', '{:.3}')}'.format({self.pick(e('int', d), e('float', d))})",
            lambda: f"{e('str', d)} if {e('bool', d)} else {e('str', d)}",
            lambda: f"{e('str', d)} {self.pick('and', 'or')} {e('str', d)}",
            lambda: f"{e('str', d)}.split({e('str', d)})[{self.r.randint(-2, 1)}]|default('')",
            lambda: f"{e('list', d)}|{self.pick('first', 'last')}|default('q')|string",
            lambda: f"{e('str', d)}.{self.pick('ljust', 'rjust', 'center', 'zfill')}({self.r.randint(0, 14)})",
            lambda: f"{self.pick('nil', 'missing', 'e', 'z')}|default({e('str', d)}{self.pick('', ', true')})",
        )()

    def make_bool(self, d):
        e = self.expr
        return self.pick(
            lambda: f"{e('int', d)} {self.pick('<', '<=', '>', '>=', '==', '!=')} {e('int', d)}",
            lambda: f"{e('str', d)} {self.pick('<', '<=', '>', '>=', '==', '!=', 'in', 'not in')} {e('str', d)}",
            lambda: f"{self.any(d)} {self.pick('==', '!=')} {self.any(d)}",
            lambda: f"{self.any(d)} {self.pick('in', 'not in')} {e('list', d)}",
            lambda: f"{e('str', d)} in {e('dict', d)}",
            lambda: f"not {self.any(d)}",
            lambda: f"{e('bool', d)} {self.pick('and', 'or')} {e('bool', d)}",
            lambda: f"{self.any(d)} is {self.pick('', 'not ')}{self.pick('defined', 'none', 'string', 'number', 'mapping', 'sequence', 'iterable', 'boolean', 'true', 'false', 'integer', 'float', 'undefined', 'callable', 'lower', 'upper')}",
            lambda: f"{e('int', d)} is {self.pick('odd', 'even', 'divisibleby(3)', 'eq(2)', 'gt(1)', 'in([1, 2])')}",
            lambda: f"{e('str', d)}.{self.pick('startswith', 'endswith')}({e('str', d)})",
            lambda: f"{e('str', d)}.{self.pick('isalpha', 'isdigit', 'isspace', 'isupper', 'islower', 'isalnum', 'istitle')}()",
            lambda: f"{e('int', d)} < {e('int', d)} <= {e('int', d)}",
            lambda: f"{e('list', d)} {self.pick('==', '<', '>')} {e('list', d)}",
        )()

    def make_list(self, d):
        e = self.expr
        return self.pick(
            lambda: f"{e('list', d)} + {e('list', d)}",
            lambda: f"{self.r.choice(NAMES['list'])}[{self.slice()}]",
            lambda: f"{e('str', d)}.split({self.pick('', e('str', d), 'none, 1')})",
            lambda: f"{e('str', d)}.rsplit({self.pick('', e('str', d), 'none, 1')})",
            lambda: f"{e('str', d)}.splitlines({self.pick('', 'true')})",
            lambda: f"{self.seq(d)}|list",
            lambda: f"{e('list', d)}|{self.pick('reverse', 'unique', 'select', 'reject', 'batch(2)', 'slice(2)', 'batch(3, 0)')}|list",
            lambda: f"{e('list', d)}|map('{self.pick('string', 'upper', 'length', 'tojson', 'int', 'trim')}')|list",
            lambda: f"{e('list', d)}|{self.pick('select', 'reject')}('{self.pick('string', 'number', 'mapping', 'none', 'defined', 'sequence')}')|list",
            lambda: f"ld|map(attribute='{self.pick('name', 'v', 'zz')}'{self.pick('', ', default=3')})|list",
            lambda: f"ld|{self.pick('selectattr', 'rejectattr')}('{self.pick('name', 'v')}', '{self.pick('equalto', 'ne', 'in')}', {self.pick('2', chr(39) + 'x' + chr(39), '[1, ' + chr(39) + 'Y' + chr(39) + ']')})|list",
            lambda: f"ld|{self.pick('sort', 'groupby', 'unique')}(attribute='{self.pick('name', 'v', 'g')}')|list",
            lambda: f"{self.pick('l', 'ls', 'nums', e('list', d))}|sort{self.pick('', '(reverse=true)', '(case_sensitive=true)')}",
            lambda: f"{e('dict', d)}.{self.pick('keys', 'values', 'items')}()|list",
            lambda: f"{e('dict', d)}|{self.pick('dictsort', 'items|list', 'list')}",
            lambda: f"[{self.any(d)}, {self.any(d)}]",
            lambda: f"range({self.r.randint(-2, 5)}, {self.r.randint(-2, 9)}, {self.pick('1', '2', '-1')})|list",
            lambda: f"{e('list', d)} * {self.r.randint(-1, 2)}",
        )()

    def make_dict(self, d):
        e = self.expr
        return self.pick(
            lambda: f"{{{self.leaf('str')}: {self.any(d)}, {self.leaf('str')}: {self.any(d)}}}",
            lambda: f"dict(a={self.any(d)}, b={self.any(d)})",
            lambda: f"dict({e('dict', d)}, k={self.any(d)})",
            lambda: f"{e('dict', d)} if {e('bool', d)} else {e('dict', d)}",
            lambda: f"{e('dict', d)}.get({e('str', d)}, {e('dict', d)})",
            lambda: f"ld[{self.r.randint(-3, 2)}]",
        )()

    def seq(self, d):
        return self.expr(self.pick("list", "str", "dict"), d)

    def slice(self):
        part = lambda: self.pick("", str(self.r.randint(-6, 6)))
        return self.pick(f"{part()}:{part()}", f"{part()}:{part()}:{self.pick('', '1', '2', '-1', '-2')}")

    def tag(self, text):
        return "{%" + self.pick("", "", "-", "+") + f" {text} " + self.pick("", "", "-", "+") + "%}"

    def gap(self):
        return self.pick("", "", " ", "\n", "\n  ", "x", " y\n", "\n\n")

    def statement(self, depth):
        body = lambda: self.block(depth - 1)
        kind = self.r.random()
        if depth <= 0 or kind < 0.45:
            return self.pick("{{ ", "{{- ", "{{") + self.any(2) + self.pick(" }}", " -}}", "}}")
        if kind < 0.6:
            other = self.tag("else") + body() if self.r.random() < 0.5 else ""
            return self.tag("if " + self.any(1)) + body() + other + self.tag("endif")
        if kind < 0.75:
            target, over = self.pick(("i", self.seq(1)), ("i", "l"), ("k, v", self.expr("dict", 1) + "|items"), ("a, b", "[(1, 2), 'xy']"))
            test = self.pick("", "", f" if {self.any(1)}")
            jump = self.pick("", "", "", self.tag(f"if {self.any(1)}") + self.tag(self.pick("break", "continue")) + self.tag("endif"))
            other = self.tag("else") + body() if self.r.random() < 0.3 else ""
            return self.tag(f"for {target} in {over}{test}") + body() + jump + "{{ i }}" + body() + other + self.tag("endfor")
        if kind < 0.85:
            return self.tag(f"set {self.pick('n', 's', 'l', 'x', 'ns.i', 'ns.s', 'ns.l')} = {self.any(2)}")
        if kind < 0.9:
            return self.tag("set s") + body() + self.tag("endset")
        if kind < 0.93:
            return self.tag(self.pick("filter upper", "filter trim|indent", "with n = 5, s = n", "generation")) + body() + "\0"
        self.macros += 1
        name = f"m{self.macros}"
        return (self.tag(f"macro {name}(n, s={self.any(1)})") + body() + self.tag("endmacro")
                + "{{ " + name + f"({self.any(1)}{self.pick('', ', ' + self.any(1), ', s=' + self.any(1))})" + " }}")

    def block(self, depth):
        parts = []
        for _ in range(self.r.randint(1, 3)):
            text = self.statement(depth)
            if text.endswith("\0"):
                name = text.split("%}")[0].strip("{%-+ ").split()[0]
                text = text[:-1] + self.tag("end" + name)
            parts.append(self.gap() + text)
        return "".join(parts) + self.gap()

    def template(self):
        return "{% set ns = namespace(i=1, s='t', l=[1]) %}" + self.block(3)
