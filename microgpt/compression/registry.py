"""Compressors by name, or from a user's file; their options checked against their fields."""

from __future__ import annotations

from microgpt.compression.base import CompressionError, Compressor
from microgpt.compression.bf16 import BF16
from microgpt.compression.f16 import F16
from microgpt.compression.f32 import F32
from microgpt.compression.int8 import Int8
from microgpt.compression.onebit import OneBit
from microgpt.compression.powersgd import PowerSGD
from microgpt.compression.qsgd import QSGD
from microgpt.compression.randomk import RandomK
from microgpt.compression.sign import Sign
from microgpt.compression.topk import TopK
from microgpt.support import options

#: The compressors of this package, by the name for ``--compress``.
COMPRESSORS: dict[str, type[Compressor]] = {
    "f32": F32,
    "f16": F16,
    "bf16": BF16,
    "int8": Int8,
    "qsgd": QSGD,
    "sign": Sign,
    "onebit": OneBit,
    "topk": TopK,
    "randomk": RandomK,
    "powersgd": PowerSGD,
}

_METHODS = ("feedback", "init", "compress", "decompress", "size", "combine")


def load_compressor(spec: str) -> Compressor:
    """What ``NAME[:VALUE]`` or ``NAME[:KEY=VALUE,...]`` names, such as ``topk:0.01``.

    The name is one of ``COMPRESSORS``, or ``FILE.py:Class``; a user's file is run as the program
    that it is. Raises CompressionError.
    """
    return options.make("compressor", COMPRESSORS, spec, CompressionError, _METHODS)


def describe_compressor(compressor: Compressor) -> str:
    """The one full text of a compressor, from which ``load_compressor`` makes an equal one."""
    return options.describe(COMPRESSORS, compressor)
