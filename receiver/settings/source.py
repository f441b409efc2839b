"""Settings of one sender account."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from receiver.settings.values import refuse_plain_http, split_values

MEBIBYTE = 1024 * 1024


class SourceSettings(BaseModel):
    """Settings of one sender account; None takes the provider's default."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    provider: str | None = Field(
        default=None, description="the adapter; by default the source's name"
    )
    api_key: SecretStr | None = Field(default=None, description="the key for the sender's API")
    base_url: str | None = Field(default=None, description="where the sender's API is")
    signing_secrets: Annotated[list[SecretStr], NoDecode] = Field(
        default=[], description="account-level signing secrets, newest first"
    )
    signing_secrets_file: Path | None = Field(
        default=None, description="the same, one a line; read again whenever it changes"
    )
    tolerance: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds a timestamp may be off"
    )
    lookup_by_body: bool = Field(
        default=False, description="find the secret by an id in the still unverified body"
    )
    max_body_bytes: int = Field(default=16 * MEBIBYTE, ge=1024, description="larger bodies get 413")
    concurrency: int = Field(default=8, ge=1, le=256, description="jobs worked on at once")
    requests_per_second: float = Field(default=10.0, gt=0, description="calls to the sender's API")
    signing: dict[str, Any] = Field(
        default={}, description="another scheme, header names, template, readings"
    )
    api: dict[str, Any] = Field(
        default={}, description="what its API leaves open: see docs/senders.md"
    )

    @field_validator("signing_secrets", mode="before")
    @classmethod
    def _apart(cls, secrets: Any) -> Any:
        return split_values(secrets)

    @field_validator("api_key", mode="before")
    @classmethod
    def _pasted(cls, key: Any) -> Any:
        """Strip what pasting leaves around a key: it would spoil every call."""
        if not isinstance(key, str):
            return key
        key = key.strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise ValueError("has characters that are no part of a key: copy it again")
        return key

    @field_validator("base_url")
    @classmethod
    def _safe_for_keys(cls, url: str | None) -> str | None:
        if url is not None:
            refuse_plain_http(url, "the API key would travel in the clear")
        return url
