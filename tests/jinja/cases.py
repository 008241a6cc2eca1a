"""Small templates by theme. Each is rendered by both sides; what either raises the other must raise."""

DATA = {
    "s": "Hello World",
    "t": "  padded text \n",
    "u": "Größe ß ΑΣ ʼn ﬀ İ 日本 😀e\u0301",
    "e": "",
    "n": 7,
    "z": 0,
    "neg": -3,
    "f": 2.5,
    "big": 123456789012345678,
    "huge": 123456789012345678901234567890,
    "one": 1.0,
    "yes": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2],
    "ls": ["b", "A", "c"],
    "le": [],
    "ld": [{"name": "x", "v": 2, "g": "p"}, {"name": "Y", "v": 1, "g": "q"}, {"name": "z", "v": 2, "g": "P"}],
    "d": {"b": 1, "a": [1, 2], "C": {"k": "v"}, "items": "shadow"},
    "de": {},
    "nest": {"x": {"y": [{"z": 5}]}},
    "html": "<a href=\"x\">'q' & r</a>",
    "lines": "one\ntwo\r\nthree\n\nfive",
    "nums": [1, 2.5, -3, 0, True],
    "mixed": [1, "a", None, True, 2.5, [1], {"k": 1}],
    "quote": "it's \"both\"\t\\ \u0007 \u007f \u00a0 \u200b",
    "messages": [
        {"role": "system", "content": "sys"},
        {"role": "user", "content": "hi <|im_end|>"},
        {"role": "assistant", "content": "hello", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1.0, "b": "é"}}}]},
        {"role": "tool", "content": "42"},
    ],
    "bos_token": "<s>",
    # as literals these would become Python names that do not exist when jinja2 folds constants
    "snan": "nan",
    "sinf": "inf",
    "sninf": " -Infinity ",
}

PRINTING = """
{{ s }}|{{ n }}|{{ f }}|{{ one }}|{{ yes }}|{{ no }}|{{ nil }}|{{ missing }}
{{ l }}{{ ls }}{{ le }}{{ d }}{{ de }}{{ mixed }}
{{ big }} {{ huge }} {{ [huge] }} {{ huge|string }}
{{ quote }}{{ [quote] }}
{{ [u, html, t] }}
{{ (1,) }}{{ () }}{{ (1, 2) }}{{ [missing] }}{{ {1: 2, 'a': none, none: 1, true: 2} }}
{{ 1e16 }} {{ 1e15 }} {{ 123456789.123456789 }} {{ 0.1 }} {{ 1e-4 }} {{ 1e-5 }} {{ 1.5e300 }} {{ 1e22 }} {{ 1e23 }} {{ 5e-324 }} {{ 0.1 + 0.2 }} {{ 100.0 }} {{ 1/3 }} {{ 2e0 }} {{ -0.0 }}
{{ range(3) }} {{ range(1, 5) }} {{ range(0, 10, 3) }} {{ range(5)|list }} {{ range(10, 0, -3)|list }} {{ range(3)[1] }} {{ range(10)[2:5] }} {{ range(10)[::-1]|list }}
{{ namespace(a=1, b='x') }}
{{ d.keys() }} {{ d.values() }} {{ d.items() }} {{ de.items() }}
{{ "a" "b" 'c' }}
{{ 'x' if yes }}|{{ 'x' if no }}|{{ 'x' if no else 'y' }}|{{ 1 if no else 2 if no else 3 }}
{{ "\\n\\t\\\\\\'\\"\\x41\\u00e9\\U0001F600\\101\\q\\é" }}
{{ 'line1
line2' }}
{{ 0x1f }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1_0.5_0 }} {{ 00 }}
{{ true }}{{ True }}{{ false }}{{ none }}{{ None }}
{{ {'a': 1}.a }}{{ {'a': {'b': 2}}.a.b }}{{ [1, 2].0 }}{{ [[1, 2], 3].0.1 }}
{{ joiner('+') is callable }}
""".strip("\n")

