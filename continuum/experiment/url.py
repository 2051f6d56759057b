"""A URL in a spec: as a text it has no credentials, so that none is shown or recorded."""

import hashlib
import os
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from continuum.errors import PreflightError
from continuum.runs.address import Address, address_of, unset_variables
from continuum.runs.redaction import REDACTED, without_credentials

VARIABLE_PREFIX = "CONTINUUM_URL_"


class Url(str):
    """A URL without the credentials that are written out in it.

    `${env.NAME}` in it is the value of an environment variable, read when the URL is requested.
    """

    __slots__ = ("written",)
    written: str
    """As in the spec. In a stage that was rebuilt from its record, without credentials too."""

    @classmethod
    def of(cls, written: str) -> "Url":
        """The URL of a text in a spec or a record."""
        url = cls(without_credentials(written))
        url.written = written
        return url

    @property
    def unset_variables(self) -> list[str]:
        """Its environment variables that are not set."""
        return unset_variables(self.written)

    def for_worker(self, fingerprint: str) -> dict[str, str]:
        """The environment variable that passes credentials to the worker of a stage, if any.

        The worker reads the stage from its record, which has none.
        """
        return {self._variable(fingerprint): self.written} if self.written != self else {}

    def address(self, fingerprint: str = "") -> Address:
        """The address to request.

        Args:
            fingerprint: Of the stage, in its worker.

        Raises:
            PreflightError: an environment variable is not set, or the credential was not passed.
        """
        written = os.environ.get(self._variable(fingerprint), self.written)
        if REDACTED in written:
            raise PreflightError(
                f"{self}: the credential is not recorded; write it as ${{env.NAME}} in the spec"
            )
        return address_of(written)

    def _variable(self, fingerprint: str) -> str:
        return VARIABLE_PREFIX + hashlib.sha256(f"{fingerprint} {self}".encode()).hexdigest()[:16]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def parse(value: Any) -> "Url":
            if not isinstance(value, str):
                raise PydanticCustomError("string_type", "Input should be a URL")
            return value if isinstance(value, Url) else cls.of(str(value))

        return core_schema.no_info_plain_validator_function(
            parse,
            serialization=core_schema.simple_ser_schema("str"),
            json_schema_input_schema=core_schema.str_schema(),
        )
