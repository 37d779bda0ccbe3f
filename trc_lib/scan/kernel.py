"""Scans as machine code: a `Program` for one step, compiled by LLVM into a loop over time.

``LANES`` problems go through the loop side by side, in the vector registers of the processor.
"""

import ctypes
import functools
import struct
import sys

import llvmlite.binding as llvm
import torch
from torch import Tensor

from trc_lib.scan.trace import Program

LANES = 8
KINDS = {torch.float64: ("double", "f64"), torch.float32: ("float", "f32")}

ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
COMPARISONS = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
LOGIC = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor"}
INTRINSICS = {"abs": "fabs", "round": "rint"} | {name: name for name in (
    "sqrt exp log sin cos tan asin acos atan sinh cosh tanh floor ceil pow atan2 maximum "
    "minimum").split()}
LIBM = ("exp log sin cos tan asin acos atan sinh cosh tanh floor ceil pow atan2 log1p expm1 "
        "erf hypot fmod rint").split()

# %table has an address, and strides of the batch and of time, for each tensor.
LOOP = """
define void @run(ptr %table, i64 %steps, i64 %problems, i64 %first, i64 %last, i64 %reverse) {{
entry:
{entry}
  %backwards = icmp ne i64 %reverse, 0
  %origin = select i1 %backwards, i64 %steps, i64 0
  %final_step = sub i64 %steps, 1
  %final_problem = sub i64 %problems, 1
  %some = icmp slt i64 %first, %last
  br i1 %some, label %tile, label %end
tile:
  %t = phi i64 [ %first, %entry ], [ %next_tile, %tile_end ]
{tile}
  br label %check
check:
  %i = phi i64 [ 0, %tile ], [ %next, %body ]
  %left = icmp slt i64 %i, %steps
  br i1 %left, label %body, label %tile_end
body:
  %mirrored = sub i64 %final_step, %i
  %k = select i1 %backwards, i64 %mirrored, i64 %i
  %after = add i64 %k, 1
  %to = select i1 %backwards, i64 %k, i64 %after
{step}
  %next = add i64 %i, 1
  br label %check
tile_end:
  %next_tile = add i64 %t, 1
  %more = icmp slt i64 %next_tile, %last
  br i1 %more, label %tile, label %end
end:
  ret void
}}
"""


class Kernel:
    """A compiled scan.

    Args:
        program: of one step: from carry, inputs and constants to carry and outputs.
        sizes: of how many numbers each carry, input, constant and output is, four lists.
        dtype: float32 or float64.
    """

    def __init__(self, program: Program, sizes: list[list[int]], dtype: torch.dtype):
        self.text = _Text(program, sizes, dtype).text
        self._engine, self._run = _compiled(self.text)

    def __call__(self, tensors: list[Tensor], steps: int, problems: int, reverse: bool,
                 first: int, last: int) -> None:
        """Run over time for the tiles ``first`` to ``last``, of `LANES` problems each.

        Args:
            tensors: the histories of the carry, inputs, constants and outputs, all
                ``[batch, time, ...]``, the last dimensions without gaps. The histories have their
                first moment (their last, in reverse); they and the outputs are written.
        """
        table = [number for each in tensors
                 for number in (each.data_ptr(), each.stride(0), each.stride(1))]
        self._run((ctypes.c_int64 * len(table))(*table), steps, problems, first, last, int(reverse))


