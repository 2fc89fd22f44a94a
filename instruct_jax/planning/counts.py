"""What a compiled program computes and moves, a device, all loops counted.

FLOPs are those of products of matrices (dots, convolutions, and kernels that
say theirs), which are all that a chip's published rate is about. HBM bytes are
those that instructions outside of fusions read and write there: of what is
only sliced the slices, of what is updated in place the update, and nothing of
what lies in faster memory. Source of the rules: XLA's HloCostAnalysis.
"""

import dataclasses
import math
import re

from instruct_jax.planning import hlo, loops

_NOTHING = {
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while",
  "conditional", "call", "after-all", "partition-id", "replica-id",
  "copy-done", "slice-done", "async-done", "async-update", "all-gather-done",
  "all-reduce-done", "collective-permute-done", "send-done", "recv-done",
  "opt-barrier", "domain", "add-dependency",
}  # fmt: skip
_SLICES = ("dynamic-slice", "slice", "gather", "slice-start")
_VIEWS = ("bitcast", "reshape")
_NO_DATA = ('"AllocateBuffer"', '"ConcatBitcast"', '"AssumeGatherIndices')


@dataclasses.dataclass(frozen=True)
class Work:
  """Of one run of a program, a device."""

  flops: float
  hbm_bytes: float
  endless: tuple[str, ...]  # loops that count once: nobody knows better


def work(module: hlo.Module) -> Work:
  """The work of a program."""
  flops = moved = 0.0
  fused = _fused(module)
  for name, times in loops.times(module).items():
    if not times:
      continue
    lines = module.computations[name]
    for line in lines.values():
      flops += times * flops_of(line, lines)
      if name not in fused:
        moved += times * _moved(module, lines, line)
  return Work(flops, moved, tuple(loops.endless(module)))


def _fused(module: hlo.Module) -> set[str]:
  """Computations whose results in between are never in memory."""
  return {
    called
    for lines in module.computations.values()
    for line in lines.values()
    if line.opcode in ("fusion", "async-start")
    for called in line.calls.get("calls", ())
  }


# FLOPs.


def flops_of(line: hlo.Instruction, lines: dict) -> float:
  """Of the products of matrices that one instruction makes."""
  if line.opcode == "dot":
    left = lines[line.operands[0]].arrays[0].dims
    axes = re.findall(r"\d+", line.attribute("lhs_contracting_dims"))
    inner = math.prod(left[int(axis)] for axis in axes)
    return 2.0 * line.arrays[0].size * inner
  if line.opcode == "convolution":
    return _convolution(line, lines)
  if line.opcode == "custom-call":
    said = re.search(r'"cost_estimate":\{[^}]*"flops":"?(\d+)', line.rest)
    if said:
      return float(said[1])
    if "matmul" in line.attribute("custom_call_target"):
      left = lines[line.operands[0]].arrays[0].dims
      return 2.0 * line.arrays[0].size * left[-1]
  return 0.0


def _convolution(line, lines):
  """2 x outputs x what each is the sum of.

  A TPU's compiler makes convolutions of dots, with batch axes as space that
  is so dilated that each place meets one of the other side: pairs of places
  that do not meet are no work.
  """
  left, right = (lines[name].arrays[0].dims for name in line.operands[:2])
  labels = line.attribute("dim_labels")
  of_left, of_right, of_out = re.split(r"_|->", labels)
  window = _window(line)
  inner = right[of_right.index("i")]
  space = 1.0
  for n in range(len(window)):
    size_in = left[of_left.index(str(n))]
    size_out = line.arrays[0].dims[of_out.index(str(n))]
    space *= _meetings(size_in, size_out, window[n]) / size_out
  return 2.0 * line.arrays[0].size * inner * space


def _window(line):
  """{attribute: number} of each spatial axis of a convolution."""
  axes = sum(c.isdigit() for c in line.attribute("dim_labels").split("_")[0])
  text = line.attribute("window")
  found = [
    {"size": 1, "stride": 1, "low": 0, "lhs_dilate": 1, "rhs_dilate": 1}
    for _ in range(axes)
  ]
  for key, values in re.findall(r"(\w+)=([\d_x\-]+)", text):
    for n, value in enumerate(values.split("x")):
      if key == "pad":
        found[n]["low"] = int(value.partition("_")[0])
      elif n < axes:
        found[n][key] = int(value)
  return found