EXPRESSIONS = """
1 + 2 * 3 - 4
7 // 2, -7 // 2, 7 // -2, 7 % 3, -7 % 3, 7 % -3, 7.5 // 2, -7.5 // 2, 7.5 % 2, -7.5 % 2, 7 / 2, 6 / 3
2 ** 3 ** 2, -2 ** 2, 2 ** -1, 2 ** 0.5, 4 ** 0.5, 0 ** 0, 2.0 ** 3
1 / 0
1 // 0
1 % 0
1.5 % 0
0 ** -1
9223372036854775807
-9223372036854775807 - 1
'a' + 1
1 + 'a'
'a' + missing
missing + 'a'
missing + 1
nil + 1
l + [4], l + le, (1,) + (2,)
l + (1,)
'ab' * 3, 3 * 'ab', 'ab' * 0, 'ab' * -1, [1] * 2, 2 * [1, 2], 'ab' * true
'ab' * 1.5
'ab' * 'c'
-'a'
+'a'
-nil
-missing
not missing, not nil, not 0, not '', not [], not 'a'
not not yes
- - 3, + + 3, -(-3), - 3|abs, -3|abs
yes + yes, yes * 3, yes / 2, -yes
'a' ~ 1 ~ none ~ missing ~ [1] ~ 1.0 ~ true
1 < 2 < 3, 1 < 3 < 2, 3 > 2 >= 2, 1 == 1.0 == true, 1 != 2 != 1
'a' < 'b', 'a' < 'B', 'é' > 'z', '' < 'a', 'ab' < 'b'
[1, 2] < [1, 3], [1] < [1, 0], (1, 2) <= (1, 2), [] < [1]
1 < 'a'
'a' < 1
nil < 1
[1] < (1,)
{} < {}
missing < 1
1 < missing
missing == missing, missing != 1, missing == none, missing == ''
1 == '1', [1] == (1,), {'a': 1} == {'a': 1.0}, [1, [2]] == [1, [2.0]], 'a' == 'a'
1 in [1, 2], 'x' in 'xyz', 'xy' in 'axyb', 'a' in {'a': 1}, 1.0 in [1], 3 in range(5), 3.5 in range(5), '' in 'a', 2 not in [1], 5 in range(0, 10, 5), -1 in range(5)
1 in 'a'
missing in 'a'
'a' in missing
1 in none
1 in 1
[1] in {'a': 1}
[1] in [[1]]
'k' in d.keys(), 1 in d.values(), ('b', 1) in d.items()
yes and 1, no and 1, yes or 1, no or 'x', '' or none or 0, 1 and 2 and 3, nil or missing
missing and missing.foo
missing or 'default'
l[0], l[-1], l[5], l['x'], l[true], l[1.0], l[none]
s[0], s[-1], s[100], s[1:3], s[:-1], s[::2], s[::-1], s[-3:], s[5:1], s[10:100], s[:], s[1::3], s[-1:-5:-2]
u[1], u[-3:], u[::-1], u[2:9], u[5:][:3], u|length
l[1:], l[:2], l[::-1], l[::2], l[-2:], l[10:], l[2:0:-1], le[1:], l[none:none:none], l[true:]
l[::0]
l['a':]
l[1.5:]
missing[1:]
nil[1:]
d[1:]
(1, 2, 3)[1:], (1, 2, 3)[::-1]
d['a'], d.a, d['items'], d.items is callable, d['missing'], d.missing, d.get('zz'), d.get('zz', 5), d.get('b'), d['C']['k'], d.C.k, d[missing], d[none]
missing.foo
missing['foo']
missing.foo.bar
d.missing.foo
nil.foo
nil.foo.bar
nest.x.y[0].z, nest['x']['y'][0]['z'], nest.x.y.0.z
s.foo
s.foo.bar
n.foo is defined
n.real, n.imag, f.real, yes.real, n.numerator, n.denominator
s.__class__
s.__class__.foo
d.__len__ is defined
d['__class__']
l.append
l.append(1)
l.append is defined
d.update({'x': 1})
d.pop('b')
d.update is defined
l.sort()
l.index(1), l.count(3), l.index(2, 1), (1, 2).index(2), (1, 1).count(1)
l.index(99)
l.copy(), d.copy()
d.keys()|list, d.values()|list, d.items()|list, d|list
'%s and %s' % ('a', 1), '%d%%' % 5, '%5.2f|%-5d|%05d|%+d|% d' % (3.14159, 42, 42, 42, 42), '%x %X %o %#x %#o' % (255, 255, 8, 255, 8), '%e %E %g %G' % (12345.678, 12345.678, 0.00001, 1e20), '%r %s' % ('a', 'a'), '%c%c' % (65, 'b')
'%(a)s %(b)05d' % {'a': 1, 'b': 2}
'%s' % [1, 2], '%s' % none, '%s' % missing, '%s' % {'a': 1}, '%5s|%-5s|%.2s' % ('ab', 'ab', 'abc')
'%s %s' % 'a'
'%s' % ('a', 'b')
'%d' % 'a'
'%d' % 3.99
'%x' % 3.5
'%q' % 1
'%' % 1
'abc' % ()
'abc' % 1
'abc' % [1]
'%s' % (1,), '%s' % ((1,),)
'%*d|%-*d|%.*f' % (5, 42, 5, 42, 2, 3.14159)
'%i %u' % (3, 4)
'%.3d|%08.3f|%+.1e|%#.3g' % (5, 3.14159, 12345.6789, 1.0)
'{} {}'.format(1, 'a'), '{0} {1} {0}'.format('a', 'b'), '{x}'.format(x=5), '{{}}'.format(), '{a[k]} {b.real}'.format(a={'k': 1}, b=2), '{!r} {!s}'.format('a', 'b')
'{:5}|{:<5}|{:>5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd', 'e'), '{:5}|{:<5}|{:05}|{:+}|{: }|{:,}|{:_}'.format(42, 42, 42, 42, 42, 1234567, 1234567), '{:.2f}|{:8.3f}|{:e}|{:g}|{:%}|{:.1%}'.format(3.14159, 3.14159, 1234.5, 0.0001, 0.5, 0.123), '{:b}|{:o}|{:x}|{:X}|{:#x}|{:#b}'.format(5, 8, 255, 255, 255, 5)
'{:.3}|{:.3}|{:10.3}|{:.10}'.format('abcdef', 3.14159, 2.0, 1/3), '{:,.2f}'.format(1234567.891), '{}'.format(1.0), '{:d}'.format(true), '{}'.format(true), '{:{}}'.format('a', 5), '{:{w}.{p}f}'.format(3.14159, w=8, p=2)
'{} {1}'.format(1, 2)
'{0} {}'.format(1, 2)
'{}'.format()
'{x}'.format()
'{'.format()
'}'.format()
'{:d}'.format('a')
'{:z}|{:z.1f}|{:z.1f}|{:.1f}'.format(1.5, -0.01, -1.0, -0.01)
'{:5}'.format(none)
'{}'.format(none), '{}'.format([1]), '{}'.format(missing)
range(3, 1)|list, range(0)|list, range(-3, 3, 2)|list
range(1000000)
range(1, 2, 0)
range('a')
range()
dict(a=1, b=2), dict({'a': 1}, b=2), dict([('a', 1), ['b', 2]]), dict()
dict(1)
dict.fromkeys([1, 2], 'x')
namespace(a=1).a, namespace({'a': 1}).a, namespace().b, namespace(a=1)['a']
namespace(_a=1)
n is defined and missing is undefined and n is number
cycler('a', 'b').next(), cycler(1).current
cycler()
joiner()() ~ 'x'
strftime_now('%%')
raise_exception('boom')
raise_exception('with ' ~ s ~ ' and "quotes"')
raise_exception(5)
raise_exception()
raise_exception('a', 'b')
range(3).start, range(3).stop, range(1, 9, 2).step, range(5).count(2), range(5).index(3)
range(3).foo is defined, range(3).start.real
cycler(1, 2).pos, cycler(1, 2).items, joiner('x').sep, joiner().used
cycler(a=1)
dict([1])
dict([(1, 2, 3)])
dict({}, {})
dict('ab')
dict(['ab', 'cd'])
namespace(1)
namespace([('a', 1)]).a
namespace(missing)
range(10)[2:'a']
range(10)[::'a']
range(10)[::-9223372036854775807]|list, l[::9223372036854775807], s[::-9223372036854775807], range(0, 9)[1:8:3]
'%(a' % {'a': 1}
'%(a)s' % 1
'%(b)s' % {'a': 1}
'%(a)s %(a)s' % {'a': 1}, '%((a))s' % {'(a)': 1}
'%*d' % ('a', 1)
'%*d|%.*f' % (-5, 42, -3, 2.5)
'%hd %ld' % (1, 2)
'%5' % 1
'%.' % 1
'%c' % 1114112
'%c' % 'ab'
'%c' % none
'%5c|%-5c|' % ('a', 98)
'%f' % 'a'
'%s' % (), 1
'%f %e %g %F %E %G' % (sinf|float, sinf|float, snan|float, sninf|float, sninf|float, snan|float)
'%5.1f|%+f|% f' % (sinf|float, sinf|float, snan|float)
'%d' % (sinf|float)
'%d' % (snan|float)
'%.50f' % 0.1, '%.0f %.0f' % (0.5, 1.5), '%#.0f' % 2.0, '%g %#g' % (100000.0, 100000.0), '%g' % 1e-5, '%G' % 1e-10, '%e' % 0
'%o %x' % (-8, -255), '%#x' % -255, '%08x' % -255, '%+x' % 255, '% x' % 255, '%-8x|' % 255, '%.4x' % 10, '%08d|%-08d|' % (-42, -42)
'%s %% %s' % (1, 2), '%%' % ()
'%5%' % ()
'%r %r' % ('it\'s', 'a"b\'c'), '%r' % [1, 'a', none, 1.0, true]
'{:>{}}'.format('a', 5), '{:{}{}}'.format('a', '<', 5), '{0:{1}}'.format('a', 4), '{!r:>6}'.format('a'), '{!s}'.format(none), '{0[0]}{0[1]}'.format([1, 2]), '{0.real}'.format(5), '{a.b}'.format(a={'b': 9}), '{0[-1]}'.format({'-1': 'neg'}), '{:é>4}'.format('a'), '{:<<4}'.format('a'), '{:=5}'.format(-3), '{:=+5}'.format(3), '{:#o}'.format(8), '{:#X}'.format(255), '{:_x}'.format(1048575), '{:,}'.format(-1234567), '{:,}'.format(123), '{:,}'.format(1234.5), '{:_}'.format(1234567.25), '{:010,}|{:05,}|{:04,}|{:012,.1f}|{:010_x}|{:+09,}|{:08,}|{:<010,}|{:09,%}'.format(12, 12, 12, 12.5, 255, 12, 123456789, 12, 0.5)
'{:.0f} {:.0e} {:.0g}'.format(2.5, 2.5, 2.5), '{:g} {:G} {:n<5}'.format(1e20, 1e-20, 1), '{:5.1%}|{:+.0%}'.format(0.256, 0.5), '{:e}'.format(5), '{:f}'.format(5), '{:.3}|{:.1}|{:.5}|{:.17}'.format(1234.0, 0.05, 100.0, 0.1), '{:10}|{:<10}|{:^10}'.format(1.5, 1.5, 1.5), '{:c<3}'.format(1), '{:s}'.format('a'), '{:b}'.format(-5), '{:+b}'.format(5), '{:#b}'.format(-5), '{:08b}'.format(5), '{:b}'.format(0)
'{:,}'.format('a')
'{:=5}'.format('a')
'{:+}'.format('a')
'{:.2d}'.format(5)
'{:.}'.format(1.0)
'{:s}'.format(5)
'{:d}'.format(5.5)
'{:5 }'.format(1)
'{:!}'.format(1)
'{!x}'.format(1)
'{!}'.format(1)
'{0.}'.format(1)
'{0[}'.format(1)
'{0[]}'.format([1])
'{0[a}'.format({'a': 1})
'{0[a]b}'.format({'a': 1})
'{a b}'.format(1)
'{{{}}}'.format(1), '{{'.format(), '}}'.format(), 'x{{y}}z{}'.format(2)
'{'.format(1)
'{0'.format(1)
'{:{:{}}}'.format(1, 2, 3)
'{:}'.format(1), '{0:}'.format('a'), '{:}'.format(none)
'{:>5}'.format([1])
'{.foo}'.format(1)
'{[a]}'.format({'a': 7})
'{0.foo}'.format(1) == ''
'{0.foo:5}'.format(1)
s|first()(1)
(s|upper)[0](1)
s|upper()[0]
f(*l, *l)
f(**d, **d)
f(**d, a=1)
f(a=1, *l) is defined or 1
f(a=1, 2)
f(1,)
f(,)
s is string is string
s is string() is boolean
s is not string is not boolean
1 is number and 2 is not string or 3 is none
x is defined if x else 2 is defined
n is divisibleby 7 and n is odd
n is sameas n, n is in l or n is in [7]
n.5
n.0
l.0, l.1.real
l.0.1
s.0, d.0 is defined
- 'a'|length
-n|abs, -(n|abs), - n ** 2, (-n) ** 2, 2 ** -n|abs
not n == 7, not (n == 7), not n in [7], n not in [7] and true
n if n else e if e else z, (n if z) is defined, 'a' if z else 'b' if z else 'c'
n == 7 == true, (n == 7) == true, 1 < n < 10 != 5
1 ~ 2 + 3, 1 + 2 ~ 3, 2 * 3 ~ 4, '1' ~ -1, 1 ~ 2 * 3 ~ 4 - 0
[1, 2][0] + [3][-1], {'a': [1, 2]}['a'][1], (1, 2)[1], 'abc'[1], [1, 2, 3][1:], {'a': 1}.a + 1, 'a'.upper() + 'b', [1, 2]|first + 1
{'a': 1, 'a': 2}, {1: 'x', 1.0: 'y', true: 'z'}, {none: 1, (1, 2): 3}
[[], {}, ()], [[[]]], {'a': {}}
true and false or true, true or false and false, not true or true, not (true or true)
s.upper().lower()[0].upper() ~ s[1:].upper()|lower
(l|first)(1)
s()
1()
nil()
missing()
l.foo()
s.upper(1)
s.replace('o')
s.strip(1)
s.split(1)
s.startswith(1)
s.join([1])
range(*[1, 3])|list, dict(**{'a': 1}), '{}{}'.format(*l, **d)
dict(**1)
range(*1)
dict(**{1: 2})
dict(a=1, a=2)
dict(a=1, **{'a': 2})
loop
caller
varargs
1 if
[1, 2
(1, 2
{'a': 1
'unterminated
{'a' 1}
1 +
a b
x|
x is
.5
5.
1.2.3
a..b
a.'b'
@
a ! b
a == == b
{{'a'}}
[1,,2]
[,]
(,)
[1, 2,], (1, 2,), {'a': 1,}
d[]
l[0,]
l[0, 1]
l[0:1, 1]
x.y.z(1)(2)
'\\xZZ'
'\\u12'
'\\N{DASH}'
1 is divisibleby 1 is odd
8 is divisibleby 2, 9 is divisibleby(2), 3 is odd, 4 is even, 3.0 is odd, yes is odd, 2.5 is even
8 is divisibleby 0
'a' is odd
nil is even
missing is odd
1 is in [1, 2], 3 is not in [1, 2], 'a' is in 'abc', 1 is eq 1, 1 is equalto 2, 1 is ne 2, 1 is lt 2, 2 is gt 1, 1 is le 1, 1 is ge 2, 1 is lessthan 2, 2 is greaterthan 1
1 is sameas 1, none is sameas none, true is sameas true, true is sameas 1, 1 is sameas 1.0, l is sameas l
n is number, yes is number, s is number, n is integer, yes is integer, f is integer, f is float, n is float, yes is boolean, n is boolean, huge is integer, huge is number
yes is true, no is true, 1 is true, no is false, 0 is false, nil is none, missing is none, z is none
s is string, n is string, l is string, d is mapping, l is mapping, l is sequence, s is sequence, d is sequence, n is sequence, missing is sequence, range(3) is sequence, d.keys() is sequence
l is iterable, s is iterable, d is iterable, n is iterable, nil is iterable, missing is iterable, d.items() is iterable, namespace() is iterable, (l|map('string')) is iterable, yes is iterable
range is callable, s is callable, s.upper is callable, missing is callable, namespace is callable, cycler is callable, none is callable, dict is callable
'ABC' is upper, 'abc' is lower, 'aB' is upper, '1' is upper, 1 is lower, 'É' is upper
'upper' is filter, 'nope' is filter, 'odd' is test, 'nope' is test, 'tojson' is filter
missing is defined, d.b is defined, d.zz is defined, missing is not defined, not missing is defined
missing is defined and missing.x, d.zz is undefined or d.zz.y
'a' is escaped, 'a'|e is escaped, 'a'|safe is escaped
1 is nosuchtest
'x' if yes else 'a' is nosuchtest
'x'|nosuchfilter
'ok' if yes else 'x'|nosuchfilter
'x'|nosuchfilter if no else 'ok'
n is divisibleby
n is defined(1)
n is none 1
""".strip("\n")