class _Text:
    """The loop in LLVM's language.

    Lanes without a problem take the last one, and write the same numbers as its own lane.
    """

    def __init__(self, program, sizes, dtype):
        self.number, self.suffix = KINDS[dtype]
        self.vector, self.mask = f"<{LANES} x {self.number}>", f"<{LANES} x i1>"
        self.lines, self.names, self.declared, self.counter = [], {}, {}, 0
        carried, given, constant, put = sizes
        flat = [*carried, *given, *constant, *put]
        self.table = [[self._entry(3 * i + j) for j in range(3)] for i in range(len(flat))]
        for j in range(sum(carried)):
            self._line(f"%carried{j} = alloca {self.vector}")
        entry = self._taken()

        tiles = self._value(f"mul i64 %t, {LANES}")
        lanes = []
        for lane in range(LANES):
            mine = self._value(f"add i64 {tiles}, {lane}")
            there = self._value(f"icmp slt i64 {mine}, %problems")
            lanes.append(self._value(f"select i1 {there}, i64 {mine}, i64 %final_problem"))
        self.offsets = [[self._value(f"mul i64 {lane}, {row[1]}") for lane in lanes]
                        for row in self.table]
        places = [(i, j) for i, size in enumerate(flat) for j in range(size)]
        first, second, third = sum(carried), sum(carried + given), sum(carried + given + constant)
        for slot in range(first):
            value = self._load(*places[slot], "%origin")
            self._line(f"store {self.vector} {value}, ptr %carried{slot}")
        for slot in range(second, third):
            self.names[slot] = self._load(*places[slot], "0"), True
        for slot, value in program.constants.items():
            self.names[slot] = self._literal(value), True
        tile = self._taken()

        for slot in range(first):
            self.names[slot] = self._value(f"load {self.vector}, ptr %carried{slot}"), True
        for slot in range(first, second):
            self.names[slot] = self._load(*places[slot], "%k"), True
        for slot, name, operands in program.operations:
            self.names[slot] = self._operation(name, operands)
        results = [self._float(slot) for slot in program.results]
        for j, value in enumerate(results[:first]):
            self._line(f"store {self.vector} {value}, ptr %carried{j}")
            self._store(value, *places[j], "%to")
        for place, value in zip(places[third:], results[first:]):
            self._store(value, *place, "%k")
        loop = LOOP.format(entry=entry, tile=tile, step=self._taken())
        self.text = "\n".join([*self.declared.values(), loop])

    def _entry(self, i):
        place = self._value(f"getelementptr i64, ptr %table, i64 {i}")
        return self._value(f"load i64, ptr {place}")

    def _taken(self):
        text, self.lines = "\n".join(self.lines), []
        return text

    def _line(self, text):
        self.lines.append(f"  {text}")

    def _value(self, text):
        self.counter += 1
        self._line(f"%v{self.counter} = {text}")
        return f"%v{self.counter}"

    def _literal(self, value):
        if self.number == "float":
            value = struct.unpack("f", struct.pack("f", value))[0] if abs(value) < 3.5e38 else value
        bits = struct.unpack("<Q", struct.pack("<d", value))[0]
        return f"splat ({self.number} 0x{bits:016X})"

    def _addresses(self, tensor, component, moment):
        """Where the number of each lane is."""
        address, _, stride = self.table[tensor]
        at = self._value(f"mul i64 {moment}, {stride}")
        at = self._value(f"add i64 {at}, {component}")
        base = self._value(f"inttoptr i64 {address} to ptr")
        base = self._value(f"getelementptr {self.number}, ptr {base}, i64 {at}")
        for offset in self.offsets[tensor]:
            yield self._value(f"getelementptr {self.number}, ptr {base}, i64 {offset}")

    def _load(self, tensor, component, moment):
        found = "poison"
        for lane, address in enumerate(self._addresses(tensor, component, moment)):
            value = self._value(f"load {self.number}, ptr {address}")
            found = self._value(f"insertelement {self.vector} {found}, {self.number} {value}, "
                                f"i32 {lane}")
        return found

    def _store(self, vector, tensor, component, moment):
        for lane, address in enumerate(self._addresses(tensor, component, moment)):
            value = self._value(f"extractelement {self.vector} {vector}, i32 {lane}")
            self._line(f"store {self.number} {value}, ptr {address}")

    def _float(self, slot):
        name, is_number = self.names[slot]
        one, zero = (f"{self.vector} {self._literal(value)}" for value in (1.0, 0.0))
        return name if is_number else self._value(f"select {self.mask} {name}, {one}, {zero}")

    def _truth(self, slot):
        name, is_number = self.names[slot]
        zero = self._literal(0.0)
        return self._value(f"fcmp une {self.vector} {name}, {zero}") if is_number else name

    def _operation(self, name, operands):
        """The value of an operation, and whether it is a number."""
        if name in LOGIC:
            first, second = map(self._truth, operands)
            return self._value(f"{LOGIC[name]} {self.mask} {first}, {second}"), False
        if name == "logical_not":
            truth = self._truth(operands[0])
            return self._value(f"xor {self.mask} {truth}, splat (i1 true)"), False
        if name == "where":
            which, values = self._truth(operands[0]), map(self._float, operands[1:])
            first, second = (f"{self.vector} {value}" for value in values)
            return self._value(f"select {self.mask} {which}, {first}, {second}"), True
        values = [self._float(slot) for slot in operands]
        if name in COMPARISONS:
            return self._value(f"fcmp {COMPARISONS[name]} {self.vector} {', '.join(values)}"), False
        if name in ARITHMETIC:
            return self._value(f"{ARITHMETIC[name]} {self.vector} {', '.join(values)}"), True
        if name == "neg":
            return self._value(f"fneg {self.vector} {values[0]}"), True
        if name in INTRINSICS:
            function = f"@llvm.{INTRINSICS[name]}.v{LANES}{self.suffix}"
            return self._call(function, self.vector, values), True
        function = f"@{name}" + ("f" if self.number == "float" else "")  # of the C library
        found = "poison"
        for lane in range(LANES):
            lane_values = [self._value(f"extractelement {self.vector} {value}, i32 {lane}")
                           for value in values]
            result = self._call(function, self.number, lane_values)
            found = self._value(f"insertelement {self.vector} {found}, {self.number} {result}, "
                                f"i32 {lane}")
        return found, True

    def _call(self, function, kind, values):
        kinds = ", ".join([kind] * len(values))
        self.declared[function] = f"declare {kind} {function}({kinds})"
        given = ", ".join(f"{kind} {value}" for value in values)
        return self._value(f"call {kind} {function}({given})")


@functools.cache
def _target():
    """The kind of this processor; the mathematical functions of the C library are named to LLVM."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    library = ctypes.CDLL({"win32": "ucrtbase", "darwin": "libSystem.dylib"}.get(
        sys.platform, "libm.so.6"))
    for name in (*LIBM, *(f"{name}f" for name in LIBM)):
        llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    return llvm.Target.from_default_triple(), llvm.get_host_cpu_name(), (
        llvm.get_host_cpu_features().flatten())


@functools.lru_cache(maxsize=128)
def _compiled(text):
    """The engine, which must live as long as the function, and the function."""
    target, cpu, features = _target()
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3, jit=True)
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    llvm.create_pass_builder(machine, options).getModulePassManager().run(
        module, llvm.create_pass_builder(machine, options))
    engine = llvm.create_mcjit_compiler(module, machine)  # which owns the machine from now on
    engine.finalize_object()
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 5)
    return engine, prototype(engine.get_function_address("run"))
