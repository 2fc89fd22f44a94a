"""What the tables of the evaluations are called, and how they are written.

A table that is not listed is shown as it is, after those that are.
"""

import dataclasses
from typing import Any

from instruct_jax import paper

SUBJECTS = {
  "gpt": "GPT",
  "prompted_gpt": "GPT (prompted)",
  "sft": "SFT",
  "ppo": "PPO",
  "ppo_ptx": "PPO-ptx",
}
GROUPS = {"training": "training labelers", "held_out": "held-out labelers"}
WORDS = {"qa": "QA prompt", "instruction_qa": "instruction + QA prompt"}


@dataclasses.dataclass(frozen=True)
class Exhibit:
  """How one table of an evaluation is called and written."""

  title: str
  caption: str = ""
  percent: bool = False
  but: tuple[str, ...] = ()  # parts of labels for which `percent` is turned


def _paper(result: paper.Result) -> str:
  margin = f" ± {result.margin}" if result.margin is not None else ""
  return f"{result.value}{margin} %"


# In the order of the report. What is not listed comes after them, as it is.
EXHIBITS = {
  "likert": Exhibit("Overall quality", "Likert, 1 to 7 (section 4.1)."),
  "score_wins": Exhibit(
    "Preferred by the reward model",
    "High here and low with labelers is over-optimisation.",
    percent=True,
  ),
  "score": Exhibit(
    "Score of the reward model", "Demonstrations score 0 on average."
  ),
  "metadata": Exhibit(
    "Metadata of the responses",
    "Share of the responses to which it applies (table 3, figure 4).",
    percent=True,
  ),
  "hallucination": Exhibit(
    "Closed-domain hallucination",
    "Share that makes up what the given text does not say. The paper: "
    + _paper(paper.RESULTS["hallucination_gpt3"])
    + " for GPT-3, "
    + _paper(paper.RESULTS["hallucination_ppo_ptx"])
    + " for PPO-ptx.",
    percent=True,
  ),
  "truthfulness": Exhibit(
    "Truthfulness",
    "On topics that alignment never touched (TruthfulQA's place, figure 6).",
    percent=True,
  ),
  "toxicity": Exhibit(
    "Toxic continuations",
    "Without instruction, asked for respect, asked for bias (figure 7).",
    percent=True,
  ),
  "bias": Exhibit(
    "Bias",
    "Entropy of the choice in bits (1: no preference), and how often the"
    " stereotype is likelier (section 4.2).",
    but=("stereotyped",),
  ),
  "nlp": Exhibit(
    "Public-NLP-like tasks",
    "Zero-shot exact match and F1; what falls below SFT is the alignment tax.",
    percent=True,
  ),
  "language": Exhibit(
    "Generalisation",
    "Likert of answers in another language and to a form never seen, and how"
    " often zorp is answered in zorp (section 4.3).",
    but=("share",),
  ),
  "kl": Exhibit(
    "KL from the SFT model", "Nats a response; then a token, for scale."
  ),
  "loss": Exhibit("Loss of held-out demonstrations", "Nats a token."),
  "length": Exhibit(
    "Length of responses",
    "In tokens, and how many end by themselves.",
    but=("ended",),
  ),
  "reward": Exhibit(
    "Reward model",
    'Accuracy on pairs of held-out prompts, beside "the longer wins", the judge'
    " or a bag of words; chance is 50 %. The paper: "
    + _paper(paper.RM_ACCURACY["training"])
    + " for labelers trained on, "
    + _paper(paper.RM_ACCURACY["held_out"])
    + " for held-out ones (4.1).",
    percent=True,
    but=("log loss",),
  ),
  "agreement": Exhibit(
    "Agreement between labelers",
    "Of pairs that both order. The paper: "
    + _paper(paper.AGREEMENT["training"])
    + " (training), "
    + _paper(paper.AGREEMENT["held_out"])
    + " (held-out).",
    percent=True,
  ),
  "preference_by_use_case": Exhibit("Preference by use case", percent=True),
  "likert_by_use_case": Exhibit("Likert by use case"),
  "departures": Exhibit("Departures from the paper"),
}


# What the closing table shows: label, table, labels of the rows in it.
CLOSING = (
  ("preferred over {}, training labelers", "preference",
   {"labelers": "training"}),
  ("preferred over {}, held-out labelers", "preference",
   {"labelers": "held_out"}),
  ("preferred over {}, reward model", "score_wins", {}),
  ("Likert, 1 to 7", "likert", {}),
  ("follows the constraint", "metadata", {"flag": "satisfies_constraint"}),
  ("hallucinates, closed domain", "hallucination", {"prompts": "all"}),
  ("truthful and informative", "truthfulness",
   {"prompt": "qa", "measure": "truthful_informative"}),
  ("toxic, asked for respect", "toxicity", {"prompt": "respectful"}),
  ("tasks, mean exact match", "nlp", {"task": "mean"}),
  ("reward model's score", "score", {}),
  ("KL from SFT, nats", "kl", {}),
  ("loss of demonstrations", "loss", {}),
  ("tokens a response", "length", {"measure": "length"}),
)  # fmt: skip


def subject(name: str) -> str:
  """A subject's name as people read it."""
  return SUBJECTS.get(name, name)


def words(label: Any) -> str:
  """A label as people read it."""
  known = SUBJECTS | GROUPS | WORDS
  return known.get(str(label), str(label).replace("_", " "))
