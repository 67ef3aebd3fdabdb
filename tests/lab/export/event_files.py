"""Reads the files that TensorBoard reads: records with checksums, each an ``Event``."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event

POLYNOMIAL = 0x82F63B78  # of CRC-32C, its bits reversed


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def masked(data: bytes) -> int:
    """The checksum of a record, as the format of TFRecord files has it."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest = rest >> 8 ^ TABLE[(rest ^ byte) & 0xFF]
    rest ^= 0xFFFFFFFF
    return ((rest >> 15 | rest << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path: Path) -> Iterator[Any]:
    """The events of a file; AssertionError for a record that is damaged."""
    data = path.read_bytes()
    place = 0
    while place < len(data):
        header = data[place : place + 8]
        [length] = struct.unpack("<Q", header)
        record = data[place + 12 : place + 12 + length]
        sums = data[place + 8 : place + 12] + data[place + 12 + length : place + 16 + length]
        assert struct.unpack("<II", sums) == (masked(header), masked(record))
        place += 16 + length
        yield Event.FromString(record)


class EventFile:
    """``scalars[tag]``: pairs of a step and a value. ``texts[tag]``: likewise."""

    def __init__(self, folder: Path) -> None:
        [path] = folder.glob("events.out.tfevents.*")
        self.all = list(events(path))
        self.scalars: dict[str, list[tuple[int, float]]] = {}
        self.texts: dict[str, list[tuple[int, str]]] = {}
        self.tags: list[str] = []
        for event in self.all:
            for value in event.summary.value:
                self.tags.append(value.tag)
                if value.HasField("simple_value"):
                    told = (event.step, value.simple_value)
                    self.scalars.setdefault(value.tag, []).append(told)
                elif value.metadata.plugin_data.plugin_name == "text":
                    text = value.tensor.string_val[0].decode()
                    self.texts.setdefault(value.tag, []).append((event.step, text))
