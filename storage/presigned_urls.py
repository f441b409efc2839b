"""Presigned URLs: their signatures are hidden in exports, since a holder can fetch the file.

They are signed anew at every call, so that comparisons of results leave their queries out.
"""

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
# A query ends before the first character that cannot be part of one.
_URL = re.compile(r"https?://\S+")
_QUERY = re.compile(r"\?[^?\"\\\s<>()\[\]]*")
_SIGNING = re.compile(rf"[?&;](?:{_SURE}|{_UNSURE})=", re.IGNORECASE)
_HINTS = ("token=", "sig=", "signature=", "policy=", "credential=")


def without_signatures(text: str | None) -> str | None:
    """Replace what signs a URL by `hidden`, anywhere in a text.

    `token`, `policy` and `sig` are hidden only where the value looks like a secret (16 characters
    or more, of those that secrets are written with), so that `?policy=climate` stays. JSON stays
    valid JSON, and the URL still names its file; the store keeps it whole.
    """
    if text is None or not _may_hold_signatures(text):
        return text
    return _SIGNED.sub(r"\1hidden", text)


def without_queries(text: str) -> str:
    """Remove the queries of signed URLs, anywhere in a text, and of a text that is one URL.

    A URL counts as signed by the name of a parameter, whatever its value: the text is for comparing
    two answers, and is never shown.
    """
    if "?" not in text:
        return text
    if _URL.fullmatch(text):
        return text.split("?", 1)[0]
    return _QUERY.sub(_unless_signed, text) if _may_hold_signatures(text) else text


def _may_hold_signatures(text: str) -> bool:
    """Return False quickly for most texts, which hold no signature."""
    if "=" not in text:
        return False
    lowered = text.lower()
    return any(hint in lowered for hint in _HINTS)


def _unless_signed(query: re.Match[str]) -> str:
    return "" if _SIGNING.search(query[0]) else query[0]
