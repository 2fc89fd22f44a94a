"""One program, compiled for devices that are not here, and what it takes."""

import hashlib
import logging
import re
import time
from typing import Any

import jax

from instruct_jax.parallel import layouts
from instruct_jax.planning import (
  collectives,
  counts,
  hlo,
  model_flops,
  programs,
  roofline,
  setting,
  stored,
  topology,
)

_log = logging.getLogger(__name__)

_REFUSED = (
  re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm"),
  re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])"),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def measure(
  name: str, given: setting.Setting, place: topology.Place
) -> dict[str, Any]:
  """What a program of `programs.PROGRAMS` takes on a device.

  Everything but 'model_flops', which is of all devices together, is of one.
  """
  with jax.set_mesh(given.ctx.mesh), place.standing_in():
    program = programs.PROGRAMS[name](given)
    lowered = program.function.lower(*program.arguments)
    said = _compiled(lowered, place)
  sizes = said["bytes"] | {"state_besides": _besides(given, program, said)}
  sizes["total"] = sum(sizes.values())
  sizes["hbm"] = place.chip.hbm_bytes
  result: dict[str, Any] = {
    "fits": not said["refused"] and sizes["total"] <= sizes["hbm"],
    "bytes": sizes,
    "model_flops": model_flops.of_program(name, given, program),
    "compile_seconds": said["seconds"],
  }
  if program.slots:
    result |= {"slots": program.slots, "rows": program.rows}
    result["from_copy"] = program.from_copy
  if said["refused"]:
    return result | {"refused": said["refused"]} | _NOTHING
  if not said["text"]:
    return result | _NOTHING
  return result | _work(
    *(said["text"], result["model_flops"], place, given.ctx.mesh),
    turns=program.turns,
  )


_NOTHING = dict.fromkeys(
  ("flops", "hbm_bytes", "collective_bytes", "ici_bytes", "dcn_bytes",
   "seconds", "mfu")
)  # fmt: skip


def _work(
  text: str,
  needed: float,
  place: topology.Place,
  mesh: jax.sharding.Mesh,
  *,
  turns: int,
) -> dict[str, Any]:
  """What a program computes, moves and sends, and how long that takes."""
  module = hlo.parse(text)
  work = counts.work(module)
  sent = collectives.traffic(module, place.slices_of(mesh))
  found: dict[str, Any] = {
    "flops": work.flops / turns,
    # Another compiler's, which joins less: it says nothing of a GPU.
    "hbm_bytes": None if place.is_estimate else work.hbm_bytes / turns,
    "ici_bytes": sent.ici_bytes / turns,
    "dcn_bytes": sent.dcn_bytes / turns,
  }
  times = roofline.seconds(place.chip, **found)
  taken = max(times.values())
  return found | {
    "collective_bytes": found["ici_bytes"] + found["dcn_bytes"],
    "collectives": {k: x / turns for k, x in sent.by_operation.items()},
    "seconds": taken,
    "seconds_of": times,
    "bound_by": roofline.bound(times),
    "mfu": roofline.mfu(place.chip, needed, place.chips, taken),
    "loops_counted_once": list(work.endless),
  }


def _besides(given, program, said):
  """Bytes of the run's state that the program is not given, or does not read.

  They lie in the same memory: a run holds its whole state at all times.
  """
  passed = layouts.device_bytes(program.arguments)
  unread = max(0, passed - said["bytes"]["arguments"])
  state = layouts.device_bytes(given.state)
  return state - layouts.device_bytes(program.state) + unread


def _compiled(lowered: Any, place: topology.Place) -> dict[str, Any]:
  """What the compiler says of a program, kept for the next time."""
  key = _key(lowered, place)
  kept = stored.read(key)
  if kept is not None:
    return kept
  start = time.monotonic()
  said: dict[str, Any] = {"text": "", "refused": ""}
  try:
    compiled = lowered.compile()
    said |= {"text": _text(compiled), "bytes": _bytes(compiled)}
  except jax.errors.JaxRuntimeError as error:
    said |= refusal(str(error))
    if not said["refused"]:
      raise
  said["seconds"] = round(time.monotonic() - start, 1)
  stored.write(key, said)
  return said


def _text(compiled: Any) -> str:
  """The program as it is printed; '' where jax cannot read it.

  jaxlib 0.10.2 refuses some that libtpu 0.0.52 makes of large programs
  ("async-update instruction should have 1 operands"): of such memory is known,
  and nothing else.
  """
  try:
    return compiled.as_text()
  except jax.errors.JaxRuntimeError as error:
    _log.warning("cannot be read: %s", str(error).partition("\n")[0][:200])
    return ""


def _bytes(compiled: Any) -> dict[str, int]:
  needs = compiled.memory_analysis()
  return {
    "arguments": needs.argument_size_in_bytes,
    "outputs": needs.output_size_in_bytes - needs.alias_size_in_bytes,
    "temporaries": needs.temp_size_in_bytes,
    "code": needs.generated_code_size_in_bytes,
  }


def refusal(message: str) -> dict[str, Any]:
  """What a compiler says that a program would have needed; {} of other
  errors."""
  if "RESOURCE_EXHAUSTED" not in message:
    return {"refused": ""}
  sizes = {"arguments": 0, "outputs": 0, "temporaries": 0, "code": 0}
  for pattern in _REFUSED:
    if found := pattern.search(message):
      sizes["temporaries"] = int(float(found[1]) * _UNITS[found[2]])
      break
  first = message.splitlines()[0][:200]
  return {"refused": first, "bytes": sizes}


def _key(lowered: Any, place: topology.Place) -> str:
  """Names all that a compiled program depends on."""
  text = lowered.as_text()
  bounds = re.findall(r"at_most_\d+", lowered.as_text(debug_info=True))
  parts = (text, str(bounds), place.name, str(place.slices), place.versions)
  return hashlib.sha256("\n".join(parts).encode()).hexdigest()
