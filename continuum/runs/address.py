"""The address of a request: a URL with its credentials, which only the request may use."""

import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from continuum.errors import PreflightError
from continuum.runs.redaction import (
    ENVIRONMENT_VARIABLE,
    without_credentials,
    without_secrets,
)

MIN_HIDDEN = 3
"""Values of fewer letters are not replaced in messages."""


@dataclass(frozen=True)
class Address:
    """A URL to request, and its text for messages."""

    url: str = field(repr=False)
    shown: str
    """Without credentials, as it is recorded."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values of environment variables in the URL, and their names: `${env.NAME}`."""

    @property
    def has_credentials(self) -> bool:
        """Whether the URL holds a credential, or the value of an environment variable."""
        return self.url != self.shown

    def __str__(self) -> str:
        return self.shown

    def hide(self, text: str) -> str:
        """Return a text about the request, such as an error or a redirect, without secrets."""
        text = text.replace(self.url, self.shown)
        for value, name in self.secrets.items():
            forms = (value, urllib.parse.quote(value), urllib.parse.quote_plus(value))
            for form in forms if len(value) >= MIN_HIDDEN else ():
                text = text.replace(form, name)
        return without_secrets(text)


def environment_variables(url: str) -> list[str]:
    """Return the names of the environment variables in a URL, in order."""
    return [match["name"] for match in ENVIRONMENT_VARIABLE.finditer(url)]


def unset_variables(url: str) -> list[str]:
    """Return the variables in a URL that are not set, or empty."""
    return [name for name in environment_variables(url) if not os.environ.get(name)]


def address_of(url: str) -> Address:
    """Return the address of a URL with the values of its environment variables.

    Raises:
        PreflightError: a variable is not set, or its value cannot stand in a URL.
    """
    shown = without_credentials(url)
    if unset := unset_variables(url):
        raise PreflightError(f"{shown}: environment variable {unset[0]} is not set")
    names = environment_variables(url)
    secrets = {os.environ[name].strip(): f"${{env.{name}}}" for name in names}
    for value, name in secrets.items():
        if not value.isascii() or any(letter <= " " for letter in value):
            raise PreflightError(
                f"{shown}: the value of {name} contains spaces or non-ASCII characters; write "
                "them as %XX"
            )
    filled = ENVIRONMENT_VARIABLE.sub(lambda found: os.environ[found["name"]].strip(), url)
    return Address(filled, shown, secrets)
