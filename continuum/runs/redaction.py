"""Recognize passwords and tokens by their published formats, and remove them from texts.

`${env.NAME}` in a URL names an environment variable; its value is only read to make a request.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

REDACTED = "<redacted>"
"""Stands for a credential in a recorded URL."""
_CREDENTIAL = (
    r"(?:[\w.-]{0,40}(?:token|signature|secret|password|passwd|credentials?|authorization|"
    r"api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key)|(?:[\w.-]{0,40}[_.-])?"
    r"(?:sig|auth|pwd|jwt))"
)
_FREE = r"(?!\$\{|[<*])"
"""Not the name of a variable, nor what an earlier redaction left."""
_VALUE = rf"(?P<secret>{_FREE}[^&#\s\"'<>]*[^&#\s\"'<>,;.:)\]}}])"
_USERINFO = re.compile(
    rf"\b[a-z][a-z0-9+.-]{{0,20}}://(?P<secret>[^/\s:@]*:{_FREE}[^/\s@]+|"
    rf"(?:(?<=https://)|(?<=http://)){_FREE}[^/\s:@]+)@",
    re.IGNORECASE,
)
_PARAMETER = re.compile(rf"(?<=[?&#;]){_CREDENTIAL}={_VALUE}", re.IGNORECASE)
_KEY = re.compile(
    r"(?<=[?&])key=(?P<secret>(?=[^&#\s]{0,200}[0-9])(?=[^&#\s]{0,200}[a-z])[\w~+%=-]{16,})(?![^&#\s\"'<>])",
    re.IGNORECASE,
)
"""A `key` may also name a file; it is a credential if it looks random."""
_SIGNED = re.compile(r"[?&](?:[\w-]{0,20}-signature|signature|sig)=", re.IGNORECASE)
_SIGNED_PARAMETER = re.compile(
    r"(?<=[?&])(?:x-amz-[a-z-]+|x-goog-[a-z-]+|expires|policy|key-pair-id|googleaccessid|"
    rf"s[veprt]|srt|sip|spr|sk[oesvt]|sktid|skoid)={_VALUE}",
    re.IGNORECASE,
)
"""Other parameters that change when a URL is signed again (AWS, Google Cloud, Azure)."""
_IN_URL = {
    "a password in a URL": _USERINFO,
    "a signature or token in a URL": _PARAMETER,
    "a key in a URL": _KEY,
}
FORMATS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "an API key (sk-…)": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[opsu]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50,})"),
    "a GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20}"),
    "a Slack token": re.compile(r"\bxox[abp]-[A-Za-z0-9-]{10,}"),
    "a Google API key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "a private key": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    ),
    **_IN_URL,
}
"""By name: the prefixes that the issuers publish, and the credentials in URLs."""
_SECRET_WORDS = r"(?:password|passwd|pwd|secret|token|credentials?|(?:api|access|private)[_-]?key)"
_NAMED = re.compile(rf"(?:^|[_-]){_SECRET_WORDS}$", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"""{_SECRET_WORDS}["']?[ \t]*[:=][ \t]*
        (?P<secret>"[^"\n]{{6,}}"|'[^'\n]{{6,}}'|(?![<$*])[^\s"'(){{}}\[\],.$]{{8,}}(?=[\s,}}\]]|$))""",
    re.IGNORECASE | re.VERBOSE,
)
"""A value assigned to a key that names a secret: quoted, or a bare word of YAML or a shell."""
_ASSIGNED_SHORT = re.compile(
    rf"""{_SECRET_WORDS}["']?[ \t]*[:=][ \t]*
        (?P<secret>["'](?!<|\$\{{)[^"'\n]+["']?|(?![<&*|>]|\$\{{)[^\s"',{{}}\[\]]+)""",
    re.IGNORECASE | re.VERBOSE,
)
"""The same for one line of a spec, where nothing is code: a value of any length."""
MIN_LETTERS = 8
"""Shorter values of environment variables are common words."""
ENVIRONMENT_VARIABLE = re.compile(r"\$\{env\.(?P<name>[^${}]*)\}")


class _Found(NamedTuple):
    start: int
    end: int
    label: str


def kind_of_secret(text: str) -> str | None:
    """Return the name of the first format of a secret in the text; None if there is none."""
    return next((kind for kind, pattern in FORMATS.items() if pattern.search(text)), None)


def names_secret(key: str) -> bool:
    """Return True if a key or a variable of this name holds a secret."""
    return _NAMED.search(key) is not None


def redacted(text: str) -> tuple[str, int]:
    """Replace what looks like a secret; return the text and the number of replacements."""
    found = _secrets_in(text, _ASSIGNED)
    return _replaced(text, found), len(found)


def without_secrets(text: str) -> str:
    """Return the text with what looks like a secret replaced."""
    return redacted(text)[0]


def masked(line: str) -> str:
    """Return lines of a spec with their secrets overwritten; columns stay the same."""
    found = _secrets_in(line, _ASSIGNED_SHORT)
    stars = (re.sub(r"[^\n]", "*", line[it.start : it.end]) for it in found)
    over = (it._replace(label=label) for it, label in zip(found, stars, strict=True))
    return _replaced(line, over)


def without_credentials(url: str) -> str:
    """Return a URL as it is recorded: the values of credentials in it are `<redacted>`.

    A signed URL is the same after it is signed again. Other names are returned unchanged.
    """
    if "://" not in url:
        return url
    patterns = (*FORMATS.values(), *([_SIGNED_PARAMETER] if _SIGNED.search(url) else ()))
    return _replaced(url, _joined(it for p in patterns for it in _matches(p, url, REDACTED)))


def _secrets_in(text: str, assigned: re.Pattern[str]) -> list[_Found]:
    """The secrets of a text, in order, without overlaps."""
    labels = {kind: REDACTED if kind in _IN_URL else f"<{kind}>" for kind in FORMATS}
    found = [it for kind, p in FORMATS.items() for it in _matches(p, text, labels[kind])]
    found += _matches(assigned, text, "<a secret>")
    for name, value in os.environ.items():
        if len(value) >= MIN_LETTERS and value in text and names_secret(name) and name != "PWD":
            found += _matches(re.compile(re.escape(value)), text, f"<the value of {name}>")
    return _joined(found)


def _matches(pattern: re.Pattern[str], text: str, label: str) -> Iterator[_Found]:
    group = "secret" if "secret" in pattern.groupindex else 0
    for match in pattern.finditer(text):
        yield _Found(*match.span(group), label)


def _joined(found: Iterable[_Found]) -> list[_Found]:
    joined: list[_Found] = []
    for it in sorted(found):
        if joined and it.start < joined[-1].end:
            joined[-1] = joined[-1]._replace(end=max(it.end, joined[-1].end))
        else:
            joined.append(it)
    return joined


def _replaced(text: str, found: Iterable[_Found]) -> str:
    parts, end = [], 0
    for it in found:
        parts += [text[end : it.start], it.label]
        end = it.end
    return "".join([*parts, text[end:]])
