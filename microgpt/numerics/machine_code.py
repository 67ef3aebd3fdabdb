"""Machine code for this processor: made from LLVM's instructions, kept as bytes, loaded, called."""

from __future__ import annotations

import ctypes
import platform
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

#: The C library's functions, under names that LLVM does not know: it would compute with what it
#: knows about them, and its results need not be those of the C library.
C_FUNCTIONS = {"c_exp": "exp", "c_log": "log", "c_pow": "pow"}


@cache
def _processor() -> tuple[str, str]:
    """Name and features, as LLVM spells them."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def features() -> Any:
    """``features().get(name)`` tells whether the processor has a feature."""
    return llvm.get_host_cpu_features()


def identity() -> str:
    """What machine code depends on beside the source."""
    return repr((llvmlite.__version__, platform.libc_ver(), *_processor()))


@cache
def _prepare() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    library = ctypes.CDLL(None)  # this process, which has loaded the C library
    for name, original in C_FUNCTIONS.items():
        function = getattr(library, original)
        llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)


def _target() -> Any:
    """What makes code for this processor: a new one, because whoever loads code keeps it."""
    _prepare()
    name, flags = _processor()
    target = llvm.Target.from_default_triple()
    # No contraction, ever: an addition and a multiplication in one has other bits.
    return target.create_target_machine(cpu=name, features=flags, opt=3, jit=True)


def made(text: str) -> bytes:
    """The machine code of a module, an object file, from LLVM's instructions as text."""
    machine = _target()
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    # Kernels say themselves what is a vector, and how far a loop is unrolled: more than the first
    # level makes none of them faster, and takes four times as long.
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    code: bytes = machine.emit_object(module)
    return code


class Loaded:
    """Machine code in memory, as long as this object lives."""

    def __init__(self, code: bytes, name: str) -> None:
        """Raises RuntimeError if these bytes are no object file with such a function."""
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self.address = self._engine.get_function_address(name)
        if not self.address:
            raise RuntimeError(f"there is no function {name}")
