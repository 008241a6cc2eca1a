"""What scripts/make_continue_goldens.py and test_continue_final.py share."""
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"


def source_of(name):
    """A template for which it is always the same day."""
    source = (TEMPLATES / name).read_text()
    if "strftime_now" not in source:
        return source
    return "{%- macro fixed_now(format) -%}1 May 2026{%- endmacro -%}" + source.replace("strftime_now", "fixed_now")
