"""Files that results link to: their URLs, whose tokens can expire, and their content."""

import hashlib
import hmac
import secrets
from urllib.parse import urlencode

from starlette.responses import Response

from receiver.sandbox.clock import SandboxClock
from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import Panel
from receiver.sandbox.valyu.records import ValyuTask

# Made anew by each process, so that URLs of an earlier one are refused, as expired ones are.
_KEY = secrets.token_bytes(32)

_PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6300010000050001a5f645400000000049454e44ae426082"
)


def asset_url(task: ValyuTask, asset: str, panel: Panel) -> str:
    """Return the URL at which a file of a task can be read without the API key."""
    path = f"/v1/deepresearch/tasks/{task.deepresearch_id}/assets/{asset}"
    return f"{task.origin}{path}?{urlencode({'token': _token(path, panel)})}"


def pdf_url(task: ValyuTask, panel: Panel) -> str | None:
    """Return the URL of the report as a PDF, if the request wanted one."""
    if "pdf" not in task.settings.output_formats:
        return None
    if panel.switches.pdf_url == "api":
        return f"{task.origin}/v1/deepresearch/tasks/{task.deepresearch_id}/pdf"
    path = f"/storage/pdfs/{task.deepresearch_id}.pdf"
    if panel.switches.pdf_url == "storage":
        return f"{task.origin}{path}"
    return f"{task.origin}{path}?{urlencode({'signature': _token(path, panel)})}"


def _token(path: str, panel: Panel) -> str:
    lifetime = panel.switches.url_lifetime
    until = "never" if lifetime is None else f"{panel.clock.time() + lifetime:.3f}"
    return f"{until}-{_mac(path, until)}"


def _mac(path: str, until: str) -> str:
    return hmac.new(_KEY, f"{path} {until}".encode(), hashlib.sha256).hexdigest()[:32]


def check_token(path: str, token: str, clock: SandboxClock) -> None:
    """Refuse with a 403 a token that was made for another path or has expired."""
    until, _, mac = token.partition("-")
    if not hmac.compare_digest(_mac(path, until).encode(), mac.encode()):
        raise Refusal(403, "Invalid token")
    if until != "never" and clock.time() > float(until):
        raise Refusal(403, "Token expired")


def asset(name: str) -> Response:
    """Return the file of an asset: a chart, or a made-up deliverable."""
    if name.startswith("img_"):
        return Response(_PNG, media_type="image/png")
    if name.startswith("del_"):
        return Response(b"name,value\nexample,1\n", media_type="text/csv")
    raise Refusal(404, "Asset not found")


def pdf() -> Response:
    """Return a PDF without pages."""
    return Response(_PDF, media_type="application/pdf")
