"""Recognize passwords and tokens by their published formats, and remove them from texts."""

import re

KNOWN_SECRETS = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an API key (sk-…)": r"\bsk-[A-Za-z0-9_-]{20,}",
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a GitHub token": r"\b(?:gh[opsu]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50,})",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}",
    "a Slack token": r"\bxox[abp]-[A-Za-z0-9-]{10,}",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@",
    "a signature or token in a URL": (
        r"[?&](?:X-Amz-Signature|X-Goog-Signature|sig|token|access_token|api_key)=[^&\s]{8,}"
    ),
}
"""Name and pattern: the prefixes that the issuers publish."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_ASSIGNED = re.compile(
    r"""(?P<key>\b[\w-]*(?:password|passwd|pwd|secret|token|credentials?|(?:api|access|private)[_-]?key)
        ["']?[ \t]*[:=][ \t]*)
        (?:"[^"\n]{6,}"|'[^'\n]{6,}'|[^\s"'(){}\[\],.$]{8,}(?=\s|$))""",
    re.IGNORECASE | re.VERBOSE,
)
"""A value assigned to a key that names a secret: quoted, or a bare word of YAML or a shell."""


def redacted(text: str) -> tuple[str, int]:
    """Replace what looks like a secret; return the text and the number of replacements."""
    text, total = _PRIVATE_KEY.subn("<a private key>", text)
    for kind, pattern in KNOWN_SECRETS.items():
        text, number = re.subn(pattern, f"<{kind}>", text)
        total += number
    text, number = _ASSIGNED.subn(lambda found: f"{found['key']}<a secret>", text)
    return text, total + number
