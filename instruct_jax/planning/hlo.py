"""Reads the text of an optimised XLA program: computations and instructions.

Shapes are those of one device. Source: the printed form of openxla/xla's HLO.
"""

import dataclasses
import math
import re

# Bits of an element; what is left out (token, opaque) has none.
_BITS = {
  "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
  "bf16": 16, "f16": 16, "s32": 32, "u32": 32, "f32": 32, "s64": 64,
  "u64": 64, "f64": 64, "c64": 64, "c128": 128, "f8e4m3fn": 8, "f8e5m2": 8,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_LINE = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(
  r"(calls|body|condition|to_apply|branch_computations)=(\{[^}]*\}|%[\w.\-]+)"
)
_VALUE = "|".join(
  (
    r"\{(?:[^{}]|\{[^}]*\})*\}",
    r"mesh\[[^\]]*\]",
    r"\[[\d,]+\]<=\[[\d,]+\](?:T\([\d,]+\))?",
    r"[^,\s]+",
  )
)
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Array:
  """An array's shape on a device."""

  dtype: str
  dims: tuple[int, ...]
  space: int = 0  # of memory; 0 is the device's own (HBM)

  @property
  def size(self) -> int:
    """Elements."""
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    """Bytes without the padding of a layout."""
    return -(-self.size * _BITS.get(self.dtype, 0) // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation."""

  name: str
  opcode: str
  arrays: tuple[Array, ...]  # the result's, a tuple's one after the other
  operands: tuple[str, ...]  # names; of a constant or a parameter its text
  calls: dict[str, tuple[str, ...]]  # {"body": names of computations, ...}
  rest: str  # what follows the operands
  is_root: bool

  @property
  def op_name(self) -> str:
    """What it came of, as jit(f)/while/body/dot_general."""
    found = _OP_NAME.search(self.rest)
    return found[1] if found else ""

  def attribute(self, name: str) -> str:
    """The text of an attribute, with the commas in its brackets; '' of none."""
    found = re.search(rf"\b{name}=({_VALUE})", self.rest)
    return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Module:
  """A program: its computations by name, each its instructions by name."""

  computations: dict[str, dict[str, Instruction]]
  entry: str

  def root(self, computation: str) -> Instruction:
    """The instruction whose result is that of the computation."""
    lines = self.computations[computation].values()
    return next(x for x in lines if x.is_root)


def parse(text: str) -> Module:
  """The module that a compiled program's `as_text` prints."""
  computations, entry, current = {}, "", None
  for line in text.splitlines():
    if current is None:
      head = _HEAD.match(line)
      if head and " = " not in line.partition("->")[0]:
        current = computations.setdefault(head[2], {})
        entry = head[2] if head[1] else entry
    elif line.startswith("}"):
      current = None
    elif found := _LINE.match(line):
      one = _instruction(found[2], found[3], bool(found[1]))
      current[one.name] = one
  return Module(computations, entry)


def _instruction(name, text, is_root):
  shape, text = _split(text)
  opcode, _, _ = text.partition("(")
  inside, rest = _split(text[len(opcode) :])
  opcode = opcode.strip()
  operands = tuple(_NAME.findall(inside))
  if opcode in ("parameter", "constant"):
    operands = (inside[1:-1],)
  return Instruction(
    name=name,
    opcode=opcode,
    arrays=arrays_of(shape),
    operands=operands,
    calls={
      kind: tuple(_NAME.findall(names)) for kind, names in _CALLED.findall(rest)
    },
    rest=rest,
    is_root=is_root,
  )


def _split(text: str) -> tuple[str, str]:
  """A text in parentheses, or up to the first space, and what follows it."""
  if not text.startswith("("):
    first, _, rest = text.partition(" ")
    return first, rest
  depth = 0
  for place, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if not depth:
      return text[: place + 1], text[place + 1 :].lstrip()
  return text, ""


def arrays_of(shape: str) -> tuple[Array, ...]:
  """The arrays of a printed shape."""
  found = []
  for dtype, dims, layout in _ARRAY.findall(shape):
    if dtype not in _BITS:
      continue
    sizes = tuple(int(d.removeprefix("<=")) for d in dims.split(",") if d)
    space = re.search(r"S\((\d+)\)", layout)
    found.append(Array(dtype, sizes, int(space[1]) if space else 0))
  return tuple(found)
