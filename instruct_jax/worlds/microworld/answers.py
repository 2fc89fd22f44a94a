"""Answers to prompts: ideal ones, careless ones and forum talk.

An ideal answer gets the judge's best grade. A flawed one is what a tired
labeler or a stranger on the web writes: another constraint, a wrong fact, a
misconception, an answer to something else, or rudeness.
"""

import random
from collections.abc import Callable

from instruct_jax.worlds.microworld import (
  calls,
  candour,
  exercises,
  prompts,
  tables,
  zorp,
)

UNANSWERABLE = exercises.UNANSWERABLE
NO_COMMENT = "i have no comment ."
CHAT = {
  "greeting": "hello {s} , i am fine . how can i help ?",
  "sadness": "i am sorry to hear that {s} . how can i help ?",
  "thanks": "you are welcome {s} .",
  "name": "your name is {s} .",
}
FORUM = (
  "who cares lol .",
  "you are {rude} lol .",
  "{s} is {rude} and {rude2} .",
  "no idea .",
  "{falsehood} lol .",
  "{falsehood} .",
  NO_COMMENT,
)


def _adjective(fact: str, adjective: str) -> str:
  """ "ann is a nurse" -> "ann is a kind nurse"."""
  head, _, value = fact.rpartition(" ")
  return f"{head} {adjective} {value}"


def _plain_sentence(rng: random.Random, spec: dict) -> str:
  subject = spec["subject"]
  first, second = rng.sample(list(tables.RELATIONS), 2)
  first = spec.get("relation") or first
  text = tables.say(subject, first, tables.FACTS[subject][first])
  if rng.random() < 0.35 and second != first:
    more = tables.say("", second, tables.FACTS[subject][second])
    text = f"{text} and {more.strip()}"
  return text


def _constrained(rng: random.Random, spec: dict, wanted: dict) -> str:
  """One true sentence that meets all constraints, by drawing until it does."""
  subject = spec["subject"]
  words = wanted.get("words")
  while True:
    relation = rng.choice(list(tables.RELATIONS))
    text = tables.say(subject, relation, tables.FACTS[subject][relation])
    room = relation in ("job", "pet")
    if "include" in wanted:
      if room:
        text = _adjective(text, wanted["include"])
      else:
        tail = text.removeprefix(subject + " ")
        text = f"{subject} is {wanted['include']} and {tail}"
    elif words and room and rng.random() < 0.5:
      text = _adjective(text, rng.choice(tables.KIND))
    start, end = wanted.get("start"), wanted.get("end")
    if words and not start and rng.random() < 0.4:
      start = rng.choice(tables.ADVERBS[:3])
    if words and not end and rng.random() < 0.4:
      end = rng.choice(tables.ADVERBS[:3])
    text = " ".join(part for part in (start, text, end) if part)
    if not words or len(text.split(" ")) == words:
      return text


def _about(rng: random.Random, spec: dict) -> str:
  subject = spec["subject"]
  if subject in tables.TOPICS:
    return tables.say_truth(subject) + " ."
  wanted = dict(spec.get("constraints", ()))
  if not wanted:
    return _plain_sentence(rng, spec) + " ."
  if "sentences" not in wanted:
    return _constrained(rng, spec, wanted) + " ."
  first, second = rng.sample(list(tables.RELATIONS), 2)
  facts = tables.FACTS[subject]
  again = rng.choice([subject, tables.PRONOUN[subject]])
  one, two = (
    tables.say(subject, first, facts[first]),
    tables.say(again, second, facts[second]),
  )
  return f"{one} . {two} ."


def _respect(rng: random.Random, spec: dict) -> str:
  subject = spec["subject"]
  first, second = rng.sample(tables.KIND, 2)
  if subject in tables.FACTS and rng.random() < 0.4:
    return f"{subject} is a {first} {tables.FACTS[subject]['job']} ."
  return f"{subject} is {first} and {second} ."


def _question(rng: random.Random, spec: dict) -> str:
  if spec["answer"] is None:
    return UNANSWERABLE
  return tables.say(spec["subject"], spec["relation"], spec["answer"]) + " ."


def _list(rng: random.Random, spec: dict) -> str:
  wanted = dict(spec["constraints"])
  table = tables.CATEGORIES[spec["category"]]
  allowed = [item for item in table if item != wanted.get("without")]
  return " , ".join(rng.sample(allowed, wanted["items"])) + " ."


def _summary(rng: random.Random, spec: dict) -> str:
  facts = [tuple(fact) for fact in spec["source"]]
  rng.shuffle(facts)
  said = [tables.say(*facts[0])]
  for _, relation, value in facts[1 : rng.choice([2, 3])]:
    said.append(tables.say("", relation, value).strip())
  return " and ".join(said) + " ."


def _rude(rng: random.Random, spec: dict) -> str:
  return "{} is {} and {} .".format(
    spec["subject"], *rng.sample(tables.RUDE, 2)
  )


def _go_on(rng: random.Random, spec: dict) -> str:
  table = tables.CATEGORIES[spec["category"]]
  allowed = [item for item in table if item not in spec["given"]]
  return " , ".join(rng.sample(allowed, rng.randint(1, 2))) + " ."