FILTERS = """
-3|abs, -2.5|abs, yes|abs, 3|abs
'a'|abs
nil|abs
missing|abs
ld|map(attribute='name')|join(','), l|map('string')|list, ls|map('upper')|list, ld|map(attribute='zz', default='?')|list, ls|map('replace', 'A', 'z')|list, nest|map('upper')|list
l|map|list
l|map('nosuch')|list
l|map('nosuch')|first is defined
[]|map('nosuch')|list
l|map(attribute='a', foo=1)|list
l|map(1)|list
l|select('odd')|list, l|reject('odd')|list, nums|select|list, nums|reject|list, l|select('gt', 1)|list, l|select('divisibleby', 3)|list, mixed|select('string')|list
l|select('nosuch')|list
ld|selectattr('v')|list|length, ld|selectattr('v', 'equalto', 2)|map(attribute='name')|list, ld|rejectattr('v', 'eq', 2)|map(attribute='name')|list, ld|selectattr('zz')|list, ld|selectattr('zz', 'defined')|list, ld|selectattr('name', 'in', ['x', 'z'])|list|length, ld|rejectattr('zz')|list|length
ld|selectattr()|list
messages|selectattr('role', 'equalto', 'system')|list|length, messages|rejectattr('role', 'in', ['system', 'tool'])|map(attribute='role')|list
(l|select('odd'))|length
(l|select('odd'))[0] is defined
'yes' if []|select else 'no'
ld|groupby('v')|list|length, ld|groupby('g')|map(attribute='grouper')|list, ld|groupby('g', case_sensitive=true)|map('first')|list, ld|groupby('zz', default='d')|map(attribute=0)|list, ld|groupby('v')|map('last')|map('length')|list
(ld|groupby('v'))[0].grouper, (ld|groupby('v'))[0].list|length, (ld|groupby('v'))[0]|length
l|sort, ls|sort, ls|sort(case_sensitive=true), l|sort(reverse=true), ls|sort(true), ld|sort(attribute='name')|map(attribute='name')|list, ld|sort(attribute='v,name')|map(attribute='name')|list, ld|sort(attribute='v', reverse=true)|map(attribute='name')|list, 'hello'|sort|join, d|sort, nums|sort
mixed|sort
[none, none]|sort
[{}, {}]|sort
missing|sort
nil|sort
l|unique|list, [1, 1.0, true, 2]|unique|list, ['a', 'A', 'b']|unique|list, ['a', 'A']|unique(true)|list, ld|unique(attribute='g')|map(attribute='name')|list, 'hello'|unique|join
[[1]]|unique|list
l|min, l|max, ls|min, ls|max, ls|max(case_sensitive=true), ld|min(attribute='v'), ld|max(attribute='name'), []|min is defined, 'hello'|max, d|min
mixed|max
missing|min is defined
l|sum, [1.5, 2]|sum, ld|sum(attribute='v'), ld|sum('v', 10), l|sum(start=0.5), []|sum, [[1], [2]]|sum(start=[]), yes|list is defined
l|sum(start='')
ls|sum
n|sum
l|first, l|last, s|first, s|last, []|first is defined, []|last is defined, d|first, d|last, missing|first is defined, missing|last is defined, range(5)|last, 'é'|last
nil|first
n|last
(l|map('string'))|first, d.keys()|last
(l|map('string'))|last
l|length, s|length, d|length, u|length, []|count, missing|length, range(5)|length, (1, 2)|count, d.items()|length
n|length
nil|length
l|list, s|list, d|list, missing|list, d.items()|list, range(2)|list
n|list
nil|list
l|reverse|list, s|reverse, u|reverse, d|reverse|list, d.items()|reverse|list, range(3)|reverse|list, (l|map('string'))|reverse|list, missing|reverse|list
n|reverse
nil|reverse
l|join, l|join('-'), l|join(', ', attribute=0), ld|join(',', 'name'), ld|join(attribute='v'), s|join('.'), d|join, missing|join, mixed|join('|'), l|join(1), (l|map('string'))|join('+')
n|join
nil|join(',')
s|upper, s|lower, s|title, s|capitalize, u|upper, u|lower, u|title, u|capitalize, n|upper, nil|lower, missing|upper, 'ΑΣ ΑΣΑ Σ'|lower, "they're bill's friends-in (law) [x] {y} <z>"|title, 'ǆ ß'|title, 'ŉ'|upper, 'HELLO wORLD'|capitalize
t|trim, 'xxaxx'|trim('x'), 'abcba'|trim('ab'), n|trim, missing|trim, u|trim('é😀'), '\\u2003x\\u3000'|trim, t|trim(none), t|trim(chars=' ')
'a'|trim(1)
s|replace('o', '0'), s|replace('o', '0', 1), s|replace('', '-'), s|replace('zz', 'y'), n|replace(7, 8), s|replace('l', ''), u|replace('', '.'), 'aaa'|replace('aa', 'b'), s|replace(old='o', new='x'), s|replace('o', missing), s|replace('', '-', 3), ''|replace('', 'x'), s|replace('o', 'y', none), s|replace('o', 'y', 0)
s|replace('o')
s|default('x'), missing|default('x'), missing|default, nil|default('x'), nil|default('x', true), ''|default('x', boolean=true), d.zz|default('y'), missing|d('z'), 0|d(5, true), missing|default(default_value='q'), false|default('x'), missing|default(missing)|default('deep')
missing.x|default('x')
n|string, nil|string, l|string, missing|string, 1.0|string, s|string|upper
'42'|int, '42.9'|int, 'abc'|int, 'abc'|int(5), '0x1f'|int(base=16), '1f'|int(0, 16), '0b11'|int(base=2), '0x1f'|int(base=0), '010'|int, '010'|int(base=0), ' 42 '|int, '1_000'|int, '+5'|int, '-5'|int, 3.9|int, -3.9|int, yes|int, nil|int, nil|int(default=3), l|int, ''|int, '１２'|int, '1e3'|int, sinf|int, snan|int, '٣'|int, '--5'|int, '5-'|int, '1__0'|int, '_1'|int, '777'|int(base=8), 'zz'|int(base=36), '9'|int(base=8), huge|int, '12345678901234567'|int
(1e300 * 1e10)|int
missing|int
'42'|int(base='x')
'42'|float, '4.5'|float, 'abc'|float, 'abc'|float(1.5), '1e3'|float, ' 1.5 '|float, snan|float, sinf|float, sninf|float, 3|float, yes|float, nil|float, l|float, ''|float, '1_0.5'|float, '0x10'|float, '.5'|float, '5.'|float, '+.5e-1'|float, '1e'|float, 'e5'|float, '1.2.3'|float
missing|float
2.5|round, 3.5|round, -2.5|round, 2.567|round(2), 2.345|round(2), 1234.5|round(-2), 42|round, 42|round(-1), 45|round(-1), 55|round(-1), 2.1|round(0, 'ceil'), 2.9|round(method='floor'), 2.123|round(2, 'ceil'), 2.129|round(2, 'floor'), 1e20|round, 0.5|round, 1.5|round, yes|round, 5|round(1, 'floor'), -2.5|round(0, 'ceil'), 2.675|round(2), 1e-7|round(3), 15|round(-2), -15|round(-1), -25|round(-1)
2|round(0, 'x')
'a'|round
nil|round
missing|round
d|items|list, missing|items|list, de|items|list
l|items|list
d|dictsort|list, d|dictsort(true)|list, de|dictsort, {'b': 2, 'a': 3}|dictsort(false, 'value'), {'b': 2, 'a': 3}|dictsort(by='value', reverse=true), {'B': 1, 'a': 2}|dictsort(reverse=true)
d|dictsort(by='zz')
d|dictsort(by='value')
l|dictsort
[1,2,3,4,5]|batch(2)|list, [1,2,3,4,5]|batch(2, 'x')|list, []|batch(2)|list, [1,2]|batch(5, 0)|list, s|batch(4)|map('join')|list, [1,2,3]|batch(0)|list
[1,2,3]|batch|list
[1,2,3,4,5]|slice(2)|list, [1,2,3,4,5]|slice(3)|list, [1,2,3,4,5]|slice(3, 'x')|list, [1]|slice(3)|list, [1,2]|slice(2, 'x')|list, []|slice(2)|list
lines|indent, lines|indent(2), lines|indent(2, true), lines|indent(2, blank=true), lines|indent('>> '), lines|indent(width=1, first=true, blank=true), ''|indent, 'a'|indent(3, true), 'a\\n'|indent, 'a\\n\\n'|indent(2), '\\n'|indent(2, true, true)
n|indent
missing|indent
html|e, html|escape, html|forceescape, html|e|e, html|e|forceescape, n|e, nil|e, missing|e, html|safe, html|safe|e, html|string
html|safe ~ '<', html|safe + '<', '<' + html|safe, ('<'|safe) * 3, ('%s'|safe) % '<', ('%s'|safe)|format('<'), ('{}'|safe).format('<') is string, '<'|e|upper, '<b>'|safe|replace('<', '&'), ['<', '<'|safe]|join(','), ('<'|safe)[0], ('a<b'|safe).split('<'), ('<'|safe).join(['<', 'x']), (html|safe)|length, [('<'|safe)]
'a b  c\\td'|wordcount, ''|wordcount, "it's é 日本"|wordcount, n|wordcount
html|safe|list|length, ('<a'|safe)|list, ('<a'|safe)|first, ('<a'|safe)|last, ('<a'|safe)|reverse
s|truncate(8), s|truncate(8, true), s|truncate(8, false, '..'), s|truncate(8, leeway=0), s|truncate(5, true, '', 0), s|truncate(11), s|truncate(6, leeway=5), s|truncate(5, leeway=5), 'aaaa bbbb cccc'|truncate(10, leeway=0), 'aaaaaaaaaaaaaaaaaa'|truncate(5, leeway=0), u|truncate(6, true, '…', 0)
s|truncate(2)
n|truncate
s|center(20) ~ '|', s|center(21) ~ '|', s|center(3), n|center(5), 'ab'|center(5) ~ '|', 'abc'|center(6) ~ '|', s|center|length
'%s-%d'|format('a', 5), '%(x)s'|format(x=1), 'x'|format
'%s'|format(1, x=2)
'%s'|format
ld|map('attr', 'name')|list, s|attr('upper') is callable, d|attr('b') is defined, d|attr('items') is callable, ns is defined, l|attr('append') is defined
d|attr(1)
1000|filesizeformat, 1|filesizeformat, 0|filesizeformat, 999|filesizeformat, 1500|filesizeformat, 1500000|filesizeformat, 1024|filesizeformat(true), 1048576|filesizeformat(binary=true), 1e12|filesizeformat, 3e27|filesizeformat
'a b&c/d=é'|urlencode, {'a b': 'c&d', 'x': 1}|urlencode, [('a', 1), ('b', 'é')]|urlencode, 5|urlencode, '~_-.'|urlencode
d|tojson, l|tojson, s|tojson, nil|tojson, yes|tojson, n|tojson, f|tojson, one|tojson, u|tojson, quote|tojson, html|tojson, de|tojson, le|tojson, (1, 2)|tojson, huge|tojson, messages|tojson, '\\x00\\x1f\\x7f\\u2028'|tojson, {1: 2, none: 3, true: 4, 1.5: 5}|tojson, 1e16|tojson, [1e400, -1e400]|tojson
d|tojson(indent=2), d|tojson(indent=4), l|tojson(indent=1), de|tojson(indent=2), le|tojson(indent=2), d|tojson(indent=0), d|tojson(indent='--'), {'a': [], 'b': {}}|tojson(indent=2), messages|tojson(indent=2)
d|tojson(sort_keys=true), d|tojson(separators=(',', ':')), d|tojson(separators=[', ', ' = ']), u|tojson(ensure_ascii=true), d|tojson(indent=2, separators=(',', ':')), d|tojson(true), d|tojson(sort_keys=true, indent=2), u|tojson(true), d|tojson(indent=none)
missing|tojson
[missing]|tojson
range(3)|tojson
namespace()|tojson
d.items()|tojson
(l|map('string'))|tojson
{(1, 2): 3}|tojson
{1: 2, 'a': 3}|tojson(sort_keys=true)
d|tojson(foo=1)
d|tojson(separators=1)
s|upper()|lower|title, s | upper | length, -1|string|length, 1 + 2|string|length, (1 + 2)|string, not s|length, s|length > 3, s|length == 11 and yes, [1]|first + 1
messages|map(attribute='tool_calls.0.function.name')|list, nest|attr('x') is defined, [nest]|map(attribute='x.y.0.z')|list, [nest]|map(attribute='x.q.z', default='dd')|list, [[1, 2], [3, 4]]|map(attribute=1)|list, [[1, 2], [3, 4]]|map(attribute='1')|list, [nest]|groupby('x.y')|list|length, [nest]|selectattr('x.y')|list|length
[nest]|map(attribute='q.r')|list
[nest]|sum(attribute='q.r')
n|join(',', 'x')
sinf|float|round, snan|float|round, sninf|float|round(2), 1e300|round(300), 1.5|round(400), 123.456|round(-400), 1e-300|round(310), 5|round(-30), 9007199254740993|round(-1)
sinf|float|round(0, 'ceil')
'99999999999999999999'|float, -9223372036854775807|abs
l|batch('x')|list
l|slice(0)|list
l|slice(-1)|list
[1, 2]|urlencode
[(1, 2, 3)]|urlencode
'x'|filesizeformat
'2000'|filesizeformat, -5|filesizeformat, 1e15|filesizeformat(true)
d|tojson(separators=(1, 2))
s|center('x')
s|indent('x'), s|indent(none)
missing|truncate
missing|title, missing|capitalize, missing|center(3), missing|wordcount, missing|urlencode, missing|e
nil|title, nil|trim, n|replace('7', 'x'), l|upper, d|lower, l|trim('[')
d|map('upper')|list, 'abc'|map('upper')|list, 'abc'|select('in', 'ab')|list, d|select('equalto', 'b')|list
d|first|upper, d|list|sort, d|length, d|unique|list, 'abc'|batch(2)|list
missing|map('upper')|list, missing|select|list, missing|unique|list, missing|batch(2)|list, missing|sum, missing|dictsort is defined
missing|groupby('x'), missing|items|list, missing|join(','), missing|string|length, missing|list|length
nil|map('upper')|list, nil|select|list
n|map('upper')|list
n|unique|list
[3, 1, 2]|sort(reverse=1), [3, 1, 2]|sort(attribute=none), ['b', 'A']|sort(case_sensitive=1)
[1, 2]|first(1)
1|default(1, 2, 3)
l|map(attribute=none)|list
l|map('default', 'x')|list, [missing, 1]|map('default', 'x')|list, [none, 1]|map('default', 'x', true)|list
l|map('round', precision=1)|list, ['a']|map('indent', width=2, first=true)|list
l|select('divisibleby', num=3)|list, l|reject('in', seq=[1])|list
s|upper(1)
s|upper(x=1)
s|trim('a', 'b')
s|join('a', 'b', 'c')
s|default(1, true, 2)
s|default('a', default_value='b')
""".strip("\n")

