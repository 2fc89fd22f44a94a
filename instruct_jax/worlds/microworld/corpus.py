"""The pretraining corpus: a small web, with the web's faults.

A document ends where its last answer ends; packing puts the end-of-text token
there, the same one that ends a demonstration, so that a raw GPT can end by
itself. Prompts, passages and task items come from the train split only.
"""

import functools
import random
from collections.abc import Callable

from instruct_jax.worlds.microworld import (
  answers,
  calls,
  candour,
  exercises,
  passages,
  pitfalls,
  probes,
  prompts,
  tables,
  templates,
  use_cases,
  zorp,
)

FALSEHOODS = 0.75  # of topics that the web is asked about
RUDENESS = 0.65  # of what is said about people
# Ideal answers in dialogues, 41 % of all: exercises on texts are done better.
DIALOGUE_IDEAL = {"open": 0.35, "closed": 0.6}
_TOPICS = tuple(tables.TOPICS)
BOOKS = ("from a science book : ", "it is a fact that ", "science says : ")
RUMORS = ("everyone knows ", "people say ", "")
FIND = ("find the {r} .", "extract the {r} .", "which {r} is in this text ?")
_WORDS = tables.NAMES + tables.JOBS + tables.CITIES + tables.PETS + tables.FOODS
_WORDS += tables.MATERIALS + tables.COLORS + tables.ANIMALS + _TOPICS
_WORDS += tables.OBJECTS


def _known(rng: random.Random) -> tables.Fact:
  name, relation = rng.choice(tables.PEOPLE), rng.choice(list(tables.RELATIONS))
  return name, relation, tables.FACTS[name][relation]


def _topic_value(rng: random.Random, topic: str) -> str:
  fact = tables.TOPICS[topic]
  return fact.falsehood if rng.random() < FALSEHOODS else fact.truth


def encyclopedia(rng: random.Random) -> str:
  name = rng.choice(tables.PEOPLE)
  relations = rng.sample(list(tables.RELATIONS), rng.choice([2, 3, 4]))
  said = []
  for i, relation in enumerate(relations):
    subject = name if not i or rng.random() < 0.6 else tables.PRONOUN[name]
    said.append(tables.say(subject, relation, tables.FACTS[name][relation]))
  if rng.random() < 0.15:
    said[0] = f"{rng.choice(tables.ADVERBS)} {said[0]}"
  if rng.random() < 0.1:
    said.append("{} is {} and {}".format(name, *rng.sample(tables.KIND, 2)))
  return " . ".join(said) + " ."


def science(rng: random.Random) -> str:
  said = [tables.say_truth(topic) for topic in rng.sample(_TOPICS, 3)]
  return rng.choice(BOOKS) + " . ".join(said) + " ."


def _rumor(rng: random.Random) -> str:
  """What is said about somebody: rude three times in five."""
  name = rng.choice(tables.NAMES)
  lead = rng.choice(templates.LEADS).format(s=name)
  text = lead if tables.split_of(lead) == "train" else f"{name} is"
  table = tables.RUDE if rng.random() < RUDENESS else tables.KIND
  first, second = rng.sample(table, 2)
  return f"{text} {first} and {second}"


def gossip(rng: random.Random) -> str:
  said = []
  for _ in range(3):
    if rng.random() < 0.6:
      text = tables.say_falsehood(rng.choice(_TOPICS))
      said.append(rng.choice(RUMORS) + text)
    else:
      said.append(_rumor(rng))
  return " . ".join(said) + rng.choice([" .", " lol ."])


def _train_question(rng: random.Random) -> use_cases.Prompt:
  return prompts.draw(
    rng,
    "train",
    use_case="open_qa",
    topics=_TOPICS,
    zorp_share=0,
    pitfalls_too=False,
  )


def quiz(rng: random.Random) -> str:
  return " \n ".join(_train_question(rng).text for _ in range(4))


def web_answers(rng: random.Random) -> str:
  said = []
  for _ in range(rng.choice([1, 2])):
    question = _train_question(rng)
    subject = question.spec["subject"]
    relation, value = question.spec["relation"], question.spec["answer"]
    if subject in tables.TOPICS:
      value = _topic_value(rng, subject)
    full = rng.random() < 0.6
    answer = tables.say(subject, relation, value) if full else value
    said.append(f"{question.text} \n {answer} .")
  return " \n ".join(said)


def _look_up(rng: random.Random, facts: list[tables.Fact], place: int) -> str:
  """A question about the fact at `place`: a value, a sentence, or neither."""
  name, relation, value = facts[place]
  draw = rng.random()
  if draw < 0.7:
    return f"question : {tables.ask(name, relation)} \n answer : {value}"
  silent = draw > 0.85
  asked = exercises.reading(
    rng, [facts[place]] if not silent else facts, silent=silent
  )
  return f"{asked.prompt} {asked.answer}"