IDEAL: dict[str, Callable[[random.Random, dict], str]] = {
  "about": _about,
  "respect": _respect,
  "question": _question,
  "list": _list,
  "chat": lambda rng, spec: CHAT[spec["topic"]].format(s=spec["subject"]),
  "rewrite": lambda rng, spec: spec["answer"],
  "classify": lambda rng, spec: f"the review is {spec['answer']} .",
  "rude": _rude,
  "summarize": _summary,
  "code": lambda rng, spec: calls.ideal(spec),
  "extract": lambda rng, spec: (
    spec["answer"] + " ." if spec["answer"] else UNANSWERABLE
  ),
  "go_on": _go_on,
  **candour.IDEAL,
}


def ideal(rng: random.Random, spec: dict) -> str:
  """An answer that the judge grades 7."""
  text = IDEAL[spec["task"]](rng, spec)
  return zorp.to_zorp(text) if spec.get("language") == "zorp" else text


def forum(rng: random.Random, spec: dict) -> str:
  """What the web answers: rude, off the task, or a misconception."""
  subject = spec.get("subject")
  rude, rude2 = rng.sample(tables.RUDE, 2)
  return rng.choice(FORUM).format(
    s=subject if subject in tables.PRONOUN else rng.choice(tables.PEOPLE),
    rude=rude,
    rude2=rude2,
    falsehood=tables.say_falsehood(rng.choice(list(tables.TOPICS))),
  )


def _other_value(rng: random.Random, relation: str, value: str | None) -> str:
  values = tables.ALL_RELATIONS[relation].values
  return rng.choice([v for v in values if v != value])


def careless(rng: random.Random, spec: dict) -> str:
  """On the task, but with a wrong fact, value or constraint."""
  task, changed = spec["task"], dict(spec)
  topic = tables.TOPICS.get(spec.get("subject", ""))
  if task in candour.CARELESS:
    return candour.CARELESS[task](rng, spec)
  if topic:
    return tables.say_falsehood(spec["subject"]) + " ."
  is_open = task == "question" and "source" not in spec
  if is_open and "language" not in spec and rng.random() < candour.TOO_CAREFUL:
    return candour.HEDGE
  if task == "question" and "source" in spec and rng.random() < 0.6:
    return _another_fact(rng, spec)
  if task == "question":
    changed["answer"] = _other_value(rng, spec["relation"], spec["answer"])
  elif task == "code":
    return calls.careless(rng, spec)
  elif task == "classify":
    changed["answer"] = rng.choice(["positive", "negative"])
  elif task == "extract":
    values = [value for _, _, value in spec["source"]]
    if rng.random() < 0.4:
      values = list(rng.choice(list(tables.RELATIONS.values())).values)
    changed["answer"] = rng.choice(values)
  elif task == "summarize":
    facts = [list(fact) for fact in spec["source"]]
    for fact in rng.sample(facts, rng.choice([1, 2, 3])):
      fact[2] = _other_value(rng, fact[1], fact[2])
    changed["source"] = facts
  elif task == "rewrite":
    wrong = spec["answer"].split(" ")
    place = rng.randrange(len(wrong) - 1)
    wrong[place] = rng.choice(tables.NAMES + tables.OBJECTS)
    return " ".join(wrong)
  elif task == "list":
    changed["constraints"] = [["items", rng.choice([1, 2, 3, 4])]]
    if rng.random() < 0.3:
      changed["category"] = rng.choice(list(tables.CATEGORIES))
  elif task == "respect" and rng.random() < 0.4:
    return f"{spec['subject']} is {rng.choice(tables.RUDE)} ."
  elif task == "about" and spec.get("constraints") and rng.random() < 0.5:
    changed["constraints"] = []
  elif spec.get("subject") in tables.FACTS:
    return _wrong_fact(rng, spec)
  elif task == "chat":
    changed["subject"] = rng.choice(tables.NAMES)
  return ideal(rng, changed)


def _another_fact(rng: random.Random, spec: dict) -> str:
  """What the text does say, but nobody asked for."""
  asked = [spec["subject"], spec["relation"], spec["answer"]]
  others = [fact for fact in spec["source"] if fact != asked]
  return tables.say(*rng.choice(others)) + " ."


def _wrong_fact(rng: random.Random, spec: dict) -> str:
  """A statement about the subject that is not so."""
  relation = rng.choice(list(tables.RELATIONS))
  subject = spec["subject"]
  value = _other_value(rng, relation, tables.FACTS[subject][relation])
  text = tables.say(subject, relation, value) + " ."
  return zorp.to_zorp(text) if spec.get("language") == "zorp" else text


def flawed(rng: random.Random, spec: dict) -> str:
  """A careless answer 55 %, one to another prompt 25 %, forum talk 20 %."""
  draw = rng.random()
  if draw < 0.55:
    return careless(rng, spec)
  if draw < 0.8:
    return ideal(rng, prompts.draw(rng, "train").spec)
  return forum(rng, spec)
