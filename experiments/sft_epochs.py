"""SFT for as many epochs as in the paper: loss, reward and preference by epoch.

Paper: appendix C.1: SFT for 16 epochs overfits in validation loss after the
first, "despite which" reward-model score and human preference ratings go on
improving, so the final model is picked by the former. Of every epoch: loss of
validation demonstrations, mean score of the reward model, Likert and how often
labelers prefer it to the first epoch, on validation prompts
(`config.selection`); the table `epochs` of results.json.

  sft-tiny-epochs    `sft.py`, but for as many epochs
  sft_epochs-tiny    what is measured of them

Hardware: `:tiny` 2 CPU cores, about a minute after `rm.py`. Expected for
`:tiny`: loss lowest after an epoch or two, a reward that is highest later.

  python -m instruct_jax.main --config=experiments/sft_epochs.py
"""

from ml_collections import ConfigDict

from experiments import common, select, sft
from instruct_jax import paper

DEFAULTS = {
  "needs.data": "dataset.py",
  "needs.policy": "sft_epochs.py:sft-{variant}",
  "needs.reward": "rm.py",
  "selection": select.DEFAULTS["selection"],
}
VARIANTS = {name: select.VARIANTS[name] for name in ("tiny", "test")}
EPOCHS = {"tiny": paper.SFT["6b"].epochs, "test": 3}
_SFT = "sft-"


def get_config(variant="tiny"):
  """Variants: tiny, test; sft-tiny, sft-test of the run that is measured."""
  if variant.startswith(_SFT) and variant.removeprefix(_SFT) in VARIANTS:
    return _sft(variant.removeprefix(_SFT))
  return common.base("sft_epochs", variant, "epochs", DEFAULTS, VARIANTS)


def _sft(variant: str) -> ConfigDict:
  config = sft.get_config(variant)
  with config.unlocked():
    config.variant = f"{variant}-epochs"
    config.epochs = EPOCHS[variant]
  return config