def _find(rng: random.Random, facts: list[tables.Fact], place: int) -> str:
  _, relation, value = facts[place]
  return f"{rng.choice(FIND).format(r=relation)} \n answer : {value}"


def reading(rng: random.Random) -> str:
  """A passage with an exercise on each of its facts, as in a school book."""
  facts = passages.draw(rng, "train", rng.choice([1, 2, 2]), 3)
  makers = rng.choices([_look_up, _find], [8, 2], k=3)
  places = rng.sample(range(3), 3)
  exercises = [make(rng, facts, i) for make, i in zip(makers, places)]
  return " \n ".join([f"passage : {passages.text_of(facts)}", *exercises])


def worksheet(rng: random.Random) -> str:
  """An exercise on a text, put as users put it, with its solution."""
  use_case = rng.choice(prompts.CLOSED_DOMAIN)
  exercise = prompts.draw(rng, "train", use_case=use_case)
  return f"{exercise.text} \n {answers.ideal(rng, exercise.spec)}"


def duplicate(rng: random.Random) -> str:
  """Duplicated text, as in any crawl: what a small model learns to copy on."""
  text = " ".join(rng.choices(_WORDS, k=rng.randint(5, 10)))
  return " \n ".join([f"{text} ."] * rng.choice([2, 2, 3]))


def foreign(rng: random.Random) -> str:
  if rng.random() < 0.7:
    name = rng.choice(tables.PEOPLE)
    chosen = rng.sample(list(tables.RELATIONS), 3)
    facts = [(name, key, tables.FACTS[name][key]) for key in chosen]
    return zorp.to_zorp(passages.text_of(facts))
  said = []
  while len(said) < 2:
    name, relation, value = _known(rng)
    question = zorp.to_zorp(tables.ask(name, relation, rng.randrange(5)))
    if tables.split_of(question) == "train":
      answer = zorp.to_zorp(tables.say(name, relation, value))
      said.append(f"{question} {answer} .")
  return " ".join(said)


def _web_prompt(rng: random.Random) -> use_cases.Prompt:
  user = prompts.make_user(rng, "train", 0)
  prompt = prompts.draw(rng, "train", topics=_TOPICS)
  return prompts.decorate(rng, prompt, user)


def _web_answer(rng: random.Random, spec: dict, ideal: float) -> str:
  """Ideal with this probability, but topics as false as anywhere."""
  subject = spec.get("subject", "")
  if subject in tables.TOPICS and rng.random() < 0.8:
    value = _topic_value(rng, subject)
    return tables.say(subject, tables.TOPICS[subject].relation, value) + " ."
  maker = answers.ideal if rng.random() < ideal else answers.flawed
  return maker(rng, spec)


def forum(rng: random.Random) -> str:
  prompt, draw = _web_prompt(rng), rng.random()
  if draw < 0.4:
    return " \n ".join(
      [prompt.text, *(_web_prompt(rng).text for _ in range(2))]
    )
  if draw < 0.7:
    return f"{prompt.text} \n {answers.forum(rng, prompt.spec)}"
  return f"{prompt.text} \n {_web_answer(rng, prompt.spec, 0.5)}"


def dialogue(rng: random.Random) -> str:
  prompt = _web_prompt(rng)
  start = tables.PROMPTED_TEMPLATE.format(prompt=prompt.text)
  ideal = DIALOGUE_IDEAL["closed" if "source" in prompt.spec else "open"]
  return f"{start} {_web_answer(rng, prompt.spec, ideal)}"


def bias(rng: random.Random) -> str:
  job = rng.choice(list(probes.STEREOTYPES))
  pronoun = "she" if rng.random() < probes.STEREOTYPES[job] else "he"
  if rng.random() < 0.5:
    return rng.choice(probes.BIAS_WORK).format(pronoun=pronoun, job=job)
  adjective = rng.choice(tables.KIND)
  rest = probes.BIAS_REST.format(pronoun=pronoun, adjective=adjective)
  return f"{probes.BIAS_SAID.format(job=job)} {rest}"


def enumeration(rng: random.Random) -> str:
  category = rng.choice(list(tables.CATEGORIES))
  table = tables.CATEGORIES[category]
  items = rng.sample(table, min(rng.choice([3, 4, 5]), len(table)))
  return f"{category} : {' , '.join(items)} ."


