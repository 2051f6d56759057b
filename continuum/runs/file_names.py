r"""File names as text: an escaped form that records hold, terminals show, and code undoes.

A file name on Linux is bytes. Printable text in valid UTF-8 is kept as it is. Bytes that are not
UTF-8 are escaped as `\xe9`; control characters and line ends as `\n`, `\t`, `\x1b`, `\u2028`;
marks that change the direction of text as `\u202e`. A backslash of the name itself is doubled only
where it would otherwise read as one of these. So ordinary names are unchanged, two names are equal
when their escaped forms are, and `unescape_name` gives the name back.

Names do not depend on the locale: they are escaped from their bytes.
"""

import codecs
import os
import re

SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_LONG = {short: character for character, short in SHORT.items()}
_ESCAPE = re.compile(r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u(?!d[89a-f])[0-9a-f]{4})")
_UNSAFE = re.compile(
    # Control characters, line ends, and marks that change the direction of text.
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
STREAM_ERRORS = "continuum.names"
"""The error handler of streams that print names: `\\xe9`, not `\\udce9`."""


def escape_name(name: str) -> str:
    """Escape a file name or path that the system gave."""
    text = os.fsencode(name).decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    found = ""
    for character in reversed(text):
        if character == "\\":
            found = ("\\\\" if _ESCAPE.match(f"\\{found}") else "\\") + found
        else:
            found = _escape(character) + found
    return found


def unescape_name(escaped: str) -> str:
    """The name or path that `escape_name` escaped."""
    return os.fsdecode(_ESCAPE.sub(_unescape, escaped).encode("utf-8", "surrogateescape"))


def on_one_line(text: str) -> str:
    """Escape characters that would break the line of a message with a path in it.

    This cannot be undone: backslashes are kept as they are.
    """
    return _UNSAFE.sub(lambda found: _escape(found[0]), text)


def encodable(text: str) -> str:
    """Escape the surrogates of file names, so that UTF-8 can encode the text."""
    return text if text.isascii() else _SURROGATE.sub(lambda found: _escape(found[0]), text)


def encodable_json(text: str) -> str:
    """As `encodable`, for the text of a JSON document, which stays valid JSON."""
    if text.isascii():
        return text
    return _SURROGATE.sub(lambda found: "\\" + _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    if not _UNSAFE.match(character):
        return character
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return SHORT.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}"


def _unescape(found: re.Match[str]) -> str:
    escape = found[0]
    if escape in _LONG:
        return _LONG[escape]
    if escape == "\\\\":
        return "\\"
    code = int(escape[2:], 16)
    return chr(code + 0xDC00) if escape[1] == "x" and code >= 0x80 else chr(code)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError), "a handler for output only"
    characters = error.object[error.start : error.end]
    escaped = (_escape(s) if _SURROGATE.match(s) else s for s in characters)
    text = "".join(escaped).encode("ascii", "backslashreplace").decode("ascii")
    return text, error.end


codecs.register_error(STREAM_ERRORS, _replace)
