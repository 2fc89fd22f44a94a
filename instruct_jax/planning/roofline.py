"""How long a program takes at least, by what its chip can do in a second.

Williams, Waterman & Patterson 2009, "Roofline": products of matrices, memory
and networks work side by side, and the slowest of them decides.
"""

from typing import Any

from instruct_jax.base import chips


def seconds(
  chip: chips.Chip,
  *,
  flops: float,
  hbm_bytes: float | None,
  ici_bytes: float,
  dcn_bytes: float,
) -> dict[str, float]:
  """{what: its seconds} of one run, of a device's share of the work.

  What is not known (None) is left out.
  """
  times = {
    "flops": flops / chip.flops,
    "ici": ici_bytes / chip.ici_rate,
    "dcn": dcn_bytes / chip.dcn_rate,
  }
  if hbm_bytes is not None:
    times["hbm"] = hbm_bytes / chip.hbm_rate
  return times


def mfu(
  chip: chips.Chip, model_flops: float, devices: int, taken: float
) -> float | None:
  """Model FLOPs utilisation (Chowdhery et al. 2022, appendix B), 0 to 1."""
  return model_flops / (taken * devices * chip.flops) if taken else None


def bound(times: dict[str, Any]) -> str:
  """What decides."""
  return max(times, key=lambda name: times[name])
