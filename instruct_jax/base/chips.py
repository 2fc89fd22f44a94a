"""Accelerators as their makers publish them: memory, rates, how many together.

Sources: cloud.google.com/tpu/docs (v5e, v5p, v6e), NVIDIA's data sheets of
the A100 80GB SXM, H100 SXM and H200 SXM. FLOPs are dense bfloat16. ICI rates of
TPUs are those of all links of a chip in one direction (v5e: 1,600 Gbps), of
GPUs NVLink's in one direction. DCN: a TPU chip's share of its pod's network; a
GPU's own adapter of 200 (A100) or 400 Gbps, as in the makers' own servers.
"""

import dataclasses

GIB = 2**30
GBPS = 1e9 / 8  # bytes a second


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator; rates are a second."""

  name: str
  device_kind: str  # as jax names it; '' of what is only estimated
  hbm_bytes: int  # that programs can have
  flops: float
  hbm_rate: float  # bytes
  ici_rate: float  # bytes
  dcn_rate: float  # bytes
  shapes: tuple[str, ...] = ()  # of slices that can be had; (): any number
  together: int = 0  # GPUs that NVLink joins; 0: a slice's chips all are


_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8",
          "8x8x8", "8x8x16", "8x16x16", "16x16x16", "16x16x24")  # fmt: skip

# What a TPU's programs can have is what its compiler says of it.
CHIPS = {
  chip.name: chip
  for chip in (
    Chip("v5e", "TPU v5 lite", 15 * GIB + 3 * GIB // 4, 197e12, 819e9,
         1600 * GBPS, 25 * GBPS, _FLAT),
    Chip("v5p", "TPU v5", int(95.74 * GIB), 459e12, 2765e9, 4800 * GBPS,
         50 * GBPS, _CUBES),
    Chip("v6e", "TPU v6 lite", 31 * GIB + GIB // 4, 918e12, 1638e9,
         3584 * GBPS, 100 * GBPS, _FLAT),
    Chip("a100-80gb", "", int(80e9), 312e12, 2039e9, 300e9, 200 * GBPS,
         together=8),
    Chip("h100", "", int(80e9), 989e12, 3350e9, 450e9, 400 * GBPS,
         together=8),
    Chip("h200", "", int(141e9), 989e12, 4800e9, 450e9, 400 * GBPS,
         together=8),
  )
}  # fmt: skip


def of_kind(device_kind: str) -> Chip | None:
  """The chip that jax calls so; None where it is not in the table."""
  kinds = {x.device_kind: x for x in CHIPS.values() if x.device_kind}
  return kinds.get(device_kind)
