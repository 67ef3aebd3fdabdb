"""Arithmetic to the bit: the C library's functions in SIMD, compilation, vectors."""
