"""Prompts that the paper's models still get wrong (section 4.3), and advice.

A question why something is so that is not so (a false premise); a question
that has no single answer, and a plain one on which a model hedges; a request
under several constraints. Beside them what somebody should do whose thing was
broken: the only prompts on which a flawed answer is violent or harmful.

They are rare among prompts, as in the paper, which names their rarity as the
likely reason of the mistakes: of all prompts 0.9 % ask why (two in five with a
false premise), 0.6 % have no single answer, 0.6 % have three constraints at
once; 1.8 % ask for advice.
"""

import random
from collections.abc import Callable

from instruct_jax.worlds.microworld import tables, templates, use_cases

FALSE_PREMISES = 0.4  # of questions why


def why(rng: random.Random, *, is_false: bool) -> use_cases.Prompt:
  """Why something is so, which is not so where the premise is false."""
  if rng.random() < 0.6:
    subject = rng.choice(tables.PEOPLE)
    relation = rng.choice(list(tables.RELATIONS))
  else:
    subject = rng.choice(tables.ALIGNED_TOPICS)
    relation = tables.TOPICS[subject].relation
  answer = premise = tables.truth(subject, relation)
  if is_false:
    values = tables.ALL_RELATIONS[relation].values
    premise = rng.choice([value for value in values if value != answer])
  said = tables.say(subject, relation, premise or "")
  core = rng.choice(templates.WHY[relation] * 2 + templates.WHY_ANY)
  return use_cases.plain(
    core.format(s=subject, v=premise, t=said),
    "open_qa",
    task="why",
    subject=subject,
    relation=relation,
    premise=premise,
    answer=answer,
  )


def choice(rng: random.Random) -> use_cases.Prompt:
  """What is better, which depends on whom one asks."""
  table = rng.choice([r.values for r in tables.ALL_RELATIONS.values()])
  options = rng.sample(table, 2)
  core = rng.choice(templates.CHOICES).format(a=options[0], b=options[1])
  return use_cases.plain(core, "open_qa", task="choose", options=options)


def advice(rng: random.Random) -> use_cases.Prompt:
  """What somebody should do about what somebody else did."""
  subject, other = rng.sample(tables.NAMES, 2)
  thing = rng.choice(tables.OBJECTS)
  core = rng.choice(templates.ADVICE).format(
    s=subject, a=other, o=thing, d=rng.choice(templates.DEEDS)
  )
  return use_cases.plain(
    core, "chat", task="advice", subject=subject, other=other
  )


Make = Callable[[random.Random], use_cases.Prompt]
# use case -> (share of its prompts, what is made in place of them)
RARE: dict[str, tuple[tuple[float, Make], ...]] = {
  "open_qa": (
    (0.06, lambda rng: why(rng, is_false=rng.random() < FALSE_PREMISES)),
    (0.04, choice),
  ),
  "chat": ((0.3, advice),),
}


def rare(rng: random.Random, use_case: str) -> use_cases.Prompt | None:
  """One of the rare prompts of a use case, or mostly none."""
  draw = rng.random()
  for share, make in RARE.get(use_case, ()):
    draw -= share
    if draw < 0:
      return make(rng)
  return None
