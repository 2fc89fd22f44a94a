"""How often the loops of a compiled program turn, and so its computations.

XLA's own counts (`cost_analysis`) take a loop's body once, and a compiler for
TPUs prints no trip counts. Most are read off conditions and bodies; where the
end depends on the data, the loop says how far it may go by the scope that it
stands in (`slices.loop`).
"""

import re
from collections.abc import Iterator

from instruct_jax.planning import hlo

_BOUND = re.compile(r"at_most_(\d+)[^/]*/while$")
_KNOWN = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_SAME = ("copy", "bitcast", "copy-start", "copy-done")

Lines = dict[str, hlo.Instruction]


def times(module: hlo.Module) -> dict[str, int]:
  """{computation: how often it is run}; all branches count as taken.

  Those that an instruction applies to each element are not run by themselves:
  0.
  """
  counts = dict.fromkeys(module.computations, 0)
  stack = [(module.entry, 1)]
  while stack:
    name, count = stack.pop()
    counts[name] += count
    for one in module.computations[name].values():
      stack += _called(module, name, one, count)
  return counts


def _called(
  module: hlo.Module, computation: str, line: hlo.Instruction, count: int
) -> Iterator[tuple[str, int]]:
  if line.opcode == "while":
    found = turns(module, computation, line)
    count *= 1 if found is None else found
  kinds = ["calls", "body", "branch_computations"]
  kinds += ["to_apply"] if line.opcode == "call" else []
  for kind in kinds:
    yield from ((one, count) for one in line.calls.get(kind, ()) if count)


def endless(module: hlo.Module) -> list[str]:
  """Loops of which nothing says how often they turn: they count once."""
  return [
    line.op_name or line.name
    for name, count in times(module).items()
    for line in module.computations[name].values()
    if count and line.opcode == "while" and turns(module, name, line) is None
  ]


def turns(
  module: hlo.Module, computation: str, loop: hlo.Instruction
) -> int | None:
  """How often the body of a while loop is run; None: nothing says it.

  What is known is exact; a bound is the most.
  """
  if known := _KNOWN.search(loop.rest):
    return int(known[1])
  counted = _Loop(module, computation, loop).turns()
  if counted is not None:
    return counted
  bound = _BOUND.search(loop.op_name)
  return int(bound[1]) if bound else None


class _Loop:
  """`for (i = start; i < stop; i += step)`, if a loop is of that form."""

  def __init__(self, module, computation, loop):
    (condition,), (body,) = loop.calls["condition"], loop.calls["body"]
    self.module, self.loop = module, loop
    self.outside = module.computations[computation]
    self.condition = module.computations[condition]
    self.body = module.computations[body]
    self.test, self.end = module.root(condition), module.root(body)

  def turns(self) -> int | None:
    """As `turns`; None where the loop is of another form."""
    direction = self.test.attribute("direction")
    if self.test.opcode != "compare" or direction not in ("LT", "LE"):
      return None
    index = _element(self.condition, self.test.operands[0])
    if index is None or self.end.opcode != "tuple":
      return None
    start, step = self._entering(index), self._step(index)
    stop = self._stop(self.test.operands[1])
    if start is None or stop is None or not step or step < 0:
      return None
    return max(0, -(-(stop + (direction == "LE") - start) // step))

  def _stop(self, name):
    """A constant of the condition, or one that the loop is entered with."""
    index = _element(self.condition, name)
    if index is None:
      return _constant(self.condition, name)
    is_kept = _element(self.body, self.end.operands[index]) == index
    return self._entering(index) if is_kept else None

  def _entering(self, index):
    """The number that the loop's state begins with at `index`."""
    state = _origin(self.outside, self.loop.operands[0])
    if state is None or state.opcode != "tuple":
      return None
    return _constant(self.outside, state.operands[index])

  def _step(self, index):
    """What a turn adds to an element of the loop's state, if a constant."""
    lines, added = self.body, _origin(self.body, self.end.operands[index])
    if added is not None and added.opcode == "fusion":
      name = added.calls["calls"][0]
      inner = self.module.computations[name]
      given = {
        x.name: _origin(lines, added.operands[int(x.operands[0])])
        for x in inner.values()
        if x.opcode == "parameter"
      }
      lines = {**inner, **{k: x for k, x in given.items() if x is not None}}
      added = self.module.root(name)
    if added is None or added.opcode != "add":
      return None
    one, other = added.operands
    if _element(lines, one) == index:
      return _constant(lines, other)
    return _constant(lines, one) if _element(lines, other) == index else None


def _origin(lines: Lines, name: str) -> hlo.Instruction | None:
  """The line that a name is a copy of."""
  line = lines.get(name)
  while line is not None and line.opcode in _SAME:
    line = lines.get(line.operands[0])
  return line


def _element(lines: Lines, name: str) -> int | None:
  """Which element of the loop's state a name is."""
  line = _origin(lines, name)
  if line is None or line.opcode != "get-tuple-element":
    return None
  return int(line.attribute("index"))


def _constant(lines: Lines, name: str) -> int | None:
  """The whole number that a name is."""
  line = _origin(lines, name)
  if line is None or line.opcode != "constant":
    return None
  text = line.operands[0]
  return int(text) if re.fullmatch(r"-?\d+", text) else None