def _meetings(size_in, size_out, window):
  """How many pairs (output, tap) of an axis meet an input that is there."""
  reach = (size_in - 1) * window["lhs_dilate"] + 1
  count = 0
  for tap in range(window["size"]):
    offset = tap * window["rhs_dilate"] - window["low"]
    step = window["stride"]
    if window["lhs_dilate"] == 1:
      first = max(0, math.ceil(-offset / step))
      last = min(size_out - 1, (reach - 1 - offset) // step)
      count += max(0, last - first + 1)
    else:
      count += sum(
        0 <= (place := out * step + offset) < reach
        and place % window["lhs_dilate"] == 0
        for out in range(size_out)
      )
  return count


# Bytes.


def _moved(module, lines, line):
  """Bytes of HBM that an instruction reads and writes."""
  opcode = line.opcode
  if opcode in _NOTHING or any(x in line.rest[:200] for x in _NO_DATA):
    return 0
  if opcode == "copy-start":  # (to, from, context)
    return sum(_of_hbm(x) for x in line.arrays[:2])
  if opcode == "slice-start":  # (from, to, context): as much read as written
    return _there(lines, line.operands[0], line.arrays[1].bytes) + _of_hbm(
      line.arrays[1]
    )
  if opcode == "dynamic-update-slice":
    return 2 * _of_hbm(lines[line.operands[1]].arrays[0])
  if opcode in _SLICES:
    size = line.arrays[0].bytes
    return _there(lines, line.operands[0], size) + _of_hbm(line.arrays[0])
  if opcode.endswith("-start"):  # a collective: (in, out, ...)
    return sum(_of_hbm(x) for x in line.arrays[:2])
  if opcode == "fusion":
    return _fusion(module, lines, line)
  return sum(_of_hbm(x) for x in line.arrays) + sum(
    _of_hbm(x) for name in line.operands for x in _arrays(lines, name)
  )


def _of_hbm(array):
  return array.bytes if array.space == 0 else 0


def _arrays(lines, name):
  return lines[name].arrays if name in lines else ()


def _there(lines, name, size):
  """So many bytes, if what they are read from lies in HBM."""
  arrays = _arrays(lines, name)
  return size if arrays and arrays[0].space == 0 else 0


def _fusion(module, lines, line):
  name = line.calls["calls"][0]
  inside = module.computations[name]
  parameters = {
    int(x.operands[0]): x for x in inside.values() if x.opcode == "parameter"
  }
  read = 0
  for place, operand in enumerate(line.operands):
    whole = sum(_of_hbm(x) for x in _arrays(lines, operand))
    if whole and place in parameters:
      read += min(whole, _read(module, inside, parameters[place].name))
  root = module.root(name)
  ends = (
    [inside[x] for x in root.operands] if root.opcode == "tuple" else [root]
  )
  written = 0
  for array, end in zip(line.arrays, ends):
    written += _written(inside, array, end)
  return read + written


def _read(module, lines, name):
  """Bytes of a fusion's parameter that it reads."""
  whole, total = lines[name].arrays, 0
  size = sum(x.bytes for x in whole)
  for user in lines.values():
    if name not in user.operands:
      continue
    if user.opcode in _SLICES and user.operands[0] == name:
      total += user.arrays[0].bytes
    elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
      continue  # in place
    elif user.opcode in _VIEWS:
      total += _read(module, lines, user.name)
    elif user.opcode == "fusion":
      inside = module.computations[user.calls["calls"][0]]
      for place, operand in enumerate(user.operands):
        if operand == name:
          total += sum(
            _read(module, inside, x.name)
            for x in inside.values()
            if x.opcode == "parameter" and int(x.operands[0]) == place
          )
    else:
      return size
  return min(size, total)


def _written(lines, array, end):
  """Bytes of HBM that a result of a fusion takes."""
  while end.opcode in _VIEWS and end.operands[0] in lines:
    end = lines[end.operands[0]]
  if end.opcode == "dynamic-update-slice" and array.space == 0:
    return lines[end.operands[1]].arrays[0].bytes
  return _of_hbm(array)
