"""What the codes of diagnostics mean, in words for the one who meets them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """One kind of mistake."""

    summary: str
    """A sentence: what is wrong."""
    advice: str = ""
    """Why it matters and what to do, for `continuum explain`."""
    wrong: str = ""
    """A few lines of YAML that have the mistake."""
    right: str = ""
    """The same lines without it."""


CODES = {
    "E001": Code("The file cannot be read as UTF-8 text."),
    "E002": Code("The text is not YAML."),
    "E003": Code("A key stands twice in one mapping."),
    "E004": Code("A Git conflict marker was left in the file."),
    "E005": Code("A tab in the indentation."),
    "E006": Code("A YAML tag or merge key, which specs do not use."),
    "E007": Code("Nested too deep, or too large once aliases are followed."),
    "E008": Code("A mapping was expected."),
    "E009": Code("A key that is not plain text."),
    "E101": Code("A key that is not known at this place."),
    "E102": Code("A required key is missing."),
    "E103": Code("A value of the wrong type."),
    "E104": Code("A value that is not allowed."),
    "E105": Code("A kind of stage that does not exist."),
    "E106": Code("A stage name that cannot be used."),
    "E201": Code("A reference to a stage that does not exist."),
    "E202": Code("A reference to a stage that makes something else."),
    "E203": Code("Stages that wait for each other."),
    "E301": Code("A variable that is not defined."),
    "E302": Code("A file in `extends` that cannot be used."),
    "E303": Code("Files that extend each other in a circle."),
    "E304": Code("An override (`--set`) that cannot be applied."),
    "E401": Code("Fields that do not fit together."),
}
"""Mistakes that make a spec unusable."""