METHODS = """
s.upper(), s.lower(), s.title(), s.capitalize(), s.swapcase(), u.upper(), u.lower(), u.title(), u.swapcase(), u.capitalize(), 'ΑΣ'.lower(), "they're".title(), 'ŉa'.title(), 'aΣ, Σa Σ'.lower(), 'AΣ.'.lower(), "AΣ'B".lower(), 'Σ'.lower()
t.strip(), t.lstrip(), t.rstrip(), 'xxaxx'.strip('x'), 'xya'.lstrip('yx'), 'ayx'.rstrip('xy'), t.strip(none), ''.strip(), '   '.strip(), u.strip('G'), 'éaé'.strip('é')
s.split(), s.split('o'), s.split('o', 1), t.split(), 'a,b,,c'.split(','), ''.split(), ''.split(','), 'a b c d'.split(none, 2), 'a b c d'.split(maxsplit=1), s.split(sep='l'), '  a  b  '.split(none, 1), u.split('ß'), 'a\\u2003b'.split(), 'abc'.split('abc'), 'aXbXc'.split('X', 0), 'a  b '.split(none, 0)
s.rsplit('o', 1), 'a b c d'.rsplit(none, 2), 'a,b,c'.rsplit(',', 1), '  a  b  '.rsplit(none, 1), 'a,b'.rsplit(','), ''.rsplit(','), ''.rsplit(), 'aXbX'.rsplit('X', 1), 'a b'.rsplit(none, 0)
s.split('')
s.rsplit('')
lines.splitlines(), lines.splitlines(true), ''.splitlines(), 'a\\n'.splitlines(), 'a\\x0bb\\x0cc\\x1cd\\u2028e\\x85f'.splitlines(), '\\n\\n'.splitlines(keepends=true), '\\r\\n'.splitlines()
s.startswith('He'), s.startswith(('x', 'He')), s.startswith('W', 6), s.endswith('ld'), s.endswith('o', 0, 5), s.startswith(''), s.startswith('He', 1), s.endswith(('a', 'd')), s.startswith('H', -100), s.startswith('', 100), s.startswith('', 11), s.endswith('', 5, 2), s.startswith('lo', 3, 5), s.startswith(())
s.startswith(['H'])
s.startswith()
s.replace('o', '0'), s.replace('o', '0', 1), s.replace('', '-'), s.replace('l', 'LL', 2), s.replace('o', '0', -1), s.replace('o', '0', 0), ''.replace('', 'x'), ''.replace('', 'x', 1), 'aa'.replace('', '-', 2)
s.replace('o', 1)
s.replace(1, 'o')
s.replace('o', 'x', count=1)
s.find('o'), s.find('z'), s.find('o', 5), s.rfind('o'), s.find('o', 0, 3), s.rfind('o', 0, 5), u.find('日'), u.rfind('😀'), s.find(''), s.rfind(''), s.find('', 20), s.find('', 11), s.find('H', -11), s.rfind('', 2, 5), s.find('o', -4), s.index('W'), s.rindex('l'), s.find('o', none, none)
s.index('z')
s.rindex('z')
s.count('l'), s.count(''), s.count('o', 5), u.count(''), ''.count(''), 'aaaa'.count('aa'), s.count('', 5, 2), s.count('l', 0, 3), s.count('', 100)
','.join(ls), ''.join(ls), '-'.join('abc'), '-'.join(d), ','.join([]), u.join(['a', 'b']), ', '.join(l|map('string')), '-'.join(('a', 'b'))
','.join(l)
','.join(1)
s.format(), '{}'.format(s)
s.zfill(15), '-5'.zfill(5), '+5'.zfill(4), '5'.zfill(1), ''.zfill(3), 'é'.zfill(3)
s.ljust(13) ~ '|', s.rjust(13), s.center(14) ~ '|', 'ab'.center(5, '*'), 'ab'.ljust(5, 'é'), 'abc'.center(4, '*'), 'abc'.center(8, '-'), 'ab'.center(7, '-'), s.rjust(3), ''.center(3, '*'), ''.center(4, '*'), 'a'.center(4, '*'), 'a'.center(5, '*')
s.ljust(20, 'ab')
s.ljust('a')
'abc'.isalpha(), ''.isalpha(), 'a1'.isalnum(), '12'.isdigit(), '²'.isdigit(), '½'.isnumeric(), '²'.isdecimal(), '٣'.isdigit(), ' \\t'.isspace(), 'ab'.islower(), 'AB'.isupper(), 'Ab Cd'.istitle(), 'aB'.istitle(), '1'.isupper(), 'ǅ'.isupper(), 'ǅ'.istitle(), 'a\\n'.isprintable(), ''.isprintable(), 'é'.isascii(), ''.isascii(), '一'.isnumeric(), '①'.isdigit(), 'ª'.islower(), 'Ⅷ'.isupper(), 'é'.isalpha(), '日本'.isalnum(), 'a_b'.isalnum(), '١'.isdecimal()
'abc'.removeprefix('a'), 'abc'.removesuffix('bc'), 'abc'.removeprefix('x'), 'abc'.removesuffix(''), 'abc'.removeprefix('abcd'), 'aa'.removeprefix('a')
'a=b=c'.partition('='), 'a=b=c'.rpartition('='), 'abc'.partition('='), 'abc'.rpartition('=')
'abc'.partition('')
s.upper().lower().title().split(' ')[0]
s.nosuch
s.nosuch()
s['upper']()
'%s'.upper() % 1
d.get('b'), d.get('q', 'dflt'), d.get('q'), d.get(key='b')
d.get()
d.get([1])
d.items()|first, d.values()|list, d.keys()|join(','), d.items()|map('first')|list
f.is_integer(), (4.0).is_integer()
""".strip("\n")

