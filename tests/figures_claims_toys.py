"""Results of toy seeds for the claims: every number is written down here."""

import copy

NAMES = ("gpt", "prompted_gpt", "sft", "ppo", "ppo_ptx", "flan", "t0")


def default(shift=0.0):
  """What one seed of the default run has, where all comes out as in the paper.

  `shift` moves shares a little, as seeds do.
  """
  wins = {
    "ppo_ptx_over_sft": 0.58,
    "sft_over_prompted_gpt": 0.66,
    "prompted_gpt_over_gpt": 0.63,
    "ppo_ptx_over_prompted_gpt": 0.73,
    "ppo_ptx_over_gpt": 0.82,
  }
  both = {"training": 0.0, "held_out": -0.01}
  metrics = {
    f"preference/{name}/{group}": value + less + shift
    for name, value in wins.items()
    for group, less in both.items()
  }
  metrics |= {
    "truthfulness/qa_truthful_informative/gpt": 0.2 + shift,
    "truthfulness/qa_truthful_informative/ppo_ptx": 0.42 + shift,
    "truthfulness/instruction_qa_truthful_informative/gpt": 0.2 + shift,
    "truthfulness/instruction_qa_truthful_informative/ppo_ptx": 0.44 + shift,
    "truthfulness/qa_truthful/gpt": 0.4 + shift,
    "truthfulness/qa_truthful/ppo_ptx": 0.5 + 2 * shift,
    "hallucination/attempts/gpt": 0.41 + shift,
    "hallucination/attempts/ppo_ptx": 0.21 + shift,
    "hallucination/all/gpt": 0.35 + shift,
    "hallucination/all/ppo_ptx": 0.2 + shift,
    "toxicity/respectful/gpt": 0.2 + shift,
    "toxicity/respectful/ppo_ptx": 0.1 + shift,
    "toxicity/biased/gpt": 0.3 + shift,
    "toxicity/biased/ppo_ptx": 0.5 + 2 * shift,
    "language/zorp/gpt": 2.0 + shift,
    "language/zorp/prompted_gpt": 3.0 + shift,
    "language/zorp/ppo_ptx": 5.0 + 2 * shift,
    "language/code/gpt": 2.0 + shift,
    "language/code/prompted_gpt": 2.5 + shift,
    "language/code/ppo_ptx": 4.0 + 2 * shift,
    "mistakes/false_premise/ppo_ptx": 0.4 + shift,
    "mistakes/plain_question/ppo_ptx": 0.7 + shift,
    "mistakes/hedging/ppo_ptx": 0.99,
    "mistakes/constraints1/ppo_ptx": 0.6 + shift,
    "mistakes/constraints3/ppo_ptx": 0.3 + 2 * shift,
    "metadata/fails_instruction/ppo_ptx": 0.1 + shift,
  }
  for kind in ("winogender", "crows"):
    metrics |= {
      f"bias/{kind}/gpt": 0.9 + shift,
      f"bias/{kind}/ppo_ptx": 0.88 + 2 * shift,
      f"bias/{kind}_stereotyped/gpt": 0.7 + shift,
      f"bias/{kind}_stereotyped/ppo_ptx": 0.72 + 2 * shift,
    }
  return {"metrics": metrics, "tables": {}}


def sweep(shift=0.0):
  """What one seed of the sweep has beside it."""
  metrics = {
    "preference/small_ppo_ptx_over_large_gpt/training": 0.7 + shift,
    "nlp/mean/small_gpt": 0.5 + shift,
    "nlp/mean/large_gpt": 0.8 + 2 * shift,
    "folds/accuracy/trained_on": 0.7 + shift,
    "folds/accuracy/left_out": 0.68 + shift,
    "nlp/mean/gpt": 0.7 + shift,
    "nlp/mean/ppo": 0.6 + shift,
    "nlp/mean/ppo_ptx": 0.68 + shift,
    "nlp/mean/ppo_kl0.5": 0.62 + shift,
    "nlp/mean/ppo_kl2": 0.67 + shift,
    "preference/ppo_ptx_over_ppo/training": 0.5 + shift,
    "preference/ppo_ptx_over_sft/training": 0.58 + shift,
    "preference/ppo_over_sft/training": 0.58 + shift,
    "preference/ppo_kl0.5_over_sft/training": 0.56 + shift,
    "preference/ppo_kl2_over_sft/training": 0.51 + shift,
    "preference/ppo_ptx_over_flan/training": 0.78 + shift,
    "preference/ppo_ptx_over_t0/training": 0.79 + shift,
    "preference/dpo_over_sft/training": 0.6 + shift,
    "preference/rloo_over_sft/training": 0.58 + 2 * shift,
  }
  models = [
    {"subject": "small_gpt", "method": "gpt", "parameters": 120_000},
    {"subject": "large_gpt", "method": "gpt", "parameters": 2_400_000},
    {"subject": "ppo", "method": "ppo", "kl_coef": 0.1, "ptx_coef": 0.0},
    {"subject": "ppo_ptx", "method": "ppo_ptx", "kl_coef": 0.1},
    {"subject": "ppo_kl0.01", "method": "ppo", "kl_coef": 0.01},
    {"subject": "ppo_kl0.5", "method": "ppo", "kl_coef": 0.5},
    {"subject": "ppo_kl2", "method": "ppo", "kl_coef": 2.0, "ptx_coef": 0},
  ]
  losses, scores = [1.0, 1.05, 1.2], [-0.3, 0.0, 0.2]
  epochs = [
    {"epoch": n, "loss": loss + shift * n, "score": score + shift * n}
    for n, (loss, score) in enumerate(zip(losses, scores), start=1)
  ]
  proxies, golds = [0.0, 1, 2, 3, 4, 5], [4.0, 5, 6, 5, 3, 2]
  way = [
    {"method": "ppo", "kl": n / 2, "proxy": proxy + n * shift, "gold": gold}
    for n, (proxy, gold) in enumerate(zip(proxies, golds))
  ]
  way = [
    *reversed(way),
    {"method": "best_of_n", "kl": 99, "proxy": 0, "gold": 9},
  ]
  tables = {"models": models, "epochs": epochs, "overoptimization": way}
  return {"metrics": metrics, "tables": tables}


SHIFTS = (0.0, 0.01, -0.01, 0.005, -0.005)


def every():
  """{experiment: {seed: results}} in which all claims are shown."""
  return copy.deepcopy(
    {
      "ppo_ptx": {n: default(shift) for n, shift in enumerate(SHIFTS)},
      "figures": {n: sweep(shift) for n, shift in enumerate(SHIFTS[:3])},
    }
  )
