"""The data and its tokenizer, which every other experiment needs.

`:tiny` and `:test` build the microworld (TFDS, ArrayRecord); `:files` checks
your own files and trains a SentencePiece tokenizer on your text.

Paper: section 3.2, appendix A. Hardware: any; `:tiny` takes seconds.

  python -m instruct_jax.main --config=experiments/dataset.py
"""

from experiments import common

VARIANTS = {name: {} for name in (*common.SMALL, *common.PAPER)}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, and the paper's (your files, its lengths)."""
  config = common.base("dataset", variant, "dataset", {}, VARIANTS).unlock()
  del config.seed  # The world's own seed is config.data.world_seed.
  return config.lock()
