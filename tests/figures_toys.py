"""Toy results in the shape of real ones, for what draws them."""

import json


def run(metrics, *, experiment="ppo_ptx", variant="tiny", seed=0, tables=None):
  """What results.json holds, as far as figures read it."""
  return {
    "experiment": experiment,
    "variant": variant,
    "seed": seed,
    "metrics": metrics,
    "tables": tables or {},
  }


def row(metric, value, low=None, high=None, n=100, **labels):
  """A row of an evaluation's table."""
  ends = {} if low is None else {"low": low, "high": high}
  return {"metric": metric, "value": value, **ends, "n": n, **labels}


def write(folder, *runs):
  """Writes runs as NAME-VARIANT-seedS/results.json; returns the folder."""
  for one in runs:
    name = f"{one['experiment']}-{one['variant']}-seed{one['seed']}"
    path = folder / name / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(one))
  return folder


SIZES = {"small": 120_000, "medium": 400_000, "large": 2_000_000}
METHODS = ("gpt", "prompted_gpt", "flan", "t0", "sft", "ppo", "ppo_ptx")
FLAGS = ("fails_instruction", "hallucination", "satisfies_constraint")


def sizes(seed=0):
  """All methods in three sizes; the numbers are told apart by their digits.

  Method m (from 0), size s (from 0) and seed are in every number, so that a
  bar can be read back: 0.1 (m + 1) + 0.01 s + 0.001 seed.
  """
  metrics, models = {}, []
  for s, (size, parameters) in enumerate(SIZES.items()):
    for m, method in enumerate(METHODS):
      subject = f"{size}_{method}"
      number = number_of(m, s, seed)
      models.append(
        {
          "subject": subject,
          "method": method,
          "size": size,
          "parameters": parameters,
        }
      )
      metrics[f"preference/{subject}_over_large_sft/training"] = number
      metrics[f"preference/large_ppo_ptx_over_{subject}/training"] = number
      metrics[f"likert/{subject}"] = 1 + 5 * number
      metrics[f"nlp/mean/{subject}"] = number
      metrics[f"nlp/counting/{subject}"] = number
      metrics[f"nlp/counting_f1/{subject}"] = 0.999
      metrics[f"few_shot/counting/{subject}"] = number / 2
      for flag in FLAGS:
        metrics[f"metadata/{flag}/{subject}"] = number
      for kind in ("false_premise", "hedging", "constraints3"):
        metrics[f"mistakes/{kind}/{subject}"] = number
  del metrics["preference/large_sft_over_large_sft/training"]
  metrics["preference/small_ppo_ptx_over_large_gpt/training"] = 0.6 + seed / 100
  return run(
    metrics,
    experiment="sizes",
    variant="tiny",
    seed=seed,
    tables={"models": models},
  )


def number_of(method, size, seed):
  """The share in `sizes` of a method and size, by their places."""
  return 0.1 * (method + 1) + 0.01 * size + 0.001 * seed


def gamma(seed=0, key="ptx_coef", points=(0.0, 0.1, 0.3, 1.0)):
  """A sweep of one setting, beside GPT and SFT."""
  others = {"kl_coef": 0.1, "ptx_coef": 0.3, "learning_rate": 5e-4}
  metrics, models = {}, []
  for n, x in enumerate(points):
    subject = f"ppo_ptx_{key}{x:g}"
    settings = others | {key: x}
    method = "ppo_ptx" if settings["ptx_coef"] else "ppo"
    models.append({"subject": subject, "method": method, **settings})
    metrics[f"nlp/mean/{subject}"] = 0.5 + 0.1 * n + 0.01 * seed
    metrics[f"preference/{subject}_over_sft/training"] = 0.6 - 0.01 * n
    metrics[f"kl/{subject}"] = 1.0 + n
  for subject, value in (("gpt", 0.95), ("sft", 0.9)):
    models.append({"subject": subject, "method": subject})
    metrics[f"nlp/mean/{subject}"] = value
  return run(
    metrics,
    experiment="sweeps",
    variant=f"tiny-{key}",
    seed=seed,
    tables={"models": models},
  )


def epochs(seed=0):
  """SFT's epochs."""
  rows = [
    {
      "epoch": n,
      "step": 8 * n,
      "loss": 1 + 0.1 * n,
      "score": 0.2 * n + 0.01 * seed,
      "score_low": 0.2 * n - 0.1,
      "score_high": 0.2 * n + 0.3,
      "preferred": 0.5 + 0.01 * n,
      "n": 50,
    }
    for n in range(1, 17)
  ]
  return run(
    {},
    experiment="sft_epochs",
    seed=seed,
    tables={"epochs": rows},
  )


def overoptimization(seed=0):
  """Checkpoints of a long PPO run, and best-of-n."""
  rows = [
    {
      "method": "ppo",
      "step": 10 * n,
      "kl": float(n * n),
      "proxy": 0.3 * n,
      "gold": 0.5 + 0.2 * n - 0.05 * n * n,
      "gold_low": 0.4 + 0.2 * n - 0.05 * n * n,
      "gold_high": 0.6 + 0.2 * n - 0.05 * n * n,
    }
    for n in range(6)
  ]
  rows += [
    {"method": "best_of_n", "n": n, "kl": kl, "proxy": kl, "gold": 0.5 + kl / 9}
    for n, kl in ((1, 0.0), (4, 0.636), (64, 3.17))
  ]
  return run(
    {},
    experiment="overoptimization",
    seed=seed,
    tables={"overoptimization": rows},
  )
