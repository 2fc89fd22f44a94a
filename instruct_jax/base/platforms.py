"""Which devices JAX looks for, where looking costs something.

Who plans for TPUs has libtpu on a machine without one. JAX then tries to start
it in every command, which takes a second and prints lines about hosts that
nobody has.
"""

import importlib.util
import os
import pathlib
import sys

_LIBRARY = "libtpu"
_GPUS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")
_MADE_BY_GOOGLE = "0x1ae0"  # a PCI device's vendor: TPUs, and some networks
_ASKED_FOR = ("JAX_PLATFORMS", "JAX_FORCE_TPU_INIT")


def settle(root: pathlib.Path = pathlib.Path("/")) -> None:
  """Tells JAX that there is a CPU alone, where libtpu is and no TPU can be.

  To be called before JAX has looked. `root` is where /dev and /sys are.
  """
  if importlib.util.find_spec(_LIBRARY) is None:
    return
  if any(importlib.util.find_spec(name) is not None for name in _GPUS):
    return
  if any(name in os.environ for name in _ASKED_FOR) or _may_have_tpu(root):
    return
  os.environ["JAX_PLATFORMS"] = "cpu"
  jax = sys.modules.get("jax")
  if jax is not None and jax.config.jax_platforms is None:
    jax.config.update("jax_platforms", "cpu")


def _may_have_tpu(root: pathlib.Path) -> bool:
  if [*root.glob("dev/accel*"), *root.glob("dev/vfio/[0-9]*")]:
    return True
  return any(
    path.read_text().strip() == _MADE_BY_GOOGLE
    for path in root.glob("sys/bus/pci/devices/*/vendor")
  )
