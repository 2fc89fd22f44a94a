"""Prints the numbers in which the small variants differ from the papers'.

The ALGORITHMS are the papers' in every variant; this table, made from the
configs, is all that `:tiny`, `:test` and `:files` change. It stands in
docs/differences.md, and a test holds the two together.

  python -m experiments.differences > docs/differences.md
"""

import importlib

from experiments import sizes
from instruct_jax.base import command, keys

STAGES = (
  *("sft", "rm", "ppo_init", "ppo", "ppo_ptx"),
  *("dpo", "rloo", "grpo", "best_of_n", "expert_iteration"),
)
PAPER = "6b"
SMALL = ("tiny", "test", "files")
SECTIONS = (
  "batch",
  "dpo",
  "ema",
  "epochs",
  "loss",
  "model.dropout",
  "model.dtype",
  "optimizer",
  "rl",
  "steps",
)


def rows() -> list[tuple[str, ...]]:
  """(experiment, key, the paper's 6B, tiny, test, files), where they differ."""
  differing = []
  for stage in STAGES:
    module = importlib.import_module(f"experiments.{stage}")
    flat = [keys.flatten(module.get_config(v)) for v in (PAPER, *SMALL)]
    for key in sorted(set().union(*flat)):
      values = tuple(str(config.get(key, "-")) for config in flat)
      if key.startswith(SECTIONS) and len(set(values)) > 1:
        differing.append((stage, key, *values))
  return differing


def table() -> str:
  """The rows as Markdown."""
  return _markdown(("experiment", "key", f"paper, {PAPER}", *SMALL), rows())


def sizes_table() -> str:
  """Numbers of small and large beside those of medium, as Markdown."""
  differing = []
  for stage, module in sizes.TRAINED.items():
    medium = keys.flatten(module.get_config("tiny"))
    small, large = (
      keys.flatten(sizes.get_config(f"{stage}-tiny-{size}"))
      for size in ("small", "large")
    )
    for key, value in sorted(medium.items()):
      values = small[key], value, large[key]
      shown = key.startswith(("model.", "optimizer."))
      if shown and len(set(map(str, values))) > 1:
        is_model = key.startswith("model.")
        if not is_model or stage == "pretrain":  # the same in all stages
          differing.append((stage, key, *(f"{x:.4g}" for x in values)))
  return _markdown(("experiment", "key", *sizes.SIZES), differing)


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
  lines = [head, ("---",) * len(head), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def document() -> str:
  """docs/differences.md."""
  return f"""# Numbers that the small variants change

Made by `python -m experiments.differences > docs/differences.md`; a test holds
the two together. The algorithms are the papers' in every variant.

The column `paper` has InstructGPT's numbers. It has no run of these:

- `dpo`: Rafailov et al. 2023, appendix B, with Adam for RMSprop.
- `rloo`, `grpo`, `best_of_n`, `expert_iteration`: the episodes, steps and
  optimizer of InstructGPT's PPO, by which they are compared; of their own
  papers the 4 responses a prompt of RLOO (Ahmadian et al. 2024 have 2 or 4) and
  GRPO's weight of the KL, 0.04 (Shao et al. 2024, who sample 64 responses a
  prompt where 8 are sampled here).

{table()}

## The sizes of experiments/sizes.py

Medium is `tiny`; small and large have its numbers but for these.

{sizes_table()}"""


def main() -> None:
  """Prints the document."""
  command.Parser("experiments.differences", __doc__).parse_args()
  print(document())


if __name__ == "__main__":
  command.run(main)
