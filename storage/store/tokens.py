"""Access for programs."""

from collections.abc import Sequence

from storage import (
    tokens,
)
from storage.store.base import Base
from storage.tokens import NewToken, TokenRow, TokenView


class Tokens(Base):
    """Access for programs."""

    def create_token(
        self, name: str, scopes: Sequence[str], *, source: str | None = None
    ) -> NewToken:
        """Make a token; its text is told here and never again."""
        return self.database.write(
            lambda c: tokens.create(c, name=name, scopes=scopes, source=source, now=self.now())
        )

    def find_token(self, text: str) -> TokenView | None:
        """The token with this text if it is valid, or None."""
        with self.database.read() as connection:
            return tokens.find(connection, text)

    def list_tokens(self) -> list[TokenRow]:
        """All tokens, newest first; their texts are not kept."""
        with self.database.read() as connection:
            return tokens.list_all(connection)

    def revoke_token(self, token_id: int) -> None:
        """Let a token open nothing from now on; raises NotFound."""
        self.database.write(lambda c: tokens.revoke(c, token_id, now=self.now()))