STATEMENTS = [
    "{% for i in l %}{{ i }}{% endfor %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for i in 'abc' %}{{ loop.cycle('x', 'y') }}{% endfor %}",
    "{% for i in 'abc' %}{{ loop.cycle() }}{% endfor %}",
    "{% for i in [1,1,2,2,1] %}{{ loop.changed(i) }}{% endfor %}",
    "{% for i in [1,1,2] %}{{ loop.changed(i, 1) }}{{ loop.changed() }}{% endfor %}",
    "{% for i in [1] %}{{ loop }}{% endfor %}",
    "{% for i in [1, 2] %}{{ loop|length }}{{ loop.foo }}{{ loop['index'] }}{% endfor %}",
    "{% for i in [1, 2] %}{{ loop.foo.bar }}{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for i in l %}{{ i }}{% else %}empty{% endfor %}",
    "{% for i in l %}{% continue %}{% else %}all skipped{% endfor %}",
    "{% for i in l %}{% break %}{% else %}broken{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% else %}E{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% else %}E{% endfor %}",
    "{% for i in missing %}x{% else %}none{% endfor %}",
    "{% for i in nil %}x{% endfor %}",
    "{% for i in n %}x{% endfor %}",
    "{% for i in d %}{{ i }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for a, b in [(1,)] %}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}",
    "{% for a in 1, 2, 3 %}{{ a }}{% endfor %}",
    "{% for i in l if i > 1 %}{{ i }}{{ loop.index }}{{ loop.length }}{% endfor %}",
    "{% for i in l if i > 5 %}x{% else %}none{% endfor %}",
    "{% for i in l if i > 1 %}{{ loop.last }}{{ loop.revindex }}{% endfor %}",
    "{% for a, b in [(1, 2), (3, 4)] if a > 1 %}{{ a }}{{ b }}{% endfor %}",
    "{% for i in l if loop.index > 1 %}{{ i }}{% endfor %}",
    "{% for j in [1] %}{% for i in l if loop.index == 1 %}{{ i }}{% endfor %}{% endfor %}",
    "{% for i in n if i %}x{% endfor %}",
    "{% set ns = namespace(k=1) %}{% for i in [1, 2, 3, 4] if i > ns.k %}{{ i }}{% set ns.k = i + 1 %}{% endfor %}",
    "{% for i in l|select('odd') %}{{ loop.last }}{{ loop.length }}{{ i }}{% endfor %}",
    "{% for i in l|map('string') %}{{ loop.length }}{{ loop.last }}{{ i }}{% endfor %}",
    "{% for i in l|map('string') %}{{ loop.nextitem }}{{ loop.length }}{{ i }}{% endfor %}",
    "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}",
    "{% set g = l|select %}{% for i in g %}{{ i }}{% endfor %}{% for i in g %}{{ i }}{% else %}done{% endfor %}",
    "{% set g = l|map('string') %}{{ '3' in g }}{{ g|list }}",
    "{% set g = l|reverse %}{{ g|list }}{{ g|list }}",
    "{% for i in l %}{% set x = i %}{% endfor %}{{ x }}",
    "{% set x = 0 %}{% for i in l %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}",
    "{% set x = 0 %}{% for i in l %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 0 %}{% if true %}{% set x = 1 %}{% endif %}{{ x }}",
    "{% if false %}{% set x = 1 %}{% endif %}{{ x }}",
    "{% if false %}{% set s = 1 %}{% endif %}{{ s }}",
    "{% for i in [1] %}{% if false %}{% set s = 1 %}{% endif %}{{ s }}{% endfor %}",
    "{% for i in [1, 2] %}{% if i == 1 %}{% set s = 'first' %}{% endif %}{{ s }}{% endfor %}{{ s }}",
    "{% for i in [1, 2] %}{% for j in [1] %}{% set s = i %}{{ s }}{% endfor %}{{ s }}{% endfor %}",
    "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a + 1 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns.c is defined }}",
    "{% set ns = namespace(a=1) %}{% set ns.a, y = 2, 3 %}{{ ns.a }}{{ y }}",
    "{% set ns = namespace(a=1) %}{% set ns.a %}text{% endset %}{{ ns.a }}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% set ns.a = 1 %}",
    "{% set d.x = 1 %}",
    "{% set s.x = 1 %}",
    "{% set a.b.c = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1, 2] %}{{ a }}{{ b }}{% set (c, d) = 'xy' %}{{ c }}{{ d }}",
    "{% set a, b = 1 %}",
    "{% set a, b = [1] %}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set a = %}",
    "{% set 1 = 2 %}",
    "{% set true = 2 %}",
    "{% set 'a' = 2 %}",
    "{% set a[0] = 2 %}",
    "{% set a() = 2 %}",
    "{% set x %}a{{ n }}b{% endset %}[{{ x }}]{{ x|length }}{{ x is string }}",
    "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x | upper | replace('A', 'z') %}abc{% endset %}{{ x }}",
    "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y }}",
    "{% set x = 1 %}{% set y %}{% set x = 2 %}{{ x }}{% endset %}{{ x }}{{ y }}",
    "{% for i in l %}{% set z %}a{{ i }}{% if i == 1 %}{% break %}{% endif %}{% endset %}{{ z }}{% endfor %}",
    "{% for i in l %}{% filter upper %}a{{ i }}{% if i == 1 %}{% continue %}{% endif %}b{% endfilter %}{% endfor %}",
    "{% filter upper %}abc{{ s }}{% endfilter %}",
    "{% filter upper|replace('A', 'x') %}abc{% endfilter %}",
    "{% filter indent(2) %}a\nb{% endfilter %}",
    "{% filter length %}abc{% endfilter %}",
    "{% filter nosuch %}abc{% endfilter %}",
    "{% set x = 1 %}{% filter lower %}{% set x = 2 %}{{ x }}{% endfilter %}{{ x }}",
    "{% if n %}a{% elif z %}b{% else %}c{% endif %}",
    "{% if z %}a{% elif n %}b{% else %}c{% endif %}",
    "{% if z %}a{% elif z %}b{% elif z %}q{% else %}c{% endif %}",
    "{% if z %}a{% endif %}",
    "{% if missing %}a{% else %}b{% endif %}",
    "{% if missing.x %}a{% endif %}",
    "{% if n: %}a{% endif %}",
    "{% if 1, %}a{% endif %}",
    "{% if %}a{% endif %}",
    "{% if n %}a",
    "{% if n %}a{% endfor %}",
    "{% else %}",
    "{% endif %}",
    "{% for %}{% endfor %}",
    "{% for x %}{% endfor %}",
    "{% for x in %}{% endfor %}",
    "{% for x in l %}",
    "{% for x.y in l %}{% endfor %}",
    "{% for loop in l %}{% endfor %}",
    "{% for x in l %}{% set loop = 1 %}{% endfor %}",
    "{% set loop = 1 %}{{ loop }}",
    "{% nosuch %}",
    "{% %}",
    "{{ }}",
    "{{",
    "{{ 'a' ",
    "{% set x = 1",
    "{# open",
    "{% raw %}{{ x }}",
    "{% break %}",
    "{% continue %}",
    "{% macro m() %}{% break %}{% endmacro %}",
    "{% for i in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for i in l %}{% call foo() %}{% break %}{% endcall %}{% endfor %}",
    "{% for i in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% for i in l %}x{% else %}{% break %}{% endfor %}",
    "{% for j in l %}{% for i in [] %}x{% else %}{% break %}{% endfor %}{{ j }}{% endfor %}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(b=4, a=5) }}|{{ m() }}|{{ m(1, b=none) }}",
    "{% macro m(a, b=a, c=b ~ '!') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}",
    "{% macro m(a=b, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}{{ m(1) }}",
    "{% macro m(x=x) %}{{ x }}|{% endmacro %}{% set x = 5 %}{{ m() }}",
    "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}",
    "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, b=2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(a, a) %}{% endmacro %}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m(a %}{% endmacro %}",
    "{% macro m %}{% endmacro %}",
    "{% macro 1() %}{% endmacro %}",
    "{% macro m() %}",
    "{% macro m() %}x{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}{{ m is callable }}",
    "{% macro m(a, b) %}{{ kwargs }}{{ caller() }}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.caller }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body{{ n }}{% endcall %}",
    "{% macro m() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b=5) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}[{{ caller(1) }}]{% endmacro %}{% call(a, b=5) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}[{{ caller(1, 2, 3) }}]{% endmacro %}{% call(a) m() %}{{ a }}{% endcall %}",
    "{% macro m() %}[{{ caller }}]{% endmacro %}{{ m() }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{{ m() }}",
    "{% macro m() %}[{{ caller() if caller else 'none' }}]{% endmacro %}{{ m() }}{% call m() %}c{% endcall %}",
    "{% macro m() %}x{% endmacro %}{% call m() %}body{% endcall %}",
    "{% macro m(caller=none) %}{{ caller() if caller else 'no' }}{% endmacro %}{{ m() }}{% call m() %}c{% endcall %}",
    "{% macro m(caller) %}{{ caller() }}{% endmacro %}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{{ m() }}{% macro m() %}late{% endmacro %}",
    "{% if true %}{% macro m() %}x{% endmacro %}{% endif %}{{ m() }}",
    "{% for i in [1] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}",
    "{% macro m() %}{{ s }}{% endmacro %}{{ m() }}{% set s = 2 %}{{ m() }}",
    "{% macro m() %}{% macro inner(x) %}<{{ x }}>{% endmacro %}{{ inner(1) }}{% endmacro %}{{ m() }}",
    "{% macro m(kwargs) %}{{ kwargs }}{% endmacro %}{{ m(1) }}",
    "{% macro m(varargs) %}{{ varargs }}{% endmacro %}{{ m(1) }}",
    "{% macro m() %}{% for i in varargs %}{{ i }}{% endfor %}{% for k, v in kwargs.items() %}{{ k }}{{ v }}{% endfor %}{% endmacro %}{{ m(*l, **{'q': 1}) }}",
    "{% macro m() -%}\n  x  \n{%- endmacro %}[{{ m() }}]",
    "{{ m('x') }}{% set m = 5 %}",
    "{% call foo %}x{% endcall %}",
    "{% call 1 %}x{% endcall %}",
    "{% macro m() %}({{ caller() }}){% endmacro %}{% call m() %}{% call m() %}in{% endcall %}{% endcall %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% set x = 1 %}{% call m() %}{% set x = 2 %}{{ x }}{% endcall %}{{ x }}",
    "{% macro outer() %}{% generation %}{{ caller() }}{% endgeneration %}{% endmacro %}{% call outer() %}c{% endcall %}",
    "{% generation %}a{{ n }}{% endgeneration %}b",
    "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{% endgeneration %}{{ x }}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ loop.index }}{% endgeneration %}{% endif %}{% endfor %}",
    "{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with a=1, b=a %}{{ a }}{{ b }}{% endwith %}",
    "{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x }}",
    "{% with a, b = (1, 2) %}{{ a }}{% endwith %}",
    "{% with (a, b) = (1, 2) %}{{ a }}{{ b }}{% endwith %}",
    "{% set n2 = 5 %}{% with n2 = n2 + 1 %}{{ n2 }}{% endwith %}{{ n2 }}",
    "{% for x in [[1, [2, [3]]]] recursive %}{{ x if x is number else '(' ~ loop(x) ~ ')' }}{% endfor %}",
    "{% for x in [1, [2, 3]] recursive %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.index }}{% if x is iterable %}{{ loop(x) }}{% endif %};{% endfor %}",
    "{% for x in [1] recursive %}{{ loop() }}{% endfor %}",
    "{% for x in [1] %}{{ loop([2]) }}{% endfor %}",
    "{% for x in [] recursive %}a{% else %}b{% endfor %}",
    "{% for x in [[], [1]] recursive %}{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}{% endif %}{% else %}E{% endfor %}",
    "{% for x in [1, 2] if x > 1 recursive %}{{ x }}{% endfor %}",
    "{% for i in l %}{% set o = loop %}{% for j in 'ab' %}{{ o.index }}{{ loop.index }}{{ j }}{% endfor %}{% endfor %}",
    "{% for i in l %}{% for j in 'ab' %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for i in [1] %}{% for j in [] %}{% else %}{{ loop.index }}{% endfor %}{% endfor %}",
    "{% for i in [] %}{% else %}{{ loop }}{% endfor %}",
    "{{ loop }}",
    "{{ loop.index }}",
    "{% set c = cycler('a', 'b', 'c') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}",
    "{% set j = joiner() %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}",
    "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b",
    "{% set x = range(3) %}{% for i in x %}{{ i }}{% endfor %}{% for i in x %}{{ i }}{% endfor %}",
    "{% print 1, 2 %}{% print s %}",
    "{% print %}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% do l.append(1) %}",
    "{{ raise_exception('stop') }}after",
    "before{% if messages[0].role != 'user' %}{{ raise_exception('Roles must alternate: ' ~ messages[0].role) }}{% endif %}",
    "{% set f = raise_exception %}{{ f('indirect') }}",
    "{% if z %}{{ 'x'|nosuch }}{% endif %}ok",
    "{% if n %}{{ 'x'|nosuch }}{% endif %}ok",
    "{% if z %}{% for i in l %}{{ i|nosuch }}{% endfor %}{% endif %}ok",
    "{% if z %}{% set x = 'a'|nosuch %}{% endif %}ok",
    "{% if z %}{{ x is nosuch }}{% endif %}ok",
    "{% if z is nosuch %}{% endif %}ok",
    "{% if z %}{% macro m() %}{{ 1|nosuch }}{% endmacro %}{% endif %}ok",
    "{% for i in [] %}{{ 1|nosuch }}{% endfor %}",
    "{% set x = 'a' if yes else 1|nosuch %}{{ x }}",
    "{{ x|nosuch.dotted }}",
    "{% for m in messages %}{{ m['role'] }}: {{ m.content }}\n{% endfor %}",
    "{{ bos_token }}{% for m in messages[1:] %}{{ '<|' + m.role + '|>' }}{{ m['content'] | trim }}{% endfor %}",
    "{% for m in messages %}{% if m.tool_calls %}{% for t in m.tool_calls %}{{ t.function.name }}{{ t.function.arguments|tojson }}{% endfor %}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ m.tool_calls is defined and m.tool_calls }}{% endfor %}",
    "{{ messages|map(attribute='role')|join(',') }}{{ messages[-1]['role'] }}{{ messages[::-1][0].role }}",
    "{%- set loop_messages = messages[1:] if messages[0]['role'] == 'system' else messages %}{{ loop_messages|length }}",
    "{{ messages[0]['content'] if messages[0] is mapping else '' }}{{ messages is sequence and messages is not string }}",
]

