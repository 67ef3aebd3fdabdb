"""Characters to token ids and back: positions in the sorted alphabet, and BOS after the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class UnknownCharacterError(ValueError):
    """A text holds characters that the model never saw."""


@dataclass(frozen=True)
class Tokenizer:
    """``chars`` is the sorted alphabet, one code point per token; ValueError if it is not."""

    chars: str

    def __post_init__(self) -> None:
        if not self.chars or list(self.chars) != sorted(set(self.chars)):
            raise ValueError("an alphabet is a sorted text without repeated characters, not empty")

    @classmethod
    def from_documents(cls, documents: Iterable[str]) -> Tokenizer:
        """The alphabet of all documents together."""
        return cls("".join(sorted(set().union(*documents))))

    @property
    def bos(self) -> int:
        """Id of the token that begins and ends every document."""
        return len(self.chars)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, BOS included."""
        return len(self.chars) + 1

    def encode_text(self, text: str) -> list[int]:
        """Ids of the characters alone. Raises UnknownCharacterError, naming each unknown one."""
        ids = {char: index for index, char in enumerate(self.chars)}
        unknown = sorted(set(text) - ids.keys())
        if unknown:
            names = ", ".join(repr(char) for char in unknown[:10])
            raise UnknownCharacterError(f"the model knows no {names}; it knows {self.chars!r}")
        return [ids[char] for char in text]

    def encode(self, document: str) -> list[int]:
        """BOS, the characters' ids, BOS."""
        return [self.bos, *self.encode_text(document), self.bos]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, BOS left out. Raises ValueError for an id outside the vocabulary."""
        if any(not 0 <= token < self.vocab_size for token in tokens):
            raise ValueError(f"token ids lie between 0 and {self.vocab_size - 1}")
        return "".join(self.chars[token] for token in tokens if token != self.bos)