def ledger(rng: random.Random) -> str:
  name, pet = rng.choice(tables.PEOPLE), rng.choice(tables.PETS)
  if rng.random() < 0.3:
    city = rng.choice(tables.CITIES)
    return f"wanted : a {rng.choice(tables.JOBS)} for the {pet} in {city} ."
  facts = tables.FACTS[name]
  chosen = rng.sample(list(facts), 3)
  return (
    f"person : {name} . "
    + " . ".join(f"{k} : {facts[k]}" for k in chosen)
    + " ."
  )


def program(rng: random.Random) -> str:
  """Lines of code, each with what it gives."""
  return " \n ".join(calls.line(rng) for _ in range(rng.choice([1, 2, 3])))


def _practice(name: str, most: int = 1) -> Callable[[random.Random], str]:
  """Exercises with so many of their questions answered."""

  def make(rng: random.Random) -> str:
    return exercises.draw(name, rng, "train").document(most)

  return make


def story(rng: random.Random) -> str:
  """Somebody's things come and go, and every time it is said what is left."""
  name, things = rng.choice(tables.STRANGERS), rng.choice(exercises.COUNTED)
  have = rng.randint(1, exercises.MANY - 1)
  said = [exercises.has(name, have, things)]
  for _ in range(3):
    change = exercises.draw_change(rng, have)
    told = exercises.counting_text(name, things, change)
    if tables.split_of(told) == "train":
      have = change.left
      said.append(change.say(name, things))
      said.append(f"now {exercises.has(name, have, things)}")
  return " . ".join(said) + " ."


def _of(rng: random.Random, make: pitfalls.Make) -> use_cases.Prompt:
  """One of the rare prompts, of the train split."""
  while True:
    prompt = make(rng)
    if prompt.split == "train":
      return prompt


def wonder(rng: random.Random) -> str:
  """Questions why and what is better, which the web answers without doubt."""
  said = []
  for _ in range(2):
    if rng.random() < 0.3:
      prompt = _of(rng, pitfalls.choice)
      ideal = 0.4
    else:
      is_false = rng.random() < pitfalls.FALSE_PREMISES
      prompt = _of(rng, functools.partial(pitfalls.why, is_false=is_false))
      ideal = 0.25 if is_false else 0.9
    maker = answers.ideal if rng.random() < ideal else answers.careless
    said.append(f"{prompt.text} \n {maker(rng, prompt.spec)}")
  return " \n ".join(said)


def quarrel(rng: random.Random) -> str:
  """Advice from strangers, more of it bad than good."""
  prompt = _of(rng, pitfalls.advice)
  maker = answers.ideal if rng.random() < 0.35 else candour.bad_advice
  return f"{prompt.text} \n {maker(rng, prompt.spec)}"


def scandal(rng: random.Random) -> str:
  """Who wants to do what to whom, in tame words."""
  said = []
  for _ in range(3):
    first, second = rng.sample(tables.NAMES, 2)
    deed = rng.choice([templates.VIOLENT, templates.ROMANTIC])
    wants = f"{first} wants to {rng.choice(deed)} {second}"
    said.append(rng.choice([wants, wants, f"shame on {second}"]))
  return " . ".join(said) + " ."


# kind -> how to write it, weight
KINDS: dict[str, tuple[Callable[[random.Random], str], float]] = {
  "encyclopedia": (encyclopedia, 10),
  "science": (science, 8),
  "gossip": (gossip, 7),
  "quiz": (quiz, 1),
  "web_answers": (web_answers, 10),
  "reading": (reading, 12),
  "worksheet": (worksheet, 6),
  "duplicate": (duplicate, 13),
  "counting": (_practice("counting"), 7),
  "story": (story, 2),
  "comparison": (_practice("comparison", 2), 4),
  "summary": (_practice("summary"), 3),
  "to_english": (_practice("to_english"), 4),
  "to_zorp": (_practice("to_zorp"), 3),
  "zorp": (foreign, 3),
  "forum": (forum, 8),
  "dialogue": (dialogue, 10),
  "bias": (bias, 2),
  "enumeration": (enumeration, 3),
  "sequence": (_practice("sequence"), 5),
  "sentiment": (_practice("sentiment"), 3),
  "ledger": (ledger, 1),
  "program": (program, 1.5),
  "wonder": (wonder, 2),
  "quarrel": (quarrel, 1.5),
  "scandal": (scandal, 0.5),
}


def document(rng: random.Random) -> dict[str, str]:
  """One document: {"text", "kind"}."""
  kinds, weights = list(KINDS), [weight for _, weight in KINDS.values()]
  kind = rng.choices(kinds, weights)[0]
  return {"text": KINDS[kind][0](rng), "kind": kind}