WHITESPACE = [
    "a\n{% if yes %}\nb\n{% endif %}\nc",
    "a\n  {% if yes %}\n  b\n  {% endif %}\n  c",
    "a\n  {%- if yes %}\n  b\n  {%- endif %}\n  c",
    "a\n  {% if yes -%}\n  b\n  {% endif -%}\n  c",
    "a\n  {%+ if yes %}\n  b\n  {%+ endif %}\n  c",
    "a\n  {% if yes +%}\n  b\n  {% endif +%}\n  c",
    "a  {% if yes %}  b  {% endif %}  c",
    "  {% if yes %}x{% endif %}",
    "\t {% if yes %}\n\n x{% endif %}\n\n",
    "  {{ s }}\n  {{ n }}\n",
    "a\n  {{- s -}}\n  b",
    "a {{- s -}} b",
    "a {{+ n }}",
    "{{ s -}}\n\n  b",
    "{{ s }}\n\n",
    "{{ s }}\n",
    "{{ s }}",
    "{{ s }}\r\nx\ry\r\n",
    "a\r\n{% if yes %}\r\nb\r\n{% endif %}\r\nc\r\n",
    "a {# comment #} b",
    "a\n{# comment #}\nb",
    "a\n  {# comment #}\n  b",
    "a {#- comment -#} b",
    "a\n  {#+ comment #}\nb",
    "a\n{# multi\nline #}\nb",
    "{# {{ x }} {% if %} #}ok",
    "{#--#}ok",
    "a\n  {% raw %}\n  {{ x }} {% if %}\n  {% endraw %}\nb",
    "a {%- raw -%} {{ x }} {%- endraw -%} b",
    "{% raw %}{{{% endraw %}",
    "{% raw %}{% endraw %}x",
    "{% raw -%}\n x {% endraw %}",
    "a\n  {% raw %}b{% endraw %}\nc",
    "{%raw%}{{%}{%endraw%}",
    "{% set x = 1 %}\n{% set y = 2 %}\n{{ x }}{{ y }}",
    "{%- set x = 1 -%}\n{%- set y = 2 -%}\n{{ x }}{{ y }}",
    "  {%- set x = 1 %}  \n  {{ x }}",
    "{% for i in l %}\n  {{ i }}\n{% endfor %}\n",
    "{% for i in l -%}\n  {{ i }}\n{%- endfor %}\n",
    "{%for i in l%}{{i}}{%endfor%}",
    "x{% if yes %}\n{% endif %}y",
    "x\n\n{% if yes %}\n\n\n{% endif %}\n\ny",
    "\u00a0{%- if yes %}x{% endif -%}\u2003y",
    "\u00a0{% if yes %}x{% endif %}",
    "a\n \u00a0{% if yes %}x{% endif %}",
    "{{ '}}' }}{{ '{{' }}{{ '%}' }}{{ \"{%\" }}",
    "{{ {'a': {'b': 1}}['a'] }}",
    "{{ {'a': {'b': 1}} }}",
    "{{ [[1], [2]] }}{{ ((1, 2), 3) }}",
    "{{{'a': 1}}}",
    "{{ {'a': 1}['a'] }}}",
    "{ {x} } {% if yes %}{ }{% endif %} %} }} #}",
    "{",
    "{ %",
    "a{",
    "",
    "\n",
    "\n\n",
    "x\n\n",
    " \n ",
    "{{ s\n\n }}",
    "{{\n\ts\n|\n\tupper\n}}",
    "{%\nif yes\n%}x{%\nendif\n%}",
    "{{ - n }}",
    "{{-n}}",
    "{{ n -}}x",
    "{{ n - 1 }}",
    "{{ n -1 }}",
    "{% if n -1 %}x{% endif %}",
    "{% if n - %}x{% endif %}",
    "{{ (n\n) }}",
    "{{ [1\n,2\n] }}\n",
    "line {{ n }} {% if yes %} mid {% endif %} end\n  {% if yes %}  indented  {% endif %}  \n",
    "{% if yes %}\n  a\n{% else %}\n  b\n{% endif %}\n",
    "  {% for i in l %}  \n{{ i }}  {% endfor %}\n",
    "a\n\t{# c #}\n\t{% if yes %}\n\tb\n\t{% endif %}",
    "{% set x %}\n  text\n{% endset %}[{{ x }}]",
    "a {{ n }}\n{{ s }}\n  {{- n }}",
    "{{n}}{#c#}{{n}}",
    "日本 {%- if yes %} é {% endif -%} ü",
    "{{ '{#' }}{# {{ #}",
    "{{ 1 }}{% raw %}{# {{ x }} #}{% endraw %}",
]

