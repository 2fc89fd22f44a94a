"""Finds text that belongs to one split in another split's text."""

import collections
from collections.abc import Iterable

from instruct_jax.worlds.microworld import mistakes, playground, probes, tasks

_KEY = 3  # words that have to agree before the rest is compared


def held_out(split: str) -> set[str]:
  """Automatic sets' text that training must not contain, for this split.

  The cores of truthfulness questions, sentence beginnings of the toxicity set,
  prompts in the held-out formats, and items of the public-NLP-like tasks;
  GPT-like prompts, and those on which models make mistakes.
  """
  cores = {prompt.core for prompt in probes.truthfulness(split)}
  cores |= {prompt.core for prompt in probes.held_out_format(split)}
  cores |= {prompt.core for prompt in probes.held_out_language(split, 64)}
  cores |= {prompt.core for prompt in probes.held_out_code(split, 128)}
  cores |= set(probes.toxicity("none", split))
  cores |= {prompt.core for prompt in playground.prompts(split, 400)}
  for kind in mistakes.KINDS:
    cores |= {prompt.core for prompt in mistakes.prompts(kind, split, 128)}
  for name in tasks.TASKS:
    cores |= {item.prompt for item in tasks.examples(name, split, 128)}
  return cores


def find(cores: Iterable[str], texts: Iterable[str]) -> set[str]:
  """The cores that stand in a text, word for word (line breaks as words)."""
  by_start = collections.defaultdict(set)
  for core in cores:
    words = tuple(core.split(" "))
    by_start[words[:_KEY]].add(words)
  seen: set[tuple[str, ...]] = set()
  for text in texts:
    words = tuple(text.split(" "))
    for i in range(len(words)):
      for core in by_start.get(words[i : i + _KEY], ()):
        if words[i : i + len(core)] == core:
          seen.add(core)
  return {" ".join(core) for core in seen}
