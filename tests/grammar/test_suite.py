"""The JSON Schema Test Suite (draft 2020-12) against the schema compiler. suite.json.gz holds its cases, {file: [group]}, of
https://github.com/json-schema-org/JSON-Schema-Test-Suite, under the licence in suite.LICENSE.

A case is right when the grammar accepts just what the suite calls valid, but for what engine/grammar/schema.h says it reads in another
way: keywords of one type mean that type (implied() writes it into the schema and the jsonschema package says what is valid then), members
come in the schema's order, and a number or a formatted string has fewer spellings than it might. A schema that cannot be held is
refused, and the keyword named."""
import collections
import gzip
import itertools
import json
import re
from pathlib import Path

import jsonschema

from test_schema import check, dumps

SUITE = json.loads(gzip.open(Path(__file__).parent / "suite.json.gz").read())
FAMILIES = {
    "object": ["properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"],
    "array": ["items", "prefixItems", "additionalItems", "minItems", "maxItems"],
    "string": ["minLength", "maxLength", "pattern", "format"],
    "number": ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
}
UNSUPPORTED = ["not", "if", "contains", "uniqueItems", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies",
               "unevaluatedProperties", "unevaluatedItems", "$dynamicRef"]
# Supported within bounds that the message tells of.
PARTLY = {"$ref": "leads to no place in this schema", "oneOf": "exclude each other", "multipleOf": "is supported for integers",
          "pattern": "beyond general categories", "patternProperties": "beyond general categories"}
# Valid texts that are never made, by the description of their case: rarer spellings of formats, integers of more than 20 digits.
NEVER_MADE = ["bignum", "comparison works for", "a valid URL ", "leap second", "case-insensitive", "tilde", "quoted string", "address-literal", "maximum label length", "mixed format",
              "ipv4-mapped", "a long valid ipv6", "protocol-relative", "many special characters", "ldap"]


def implied(node):
    """The schema with the types that its keywords speak of."""
    if isinstance(node, list):
        return [implied(v) for v in node]
    if not isinstance(node, dict):
        return node
    out = {key: {k: implied(v) for k, v in value.items()} if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(value, dict)
           else value if key in ("enum", "const", "default", "examples") else implied(value) for key, value in node.items()}
    types = [t for t, words in FAMILIES.items() if any(w in node for w in words)]
    if types and not any(k in node for k in ("type", "enum", "const")):
        out["type"] = types
    return out


def spellings(value):
    """The same value as the grammar may write it: other orders of members, 1 for 1.0 and 1.0 for 1."""
    if isinstance(value, dict):
        for order in itertools.permutations(value):
            for members in itertools.product(*(list(spellings(value[k])) for k in order)):
                yield dict(zip(order, members))
    elif isinstance(value, list):
        yield from map(list, itertools.product(*(list(spellings(v)) for v in value)))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
        if value == int(value):
            yield int(value) if isinstance(value, float) else float(value)
    else:
        yield value


def says(schema, value):
    """jsonschema's word; None where Python's expressions are not ECMAScript's."""
    try:
        return jsonschema.Draft202012Validator(schema).is_valid(value)
    except re.error:
        return None


def request(schema, values):
    return {"kind": "schema", "text": json.dumps(schema, ensure_ascii=False), "candidates": [dumps(v) for v in values], "walks": 2, "seed": 1}


def test_suite():
    groups = [(name, g) for name, list_ in SUITE.items() for g in list_]
    answers = check([request(g["schema"], [t["data"] for t in g["tests"]]) for _, g in groups])
    counts, wrong, refused, later = collections.Counter(), [], collections.Counter(), []
    for (name, group), answer in zip(groups, answers):
        where = f"{name}: {group['description']}"
        if "error" in answer:
            pointer, _, why = answer["error"].partition(": ")
            keyword = pointer.rsplit("/", 1)[-1]
            if answer["status"] == "unsupported_value" and keyword in UNSUPPORTED and f"'{keyword}' is not supported" in why:
                refused[keyword] += 1
            elif answer["status"] == "unsupported_value" and PARTLY.get(keyword, "?") in why:
                refused[keyword] += 1
            elif "matches nothing" in answer["error"] and not any(t["valid"] for t in group["tests"]):
                counts["empty"] += 1
            elif "\\u0000 in string" in answer["error"]:
                counts["NUL"] += 1
            else:
                wrong.append(f"{where}: {answer['error']}")
            continue
        for text in answer["walks"]:
            counts["made"] += 1
            if says(group["schema"], json.loads(text)) is False:
                wrong.append(f"{where}: made {text}")
        for case, accepted in zip(group["tests"], answer["accepts"]):
            place = f"{where}: {case['description']}: {dumps(group['schema'])} {dumps(case['data'])}"
            counts["valid" if accepted else "invalid"] += accepted == case["valid"]
            if accepted and not case["valid"]:
                wrong.append("accepted: " + place)
            elif case["valid"] and not accepted:
                if says(implied(group["schema"]), case["data"]) is False:
                    counts["of another type"] += 1
                elif name == "format" or any(words in case["description"] for words in NEVER_MADE):
                    counts["never made"] += 1
                else:
                    later.append((place, request(group["schema"], list(itertools.islice(spellings(case["data"]), 200)))))
    for (place, _), answer in zip(later, check([r for _, r in later])):
        counts["spelled otherwise"] += any(answer["accepts"])
        if not any(answer["accepts"]):
            wrong.append("refused: " + place)
    print("figure: JSON Schema Test Suite:", dict(counts), "refused:", dict(refused))
    assert not wrong, f"{len(wrong)} findings\n" + "\n".join(wrong[:40])
    assert counts["valid"] > 380 and counts["invalid"] > 400 and counts["made"] > 300 and counts["of another type"] < 250
    assert set(refused) == {*UNSUPPORTED, *PARTLY}


def test_readme_names_them_all():
    text = " ".join((Path(__file__).resolve().parents[2] / "README.md").read_text().split())
    section = text[text.index("### JSON, schemas and tools"):text.index("`tools`, `tool_choice`")]
    held, _, refused = section.partition("What cannot be held")
    for keyword in [w for words in FAMILIES.values() for w in words if w != "additionalItems"] + ["enum", "const", "anyOf", "allOf", "oneOf", "$ref"]:
        assert f"`{keyword}`" in held, keyword
    for keyword in UNSUPPORTED + ["then", "else", "$recursiveRef", "disallow", "extends", "$anchor"]:
        assert f"`{keyword}`" in refused, keyword


def test_each_unsupported_keyword_is_named():
    """Alone and within, with the place of it."""
    values = {"not": {}, "if": {}, "contains": {}, "uniqueItems": True, "propertyNames": {"maxLength": 3}, "dependentRequired": {"a": ["b"]},
              "dependentSchemas": {"a": {}}, "dependencies": {"a": ["b"]}, "unevaluatedProperties": False, "unevaluatedItems": False,
              "$dynamicRef": "#a", "$recursiveRef": "#", "disallow": "string", "extends": {}}
    schemas = [(k, place, schema) for k, v in values.items() for place, schema in (
        (f"#/{k}", {k: v}), (f"#/properties/a~1b/items/{k}", {"type": "object", "properties": {"a/b": {"type": "array", "items": {k: v}}}}),
        (f"#/anyOf/1/{k}", {"anyOf": [{"type": "null"}, {k: v}]}))]
    for (keyword, place, schema), answer in zip(schemas, check([request(s, []) for _, _, s in schemas])):
        assert answer["status"] == "unsupported_value" and answer["error"].startswith(f"{place}: the keyword '{keyword}'"), (schema, answer)
