"""Openings of children's stories, as prompts: {"prompt"} lines on stdout.

python -m experiments.story_prompts > prompts.jsonl
"""

import itertools
import json

from instruct_jax.base import command

NAMES = ("Lily", "Tom", "Ben", "Mia", "Sara", "Tim", "Max", "Anna")
KINDS = ("little girl", "little boy", "big dog", "small cat", "old man", "bird")
PLACES = ("park", "garden", "beach", "forest", "house", "store", "farm", "lake")


def openings() -> list[str]:
  """Every opening, in a fixed order."""
  return [
    f"Once upon a time, there was a {kind} named {name}. One day, {name} went"
    f" to the {place}"
    for name, kind, place in itertools.product(NAMES, KINDS, PLACES)
  ]


def main() -> None:
  """Prints them."""
  command.Parser("experiments.story_prompts", __doc__).parse_args()
  for prompt in openings():
    print(json.dumps({"prompt": prompt}))


if __name__ == "__main__":
  command.run(main)
