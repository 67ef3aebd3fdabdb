"""What goes to many is encoded once."""

from __future__ import annotations

import weakref

from microgpt.protocol import messages


class Encoder:
    """Encodes messages; the bytes of weights are kept as long as their message is in use."""

    def __init__(self) -> None:
        #: Weights by the identity of their message, which is told here when it is in use no more.
        self._encoded: dict[int, tuple[bytes, weakref.ref[messages.Weights]]] = {}

    def encode(self, message: messages.Message) -> bytes:
        """The bytes of a message: for the same weights the same object."""
        if not isinstance(message, messages.Weights):
            return messages.encode(message)
        key, kept = id(message), self._encoded
        if key not in kept:
            end = weakref.ref(message, lambda _: kept.pop(key, None))
            kept[key] = messages.encode(message), end
        return kept[key][0]
