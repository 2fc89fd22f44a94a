"""Every test sees eight fake CPU devices, so sharding is tested everywhere."""

import os

# Programs here are tiny and compiled once: LLVM's expensive passes cost more
# than they save.
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_llvm_disable_expensive_passes=true"
)

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
