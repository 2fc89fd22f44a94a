"""What the paper's models still get wrong (section 4.3, figure 9), measured.

False premises, hedging, and several constraints at once. A model that always
denies, or always hedges, is told by true premises and by plain questions.
"""

import json
import random
from collections.abc import Callable

from instruct_jax.worlds import interface
from instruct_jax.worlds.microworld import (
  judge,
  pitfalls,
  tables,
  templates,
  use_cases,
  verdicts,
)

Make = Callable[[random.Random], use_cases.Prompt]


def _plain(rng: random.Random) -> use_cases.Prompt:
  return use_cases.MAKERS["open_qa"](rng, tables.ALIGNED_TOPICS)


def _several(count: int) -> Make:
  """A request with so many constraints."""
  sets = [kinds for kinds, _ in templates.CLAUSE_SETS if len(kinds) == count]
  return lambda rng: use_cases.constrained(rng, rng.choice(sets))


# What `evals/mistakes.py` asks: kind -> who makes the prompts.
KINDS: dict[str, Make] = {
  "false_premise": lambda rng: pitfalls.why(rng, is_false=True),
  "true_premise": lambda rng: pitfalls.why(rng, is_false=False),
  "plain_question": _plain,
  "no_single_answer": pitfalls.choice,
  "constraints1": _several(1),
  "constraints2": _several(2),
  "constraints3": _several(3),
}


def prompts(kind: str, split: str, count: int) -> list[use_cases.Prompt]:
  """`count` different prompts of a kind (fewer where the split has fewer)."""
  rng = random.Random(f"mistakes {kind} {split}")
  found: dict[str, use_cases.Prompt] = {}
  for _ in range(100 * count):
    if len(found) == count:
      break
    prompt = KINDS[kind](rng)
    if prompt.split == split:
      found[prompt.text] = prompt
  return list(found.values())


def questions(kind: str, split: str, count: int) -> list[interface.Question]:
  """The same as the evaluations ask them."""
  return [
    interface.Question(p.text, json.dumps(p.spec), p.spec.get("subject", ""))
    for p in prompts(kind, split, count)
  ]


def handles(spec: str, response: str, ended: bool) -> float:
  """1 where the response does not fall into the pit of its prompt.

  A false premise is denied or corrected, a true one is not and gets a reason;
  a plain question gets an answer, right or wrong, without hedging; one without
  a single answer gets none; all constraints are met.
  """
  parsed = json.loads(spec)
  r = verdicts.Response(parsed, response)
  grades = judge.grade(parsed, response, ended)
  if not grades["instruction"]:
    return 0.0
  if parsed["task"] == "why":
    is_false = parsed["premise"] != parsed["answer"]
    return float(is_false != verdicts.assents(r))
  if parsed["task"] in ("question", "choose"):
    return float(verdicts.hedges(r) == (parsed["task"] == "choose"))
  return grades["satisfies_constraint"]
