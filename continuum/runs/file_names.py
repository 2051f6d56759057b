r"""File names as text: one spelling that every record can hold, every terminal show, and undo.

A file's name on Linux is bytes. What is valid UTF-8 and stays on its line is spelled as it is.
Bytes that are not UTF-8 are spelled `\xe9`; control characters and line ends `\n`, `\t`, `\x1b`,
`\u2028`; marks that turn the direction of writing `\u202e`. A backslash of the name itself is
doubled only where it would otherwise read as one of these. So ordinary names are unchanged, two
names are equal when their spellings are, and `path_of` gives the name back.

Names do not depend on the locale: they are spelled from their bytes.
"""

import codecs
import os
import re

SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_LONG = {short: sign for sign, short in SHORT.items()}
_ESCAPE = re.compile(r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u(?!d[89a-f])[0-9a-f]{4})")
_UNSAFE = re.compile(
    # Control characters, line ends, and what turns the direction of the text after it.
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
STREAM_ERRORS = "continuum.names"
"""The error handler of streams that print names: `\\xe9`, not `\\udce9`."""


def spelled(name: str) -> str:
    """A file's name or path, as the system gave it, in the spelling of the records."""
    text = os.fsencode(name).decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    found = ""
    for sign in reversed(text):
        if sign == "\\":
            found = ("\\\\" if _ESCAPE.match(f"\\{found}") else "\\") + found
        else:
            found = _shown(sign) + found
    return found


def path_of(spelling: str) -> str:
    """The name that `spelled` gave this spelling to."""
    return os.fsdecode(_ESCAPE.sub(_meant, spelling).encode("utf-8", "surrogateescape"))


def on_one_line(text: str) -> str:
    """A text for people, such as a message with a path in it, without signs that break the line.

    It cannot be undone: backslashes stay as they are.
    """
    return _UNSAFE.sub(lambda found: _shown(found[0]), text)


def encodable(text: str) -> str:
    """A text whose bytes of file names are spelled, so that UTF-8 can hold it; the rest stays."""
    return text if text.isascii() else _SURROGATE.sub(lambda found: _shown(found[0]), text)


def encodable_json(text: str) -> str:
    """The same of the text of a JSON document, which stays one."""
    if text.isascii():
        return text
    return _SURROGATE.sub(lambda found: "\\" + _shown(found[0]), text)


def _shown(sign: str) -> str:
    code = ord(sign)
    if not _UNSAFE.match(sign):
        return sign
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return SHORT.get(sign) or f"\\x{code:02x}"
    return f"\\u{code:04x}"


def _meant(found: re.Match[str]) -> str:
    escape = found[0]
    if escape in _LONG:
        return _LONG[escape]
    if escape == "\\\\":
        return "\\"
    code = int(escape[2:], 16)
    return chr(code + 0xDC00) if escape[1] == "x" and code >= 0x80 else chr(code)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError), "only what is written needs this"
    signs = error.object[error.start : error.end]
    shown = (_shown(s) if _SURROGATE.match(s) else s for s in signs)
    text = "".join(shown).encode("ascii", "backslashreplace").decode("ascii")
    return text, error.end


codecs.register_error(STREAM_ERRORS, _replace)
