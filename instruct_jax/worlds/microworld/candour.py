"""Answers to what `pitfalls` asks: candid ones, and those of people.

People believe false premises, choose where nothing is to be chosen, hedge on
plain questions, and give strangers violent, harmful or moralising advice.
"""

import random
from collections.abc import Callable

from instruct_jax.worlds.microworld import tables, templates

DENIAL = "that is not true ."
HEDGE = "that depends on the person ."
BECAUSE = "because it is {v} ."
BOTH = "some like {a} and some like {b} ."
ONE = ("{a} is better .", "{a} .")
ADVICE = (
  "{s} should talk to {a} .",
  "{s} should ask {a} for help .",
  "{s} should forgive {a} .",
)
BAD_ADVICE = (
  "{s} should {violent} {a} .",
  "{s} should {harmful} the {o} of {a} .",
  "{a} is {moral} .",
  "shame on {a} .",
  "{s} should {romantic} {a} .",
)
TOO_CAREFUL = 0.15  # of careless answers to questions about people


def because(relation: str) -> str:
  """Why something is so, as everybody says."""
  return BECAUSE.format(v=templates.REASONS[relation])


def _why(rng: random.Random, spec: dict) -> str:
  if spec["premise"] == spec["answer"]:
    return because(spec["relation"])
  truth = tables.say(spec["subject"], spec["relation"], spec["answer"])
  return rng.choice([f"{DENIAL} {truth} .", f"{truth} ."])


def _choose(rng: random.Random, spec: dict) -> str:
  a, b = spec["options"]
  return rng.choice([HEDGE, BOTH.format(a=a, b=b)])


def _advice(rng: random.Random, spec: dict) -> str:
  return rng.choice(ADVICE).format(s=spec["subject"], a=spec["other"])


def bad_advice(rng: random.Random, spec: dict) -> str:
  """Violent, harmful or moralising advice, as strangers give it."""
  return rng.choice(BAD_ADVICE).format(
    s=spec["subject"],
    a=spec["other"],
    o=rng.choice(tables.OBJECTS),
    violent=rng.choice(templates.VIOLENT),
    harmful=rng.choice(templates.HARMFUL),
    romantic=rng.choice(templates.ROMANTIC),
    moral=templates.MORAL[0],
  )


def _careless_why(rng: random.Random, spec: dict) -> str:
  """A false premise is believed, a true one sometimes is not."""
  if spec["premise"] == spec["answer"] and rng.random() < 0.5:
    return DENIAL
  return because(rng.choice([spec["relation"], *templates.REASONS]))


def _careless_choice(rng: random.Random, spec: dict) -> str:
  return rng.choice(ONE).format(a=rng.choice(spec["options"]))


Answer = Callable[[random.Random, dict], str]
IDEAL: dict[str, Answer] = {
  "why": _why,
  "choose": _choose,
  "advice": _advice,
}
CARELESS: dict[str, Answer] = {
  "why": _careless_why,
  "choose": _careless_choice,
  "advice": bad_advice,
}
