"""Signed URLs: whoever holds one may fetch what it points to, so none leaves in an export."""

import re

# Parameters that carry the right itself: https://docs.aws.amazon.com/AmazonS3 (X-Amz-...),
# Google's X-Goog-..., CloudFront's Signature. Others have names that ordinary URLs use as well
# (CloudFront's Policy, Azure's sig, Valyu's token): there the value must look like a secret.
_SURE = (
    "access_token|signature|"
    "x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|x-goog-credential"
)
_UNSURE = "token|policy|sig"
_VALUE = r"[^&\"\\\s<>()\[\]]"
_SIGNED = re.compile(
    rf"([?&;](?:(?:{_SURE})=|(?:{_UNSURE})=(?=[A-Za-z0-9_\-+/=.%~]{{16}}))){_VALUE}+",
    re.IGNORECASE,
)
_HINTS = ("oken=", "OKEN=", "ig=", "IG=", "ignature=", "olicy=", "redential=")


def without_signatures(text: str | None) -> str | None:
    """Put `hidden` in the place of what signs a URL, anywhere in a text.

    `token`, `policy` and `sig` are hidden only where the value looks like a secret (16 characters
    or more, of those that secrets are written with), so that `?policy=climate` stays. JSON stays
    valid JSON, and the URL says what it points to; the store keeps it whole.
    """
    if text is None or not any(hint in text for hint in _HINTS):
        return text
    return _SIGNED.sub(r"\1hidden", text)
