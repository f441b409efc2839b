"""Signed URLs: whoever holds one may fetch what it points to, so none leaves in an export."""

import re

# Parameters that carry the right itself: https://docs.aws.amazon.com/AmazonS3 (X-Amz-...),
# Google's X-Goog-..., CloudFront's Signature and Policy, Azure's sig, Valyu's token.
_NAMES = (
    "token|access_token|sig|signature|policy|"
    "x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|x-goog-credential"
)
_SIGNED = re.compile(rf"([?&;](?:{_NAMES})=)[^&\"\\\s<>()\[\]]+", re.IGNORECASE)
_HINTS = ("oken=", "OKEN=", "ig=", "IG=", "ignature=", "olicy=", "redential=")


def without_signatures(text: str | None) -> str | None:
    """Put `hidden` in the place of what signs a URL, anywhere in a JSON text.

    The text stays valid JSON, and the URL says what it points to; the store keeps it whole.
    """
    if text is None or not any(hint in text for hint in _HINTS):
        return text
    return _SIGNED.sub(r"\1hidden", text)
