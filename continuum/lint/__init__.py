"""What is allowed in a spec and yet unwise: warnings, each with its place.

A rule is a small function of the document and its plan (`lint/subject.py`); its code, with advice
and an example, stands in `lint/codes.py`. `# continuum: allow W002` in the file silences a rule at
its line.
"""

from continuum.lint.codes import LINT_CODES
from continuum.lint.linter import lint

__all__ = ["LINT_CODES", "lint"]
