"""Evaluate: the chain's policies on what the paper measured, side by side.

Paper: sections 4.1 to 4.3, appendices D and E. Every set of `instruct_jax/sets`
whose files lie in the folder `config.measure.data`, as they were published;
what is not there is listed. `python -m instruct_jax.evaluate` does the same
with any runs and checkpoints. `:tiny` and `:test` speak the microworld's words
alone, so public sets, in words that it does not know, say nothing of them.

Hardware: as the sets and models are large; `:tiny` 2 CPU cores.

  python -m instruct_jax.main --config=experiments/evaluate.py:files \\
    --config.measure.data=DATA
"""

from experiments import common

DEFAULTS = {
  "needs.data": "dataset.py",
  "needs.gpt": "pretrain.py",
  "needs.sft": "select.py",
  "needs.ppo": "ppo.py",
  "needs.ppo_ptx": "ppo_ptx.py",
  "measure": {
    "sets": "",
    "data": "",
    "limit": 0,
    "template": "none",
    "options": "",
  },
}
VARIANTS = {
  "tiny": {},
  "test": {"measure.limit": 16},
  "files": {"measure.template": "own"},
} | {size: {"measure.template": "own"} for size in common.PAPER}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b."""
  return common.base("evaluate", variant, "evaluate", DEFAULTS, VARIANTS)
