"""Presigned URLs: their signatures are hidden in exports, since a holder can fetch the file.

Every spelling of one counts: see `unescaped`. URLs are signed anew at every call, so that
comparisons of results leave their queries out.
"""

import re

from storage.unescaped import Unescaped

HIDDEN = "hidden"

# Parameters that carry the right itself: https://docs.aws.amazon.com/AmazonS3 (X-Amz-...),
# Google's X-Goog-..., Aliyun's x-oss-..., Tencent's q-signature, CloudFront's Signature. Others
# have names that ordinary URLs use as well (CloudFront's Policy, Azure's sig, Valyu's token): there
# the value must look like a secret.
_SURE = "access_token|[a-z0-9-]{0,20}(?:signature|credential|security-token)"
_UNSURE = "token|policy|sig"
_SIGNED = re.compile(
    rf"[?&;#](?:(?:{_SURE})=|(?:{_UNSURE})=(?=[\w\-+/=.%~:@!*$,|]{{16}}))",
    re.IGNORECASE | re.ASCII,
)
_AFTER_VALUE = re.compile(r"[&\"\\\s<>()\[\]]")
# A query ends before the first character that cannot be part of one.
_URL = re.compile(r"https?://\S+")
_QUERY = re.compile(r"\?[^?\"\\\s<>()\[\]]*")
_SIGNING = re.compile(rf"[?&;#](?:{_SURE}|{_UNSURE})=", re.IGNORECASE)
_HINTS = ("token=", "sig=", "signature=", "policy=", "credential=")
# `=`, `#`, a digit, a character of a name, or an escape of an escape: ordinary URLs escape few.
_CODES = r"(?:2[35d]|3[0-9d]|5[cf]|[46][1-9a-f]|[57][0-9a])"
_PERCENT_ENCODED = re.compile(rf"%(?:u00)?{_CODES}", re.IGNORECASE)
_ESCAPED = re.compile(rf"\\(?:(?:u00|x|u\{{0*|U0{{6}}){_CODES}|[01][0-7]{{2}})", re.IGNORECASE)
# An entity, or one whose `&` is escaped.
_ENTITY = re.compile(
    r"(?:&|26\}?|046|38;|amp(?:;|%3b))(?:#|equals|percnt|lowbar|bsol)", re.IGNORECASE
)
_SIGNS = (
    *(("%", _PERCENT_ENCODED), ("\\", _ESCAPED)),
    *((sign, _ENTITY) for sign in ("#", "equals", "percnt", "lowbar", "bsol")),
)
"""What a text holds that may hold an escape: to look for it takes no time."""


def without_signatures(text: str | None) -> str | None:
    """Replace what signs a URL by `hidden`, anywhere in a text.

    `token`, `policy` and `sig` are hidden only where the value looks like a secret (16 characters
    or more, of those that secrets are written with), so that `?policy=climate` stays. JSON stays
    valid JSON, and the URL still names its file; the store keeps it whole.
    """
    if text is None or not (_has_hints(text) or _has_escapes(text)):
        return text
    read = Unescaped.of(text)
    if not _has_hints(read.text):
        return text
    kept: list[str] = []
    last = 0
    for found in _SIGNED.finditer(read.text):
        start = read.places[found.end()]
        if start >= last:  # otherwise a part of the value before it
            kept += text[last:start], HIDDEN
            last = read.places[_end_of_value(read, found.end())]
    return "".join([*kept, text[last:]])


def _end_of_value(read: Unescaped, start: int) -> int:
    """Return the end of a value: what was percent-encoded more often is a part of it."""
    level = read.levels[start - 1]
    for found in _AFTER_VALUE.finditer(read.text, start):
        if read.levels[found.start()] <= level:
            return found.start()
    return len(read.text)


def without_queries(text: str) -> str:
    """Remove the queries of signed URLs, anywhere in a text, and of a text that is one URL.

    A URL counts as signed by the name of a parameter, whatever its value: the text is for comparing
    two answers, and is never shown.
    """
    if "?" in text and _URL.fullmatch(text):
        return text.split("?", 1)[0]
    if _has_hints(text):
        text = _QUERY.sub(_unless_signed, text)
    if _has_escapes(text):
        read = Unescaped.of(text).text
        return _QUERY.sub(_unless_signed, read) if _SIGNING.search(read) else text
    return text


def _has_hints(text: str) -> bool:
    """Return False quickly for most texts, which hold no signature."""
    if "=" not in text:
        return False
    lowered = text.lower()
    return any(hint in lowered for hint in _HINTS)


def _has_escapes(text: str) -> bool:
    """Return False quickly for most texts, which hold no signature in another spelling."""
    return any(sign in text and escape.search(text) is not None for sign, escape in _SIGNS)


def _unless_signed(query: re.Match[str]) -> str:
    return "" if _SIGNING.search(query[0]) else query[0]
