"""All figures: what draws each, what the paper says, what is compared.

A new figure is a function of runs, a row here, and its notebook, which
`python -m instruct_jax.figures notebooks` writes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib import figure

from instruct_jax.figures import (
  behaviour,
  diagram,
  drawing,
  examples,
  groups,
  plots,
  preferences,
  side_by_side,
  sweeps,
  tasks,
  training,
  words,
)


@dataclasses.dataclass(frozen=True)
class Exhibit:
  """A figure.

  Attributes:
    notebook: the notebook that it stands in.
    rows: what is drawn, of all results of a folder; raises groups.Missing.
    paper: what the paper found, a paragraph.
    pairs: methods that the words compare.
    draw: makes a figure of the rows.
    plot: the plot among the rows, from which the words come.
  """

  notebook: str
  rows: Callable[[groups.Runs], Any]
  paper: str
  pairs: Sequence[words.Pair] = ()
  draw: Callable[[Any], figure.Figure] = drawing.draw
  plot: Callable[[Any], plots.Plot] = lambda rows: rows


_RL = (("ppo_ptx", "sft"), ("ppo_ptx", "gpt"))
_TAX = (("ppo", "sft"), ("ppo_ptx", "ppo"), ("ppo_ptx", "sft"))

EXHIBITS = {
  "figure1": Exhibit(
    "figure1_preference_by_size",
    preferences.by_size,
    "Labelers prefer the outputs of PPO-ptx to those of SFT, these to prompted"
    " GPT-3's and these to GPT-3's, at every size; outputs of the 1.3B PPO-ptx"
    " are preferred to those of the 175B GPT-3, which is over 100 times as"
    " large. The 175B PPO-ptx is preferred to GPT-3 in 85 ± 3 % and to few-shot"
    " GPT-3 in 71 ± 4 % of the prompts (section 4.1).",
    (("ppo_ptx", "sft"), ("sft", "prompted_gpt"), ("prompted_gpt", "gpt")),
  ),
  "figure2": Exhibit(
    "figure2_three_steps",
    diagram.three_steps,
    "The method has three steps: supervised fine-tuning on demonstrations, a"
    " reward model from comparisons, and reinforcement learning against it with"
    " PPO; steps 2 and 3 can be iterated (section 3.1).",
    draw=diagram.draw,
    plot=lambda rows: rows.plot,
    pairs=(("ppo_ptx", "sft"),),
  ),
  "figure3": Exhibit(
    "figure3_labelers_and_prompts",
    preferences.by_source,
    "The order of the models is the same on prompts that were sent to GPT-3"
    " models and to InstructGPT models, and for labelers who produced training"
    " data as for held-out labelers who did not (section 4.1).",
    _RL,
  ),
  "figure4": Exhibit(
    "figure4_metadata",
    behaviour.metadata,
    "PPO models attempt the correct instruction more often, follow explicit"
    " constraints more often, hallucinate less on closed-domain tasks (41 % for"
    " GPT-3, 21 % for PPO-ptx) and use language that is more appropriate for a"
    " customer assistant (section 4.1).",
    (("ppo_ptx", "gpt"), ("ppo_ptx", "sft")),
  ),
  "metadata_by_size": Exhibit(
    "figure4_metadata",
    behaviour.metadata_by_size,
    "The paper shows the same metadata by model size in appendix E.",
  ),
  "figure5": Exhibit(
    "figure5_likert",
    preferences.likert,
    "On a Likert scale from 1 to 7 the PPO-ptx model is rated above SFT and"
    " prompted GPT-3, and far above 175B GPT-3 fine-tuned on FLAN and T0;"
    " labelers prefer it to the FLAN model in 78 ± 4 % and to the T0 model in"
    " 79 ± 4 % of the prompts (section 4.1).",
    (("ppo_ptx", "sft"), ("ppo_ptx", "flan"), ("ppo_ptx", "t0")),
  ),
  "likert_by_size": Exhibit(
    "figure5_likert",
    preferences.likert_by_size,
    "The paper shows Likert scores by model size in appendix E.",
  ),
  "figure6": Exhibit(
    "figure6_truthfulness",
    behaviour.truthfulness,
    "PPO models are truthful and informative about twice as often as GPT-3 on"
    " TruthfulQA, without being told to be truthful; with an instruction to say"
    ' "I have no comment" when uncertain they err on the side of saying'
    " nothing rather than a falsehood (section 4.2).",
    (("ppo_ptx", "gpt"), ("ppo_ptx", "sft")),
  ),
  "figure7": Exhibit(
    "figure7_toxicity",
    behaviour.toxicity,
    "When asked to be respectful, InstructGPT models generate about 25 % fewer"
    " toxic outputs than GPT-3; without the instruction the difference"
    " vanishes, and asked to be biased they are more toxic than GPT-3 (section"
    " 4.2).",
    (("ppo_ptx", "gpt"), ("ppo_ptx", "sft")),
  ),
  "bias": Exhibit(
    "bias",
    behaviour.bias,
    "On Winogender and CrowS-Pairs the models are not less biased than GPT-3;"
    " with an instruction to be respectful PPO-ptx has a lower entropy, which"
    " means more bias (section 4.2).",
    (("ppo_ptx", "gpt"),),
  ),
  "labelers": Exhibit(
    "labeler_generalization",
    training.folds,
    "With labelers split into five groups, reward models are right about 72.4 ±"
    " 0.4 % of the comparisons of labelers whom they learned from, and about"
    " 69.6 ± 0.9 % of those of the group that was held out (section 4.1).",
  ),
  "zero_shot": Exhibit(
    "figures28_29_tasks",
    tasks.zero_shot,
    "PPO without the pretraining gradient loses on public NLP tasks what GPT-3"
    " could do, the alignment tax; PPO-ptx gives most of it back (section 4.2,"
    " figure 29).",
    _TAX,
  ),
  "few_shot": Exhibit(
    "figures28_29_tasks",
    tasks.few_shot,
    "The same with examples before the item (figure 28).",
    _TAX,
  ),
  "ptx_sweep": Exhibit(
    "figures33_34_ptx_and_kl",
    sweeps.ptx,
    "From a pretraining coefficient of 20 on, the regressions on DROP and"
    " SQuADv2 are gone for the 1.3B model, with little loss of validation"
    " reward (appendix E, figure 33).",
  ),
  "kl_sweep": Exhibit(
    "figures33_34_ptx_and_kl",
    sweeps.kl,
    "Without the pretraining gradient, no KL coefficient gives the regressions"
    " back, not even 2.0, a hundred times the default, which costs much of the"
    " validation reward (appendix E, figure 34).",
  ),
  "learning_rates": Exhibit(
    "sweeps_of_training",
    sweeps.learning_rate,
    "The policy's learning rate was swept log-linearly from 2.55e-6 to 2.55e-5"
    " for 1.3B and 6B; above 8.05e-6 training without the pretraining gradient"
    " diverged (appendix C.4).",
  ),
  "episodes": Exhibit(
    "sweeps_of_training",
    sweeps.episodes,
    "All PPO models are trained for 256,000 episodes; the paper looks at longer"
    " training in appendix E.",
  ),
  "initialisation": Exhibit(
    "sweeps_of_training",
    sweeps.initialisation,
    "The policy that RL starts from is fine-tuned with 10 % of pretraining data"
    " mixed in, which the paper found to help PPO (appendix C.3).",
  ),
  "sft_epochs": Exhibit(
    "sft_epochs",
    training.epochs,
    "SFT overfits in validation loss after one epoch; training for more, 16"
    " epochs, still raises the reward model's score and what people prefer, so"
    " the model is picked by the reward model (section 3.5, appendix C.1).",
  ),
  "overoptimization": Exhibit(
    "overoptimization",
    training.overoptimization,
    "The paper does not study this; Gao et al. 2022 do: against the root of the"
    " KL the reward model's score keeps rising while the true score rises, then"
    " falls, and best-of-n needs less KL than PPO for the same.",
  ),
  "methods": Exhibit(
    "methods_beside_ppo",
    training.methods,
    "The paper compares PPO with SFT only. DPO (Rafailov et al. 2023), RLOO"
    " (Ahmadian et al. 2024) and GRPO (Shao et al. 2024) came after it and are"
    " trained here from the same SFT model and the same rankings.",
    (("ppo_ptx", "dpo"), ("ppo_ptx", "rloo"), ("ppo_ptx", "ppo")),
  ),
  "generalization": Exhibit(
    "generalization_and_mistakes",
    examples.generalization,
    "InstructGPT follows instructions in other languages and answers questions"
    " about code, though both are rare in its fine-tuning data; the paper shows"
    " it by examples (section 4.3, figure 8).",
    (("ppo_ptx", "sft"), ("ppo_ptx", "gpt")),
  ),
  "mistakes": Exhibit(
    "generalization_and_mistakes",
    examples.mistakes,
    "It still makes simple mistakes: it takes false premises as true, hedges"
    " where the answer is plain, and does worse with several explicit"
    " constraints at once; the paper shows it by examples (section 4.3, figure"
    " 9).",
    (("ppo_ptx", "sft"), ("ppo_ptx", "gpt")),
  ),
  "samples": Exhibit(
    "samples",
    side_by_side.samples,
    "Figures 8 and 9 of the paper show responses of GPT-3 and InstructGPT to"
    " the same prompts, prompts chosen to show a behaviour, responses not.",
    (("ppo_ptx", "sft"), ("ppo_ptx", "gpt")),
    draw=side_by_side.draw,
    plot=lambda rows: rows.plot,
  ),
}


def notebooks() -> dict[str, list[str]]:
  """The figures of each notebook."""
  found: dict[str, list[str]] = {}
  for name, exhibit in EXHIBITS.items():
    found.setdefault(exhibit.notebook, []).append(name)
  return found
