"""A parser that reads requests as HTTP/1.1, whatever else they offer to speak."""

from typing import Protocol

import httptools

_OFFER = (b"upgrade", b"http2-settings")


class Collecting(Protocol):
    """The part that the parser needs of the protocol that collects the parts of a request."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class OfferlessParser:
    """Ignores an offer to go on with another protocol, as RFC 9110, 7.8 allows.

    Java's HttpClient and `curl --http2` send `Upgrade: h2c` with each first request. llhttp leaves
    off behind the head of such a request, so that its body would be lost: another one is given the
    head without the offer, and what follows. It has the methods of httptools' parser that uvicorn
    calls.
    """

    def __init__(self, protocol: Collecting) -> None:
        self._protocol = protocol
        self._parser = self._another()

    def _another(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self._protocol)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.should_upgrade = parser.should_upgrade
        self.should_keep_alive = parser.should_keep_alive
        self.get_method = parser.get_method
        self.get_http_version = parser.get_http_version
        return parser

    def feed_data(self, data: bytes) -> None:
        """Parse further bytes; raises HttpParserError where they are no HTTP."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.get_method() == b"CONNECT":
                    raise httptools.HttpParserInvalidMethodError("no proxy") from None
                data = self._head() + data[offer.args[0] :]
                self._parser = self._another()
            else:
                return

    def _head(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.get_method(), self._protocol.url, version)]
        for name, value in self._protocol.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _OFFER)
            if name not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])
