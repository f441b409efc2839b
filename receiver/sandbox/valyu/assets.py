"""Files that results point to: URLs with a token that may run out, and what is behind them."""

import hashlib
import hmac
import secrets
import time
from urllib.parse import urlencode

from starlette.responses import Response

from receiver.sandbox.answers import Refusal
from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu.records import Task

# Of this process; URLs of a former one are refused, as those of a former day are in real life.
_KEY = secrets.token_bytes(32)

_PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6300010000050001a5f645400000000049454e44ae426082"
)


def asset_url(task: Task, asset: str, switches: Switches) -> str:
    """Where a file of a task can be read without the API key."""
    path = f"/v1/deepresearch/tasks/{task.deepresearch_id}/assets/{asset}"
    return f"{task.origin}{path}?{urlencode({'token': _token(path, switches)})}"


def pdf_url(task: Task, switches: Switches) -> str | None:
    """Where the report can be read as a PDF, if one was asked for."""
    if "pdf" not in task.settings.output_formats:
        return None
    if switches.pdf_url == "api":
        return f"{task.origin}/v1/deepresearch/tasks/{task.deepresearch_id}/pdf"
    path = f"/storage/pdfs/{task.deepresearch_id}.pdf"
    if switches.pdf_url == "storage":
        return f"{task.origin}{path}"
    return f"{task.origin}{path}?{urlencode({'signature': _token(path, switches)})}"


def _token(path: str, switches: Switches) -> str:
    lifetime = switches.url_lifetime
    until = "never" if lifetime is None else f"{time.time() + lifetime:.3f}"
    return f"{until}-{_mac(path, until)}"


def _mac(path: str, until: str) -> str:
    return hmac.new(_KEY, f"{path} {until}".encode(), hashlib.sha256).hexdigest()[:32]


def check_token(path: str, token: str) -> None:
    """Raises a 403 unless the token was made for this path and has not run out."""
    until, _, mac = token.partition("-")
    if not hmac.compare_digest(_mac(path, until).encode(), mac.encode()):
        raise Refusal(403, "Invalid token")
    if until != "never" and time.time() > float(until):
        raise Refusal(403, "Token expired")


def asset(name: str) -> Response:
    """The file of an asset: a chart, or a made-up deliverable."""
    if name.startswith("img_"):
        return Response(_PNG, media_type="image/png")
    if name.startswith("del_"):
        return Response(b"name,value\nexample,1\n", media_type="text/csv")
    raise Refusal(404, "Asset not found")


def pdf() -> Response:
    """A PDF without pages."""
    return Response(_PDF, media_type="application/pdf")
