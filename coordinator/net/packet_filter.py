"""Packet filters on TCP sockets that a library owns: how many bytes a connection may bring.

The library reads all that comes, as fast as it can, and whoever looks at the connections now and
then finds out too late on a busy machine. So the system itself drops what goes beyond a limit. TCP
sends that again, after 0.2 s and more, until the limit has been raised.

A filter is a program for the kernel's classic BPF (Linux: networking/filter.rst), which sees a TCP
packet from its header on. Programs keep no state, so a limit is an absolute sequence number; the
first one of a connection is in the packet that opened it, which Linux keeps if asked to.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import TypeAlias

from microgpt.support.tcp import borrowed

#: Linux's numbers; Python does not name them.
SO_ATTACH_FILTER = 26
TCP_SAVE_SYN, TCP_SAVED_SYN = 27, 28
MOST_HEADERS = 256  # bytes
IPV6_BYTES, IPV6_NEXT = 40, 6  # an IPv6 header, and where it says what follows
SEQUENCE_NUMBERS = 1 << 32
#: Bytes in a packet of a connection whose limit has not been set yet.
GREETING_BYTES = 1 << 10

#: Code, where to go on if a comparison is true and if not (relative), operand.
Instruction: TypeAlias = tuple[int, int, int, int]

PASS: Instruction = (0x06, 0, 0, 0xFFFFFFFF)
DROP: Instruction = (0x06, 0, 0, 0)
#: Leaves the number of bytes after the header.
PAYLOAD: tuple[Instruction, ...] = (
    (0x30, 0, 0, 12),  # load the byte whose upper half is the header's length in words
    (0x74, 0, 0, 4),  # shift right
    (0x64, 0, 0, 2),  # shift left
    (0x07, 0, 0, 0),  # move to the second register
    (0x80, 0, 0, 0),  # load the packet's length
    (0x1C, 0, 0, 0),  # subtract the second register
)


def nothing() -> tuple[Instruction, ...]:
    """Drop every packet."""
    return (DROP,)


def everything() -> tuple[Instruction, ...]:
    """Drop no packet."""
    return (PASS,)


def short_packets() -> tuple[Instruction, ...]:
    """Drop packets of more than ``GREETING_BYTES``."""
    return (*PAYLOAD, (0x25, 1, 0, GREETING_BYTES), PASS, DROP)


def until(limit: int) -> tuple[Instruction, ...]:
    """Drop packets with bytes whose sequence number is ``limit`` or more, modulo 2**32."""
    return (
        *PAYLOAD,
        (0x15, 5, 0, 0),  # without bytes: pass
        (0x07, 0, 0, 0),
        (0x20, 0, 0, 4),  # load the sequence number
        (0x0C, 0, 0, 0),  # add the bytes
        (0x14, 0, 0, (limit + 1) % SEQUENCE_NUMBERS),  # "negative" if the limit is kept
        (0x35, 0, 1, SEQUENCE_NUMBERS // 2),
        PASS,
        DROP,
    )


def attach(descriptor: int, program: tuple[Instruction, ...]) -> bool:
    """Filter what comes from now on, over this socket or those that it accepts.

    False if the system cannot, or if the descriptor is no open socket (any more).
    """
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    option = struct.pack("@HP", len(program), ctypes.addressof(memory))
    try:
        with borrowed(descriptor) as connection:
            connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)
    except OSError:
        return False
    return True


def keep_beginnings(listener: int) -> bool:
    """Let the system keep the first packet of each connection to come. False if it cannot.

    It keeps none either where it is flooded with them and answers with SYN cookies.
    """
    try:
        with borrowed(listener) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
    except OSError:
        return False
    return True


def first_sequence_number(descriptor: int) -> int | None:
    """That of a connection's first byte. None if the system has not kept it, or told already."""
    try:
        with borrowed(descriptor) as connection:
            packet = connection.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, MOST_HEADERS)
    except OSError:
        return None
    if not packet:
        return None
    header = IPV6_BYTES
    if packet[0] >> 4 == 4:
        header = (packet[0] & 0xF) * 4
    elif packet[IPV6_NEXT] != socket.IPPROTO_TCP:
        return None  # with extensions, which nobody uses here
    try:
        (number,) = struct.unpack_from("!I", packet, header + 4)
    except struct.error:
        return None
    return int(number + 1) % SEQUENCE_NUMBERS
