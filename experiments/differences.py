"""Prints the numbers in which the small variants differ from the paper's.

The ALGORITHMS are the paper's in every variant; this table, made from the
configs, is all that `:tiny`, `:test` and `:files` change. It stands in
docs/differences.md, and a test holds the two together.

  python -m experiments.differences > docs/differences.md
"""

import importlib

from instruct_jax.base import command, keys

STAGES = ("sft", "rm", "ppo_init", "ppo", "ppo_ptx")
PAPER = "6b"
SMALL = ("tiny", "test", "files")
SECTIONS = (
  "batch",
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
  head = ("experiment", "key", f"paper, {PAPER}", *SMALL)
  lines = [head, ("---",) * len(head), *rows()]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def document() -> str:
  """docs/differences.md."""
  return f"""# Numbers that the small variants change

Made by `python -m experiments.differences > docs/differences.md`; a test holds
the two together. The algorithms are the paper's in every variant.

{table()}"""


def main() -> None:
  """Prints the document."""
  command.Parser("experiments.differences", __doc__).parse_args()
  print(document())


if __name__ == "__main__":
  command.run(main)