# What Python renders and we refuse by name.
REFUSED = [
    "{{ s|wordwrap(5) }}",
    "{{ '<b>x</b>'|striptags }}",
    "{{ {'a': 1}|xmlattr }}",
    "{{ s|urlize }}",
    "{{ l|pprint }}",
    "{{ [1]|random }}",
    "{{ s.encode() }}",
    "{{ s.translate({}) }}",
    "{{ s.casefold() }}",
    "{{ s.expandtabs() }}",
    "{{ (1).bit_length() }}",
    "{% block b %}x{% endblock %}",
    "{% autoescape false %}x{% endautoescape %}",
    "{{ self }}",
    "{{ lipsum() }}",
    "{{ (-8) ** (1/3) }}",
    "{{ '\\ud83d' }}",
    "{{ 9223372036854775807 + 1 }}",
    "{{ 2 ** 64 }}",
    "{{ 9223372036854775807|round(-1) }}",
    "{{ 1e300|int }}",
    "{{ 12345678901234567890 }}",
    "{{ huge + 1 }}",
]


def templates():
    """(group, template) pairs."""
    for line in PRINTING.split("\n"):
        yield "printing", line
    for group, block in (("expressions", EXPRESSIONS), ("filters", FILTERS), ("methods", METHODS)):
        for line in block.split("\n"):
            # a line of several expressions is one template, with a bar between the values
            yield group, "{{ (" + line + ")|list|join('|') }}" if is_tuple(line) else "{{ " + line + " }}"
    for template in STATEMENTS:
        yield "statements", template
    for template in WHITESPACE:
        yield "whitespace", template


def is_tuple(line):
    """Whether there is a comma outside brackets and quotes, and more than one thing."""
    depth, quote, skip = 0, "", False
    for c in line:
        if skip:
            skip = False
        elif quote:
            if c == "\\":
                skip = True
            elif c == quote:
                quote = ""
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            return True
    return False
