"""InstructGPT in JAX: pretraining, SFT, reward model, PPO and PPO-ptx."""

import sys

__version__ = "0.1.0"

# A command begins, `python -m instruct_jax.NAME`: Python calls it "-m" until it
# has found the module. From here on, before jax is imported, which takes
# seconds, Ctrl-C and closed streams do no harm.
if sys.argv[:1] == ["-m"]:
  from instruct_jax.base import interrupt, streams

  streams.prepare()
  interrupt.end_at_once()
