"""What goes to many is encoded once."""

from __future__ import annotations

import weakref

from microgpt.protocol import messages


class Encoder:
    """Encodes messages; the bytes of weights are kept as long as their message is in use."""

    def __init__(self) -> None:
        self._encoded: dict[int, bytes] = {}  # weights, by the identity of their message

    def encode(self, message: messages.Message) -> bytes:
        """The bytes of a message: for the same weights the same object."""
        if not isinstance(message, messages.Weights):
            return messages.encode(message)
        key = id(message)
        if key not in self._encoded:
            self._encoded[key] = messages.encode(message)
            weakref.finalize(message, self._encoded.pop, key, None).atexit = False
        return self._encoded[key]
