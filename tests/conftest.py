"""Every test sees eight fake CPU devices, so sharding is tested everywhere."""

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
