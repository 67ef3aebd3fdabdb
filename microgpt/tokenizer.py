"""Characters to token ids and back: positions in the sorted alphabet, and BOS after the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property


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
        chars: set[str] = set()
        for document in documents:
            chars.update(document)
        return cls("".join(sorted(chars)))

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
        try:
            return list(map(self._ids.__getitem__, text))
        except KeyError:
            unknown = sorted(set(text) - self._ids.keys())
            names = ", ".join(repr(char) for char in unknown[:10])
            raise UnknownCharacterError(
                f"the model knows no {names}; it knows {self.chars!r}"
            ) from None

    def encode(self, document: str) -> list[int]:
        """BOS, the characters' ids, BOS."""
        return [self.bos, *self.encode_text(document), self.bos]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {char: index for index, char in enumerate(self.chars)}

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, BOS left out. Raises ValueError for an id outside the vocabulary."""
        if any(not 0 <= token < self.vocab_size for token in tokens):
            raise ValueError(f"token ids lie between 0 and {self.vocab_size - 1}")
        return "".join(self.chars[token] for token in tokens if token != self.bos)
