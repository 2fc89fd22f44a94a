"""One maker a use case: a request, and what the judge has to know about it.

A prompt's core ("what job does ann have ?"), or the passage it is about,
decides its split. No core is part of another core: constraints stand inside
the sentence, and passages have their own people.
"""

import dataclasses
import json
import random
from collections.abc import Callable, Sequence

from instruct_jax.worlds.microworld import (
  calls,
  passages,
  tables,
  templates,
  zorp,
)

UNANSWERABLE = 0.3  # of closed questions
LACKING = 0.2  # of extractions: the text has no such thing


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt and what the judge has to know about it."""

  text: str
  core: str  # what must not occur in another split: core text or passage
  split: str
  use_case: str
  spec: dict  # task, subject, relation, answer, constraints, source, ...
  source: str = "instruct"  # whom it was written for: "instruct" or "gpt"

  def record(self, **more: object) -> dict:
    """A JSON-able row: prompt, core, use_case, spec (a JSON string), ..."""
    return {
      "prompt": self.text,
      "core": self.core,
      "use_case": self.use_case,
      "spec": json.dumps(self.spec, sort_keys=True),
      "source": self.source,
      **more,
    }


def plain(core: str, use_case: str, **spec: object) -> Prompt:
  """A prompt whose whole text decides the split."""
  return Prompt(core, core, tables.split_of(core), use_case, spec)


def _person(rng: random.Random, topics: Sequence[str]) -> Prompt:
  if rng.random() < 0.08:
    subject = rng.choice(tables.PEOPLE)
    core = rng.choice(templates.TWO).format(s=subject)
    spec = {"task": "about", "subject": subject}
    return plain(core, "generation", constraints=[["sentences", 2]], **spec)
  chosen = rng.choices(
    [kinds for kinds, _ in templates.CLAUSE_SETS],
    [weight for _, weight in templates.CLAUSE_SETS],
  )[0]
  return constrained(rng, chosen)


def constrained(rng: random.Random, chosen: Sequence[str]) -> Prompt:
  """A sentence about somebody under constraints of these kinds."""
  subject = rng.choice(tables.PEOPLE)
  spec = {"task": "about", "subject": subject}
  constraints, clauses = [], []
  for kind in chosen:
    values = templates.CLAUSE_VALUES[kind]
    # Two constraints need room, at least five words; three six.
    value = rng.choice(
      values[len(chosen[:3]) :] if chosen[1:] and kind == "words" else values
    )
    clauses.append(rng.choice(templates.CLAUSES[kind]).format(v=value))
    number = tables.NUMBERS.index(value) if kind == "words" else value
    constraints.append([kind, number])
  start = rng.choice(templates.ABOUT).format(s=subject)
  core = " ".join(
    [start, " and ".join(clauses), "."] if clauses else [start, "."]
  )
  return plain(core, "generation", constraints=constraints, **spec)


def _respectful(rng: random.Random) -> Prompt:
  subject = rng.choice(tables.NAMES)
  spec = {"task": "respect", "subject": subject}
  if rng.random() < 0.5:
    core = rng.choice(templates.RESPECTFUL).format(s=subject)
    return plain(core, "generation", **spec)
  lead = rng.choice(templates.LEADS).format(s=subject)
  text = rng.choice(templates.COMPLETE).format(t=lead)
  return Prompt(text, lead, tables.split_of(lead), "generation", spec)


def _generation(rng: random.Random, topics: Sequence[str]) -> Prompt:
  draw = rng.random()
  if draw < 0.6:
    return _person(rng, topics)
  subject = rng.choice(tables.PEOPLE)
  if draw < 0.7:
    relation = rng.choice(list(tables.RELATIONS))
    core = rng.choice(templates.ABOUT_RELATION).format(s=subject, r=relation)
    return plain(
      core, "generation", task="about", subject=subject, relation=relation
    )
  if draw < 0.82:
    return _respectful(rng)
  topic = rng.choice(topics)
  core = rng.choice(templates.ABOUT_TOPIC).format(s=topic)
  return plain(core, "generation", task="about", subject=topic)


def question(subject: str, relation: str, core: str) -> Prompt:
  """An open question about a person or a topic."""
  answer = tables.truth(subject, relation)
  return plain(
    core,
    "open_qa",
    task="question",
    subject=subject,
    relation=relation,
    answer=answer,
  )


def _open_qa(rng: random.Random, topics: Sequence[str]) -> Prompt:
  if rng.random() < 0.5:
    subject = rng.choice(tables.PEOPLE)
    relation = rng.choice(list(tables.RELATIONS))
  else:
    subject = rng.choice(topics)
    relation = tables.TOPICS[subject].relation
  forms = tables.ALL_RELATIONS[relation].questions
  # The web's questions about held-out topics leave the rest for the test.
  held_out = subject in tables.TOPICS and subject not in tables.ALIGNED_TOPICS
  forms = forms[: tables.WEB_QUESTIONS] if held_out else forms
  return question(subject, relation, rng.choice(forms).format(s=subject))


def _brainstorming(rng: random.Random, topics: Sequence[str]) -> Prompt:
  category = rng.choice(list(tables.CATEGORIES))
  count = rng.choice([2, 3, 3, 4])
  constraints: list[list] = [["items", count]]
  words = {"k": tables.NUMBERS[count], "c": category}
  if rng.random() < 0.6:
    forms, words["x"] = (
      templates.LISTS_WITHOUT,
      rng.choice(tables.CATEGORIES[category]),
    )
    constraints.append(["without", words["x"]])
  else:
    forms = templates.LISTS
  core = rng.choice(forms).format(**words)
  return plain(
    core,
    "brainstorming",
    task="list",
    category=category,
    constraints=constraints,
  )


def _chat(rng: random.Random, topics: Sequence[str]) -> Prompt:
  topic = rng.choice(list(templates.CHAT))
  subject = rng.choice(tables.NAMES)
  word = rng.choice(templates.MOODS if topic == "sadness" else templates.GIFTS)
  core = rng.choice(templates.CHAT[topic]).format(s=subject, m=word)
  return plain(core, "chat", task="chat", topic=topic, subject=subject)


def _rewrite(rng: random.Random, topics: Sequence[str]) -> Prompt:
  if rng.random() < 0.5:
    verb, thing = rng.choice(templates.REQUESTS), rng.choice(tables.OBJECTS)
    text = f"{verb} me the {thing} ."
    core = rng.choice(templates.POLITE).format(t=text)
    answer = f"please {text}"
    return plain(core, "rewrite", task="rewrite", answer=answer, polite=True)
  subject = rng.choice(tables.STRANGERS)
  relation = rng.choice(["pet", "food", "city"])
  a, b = rng.sample(tables.RELATIONS[relation].values, 2)
  text = tables.say(subject, relation, a) + " ."
  core = rng.choice(templates.REPLACE).format(a=a, b=b, t=text)
  answer = tables.say(subject, relation, b) + " ."
  return plain(core, "rewrite", task="rewrite", answer=answer)


def review(rng: random.Random) -> tuple[str, str]:
  """A review and its sentiment."""
  sentiment, table = rng.choice(
    [("positive", tables.PRAISE), ("negative", tables.BLAME)]
  )
  first, second = rng.sample(table, 2)
  thing = rng.choice(tables.REVIEWED)
  return f"the {thing} was {first} and {second} .", sentiment


def _classification(rng: random.Random, topics: Sequence[str]) -> Prompt:
  text, answer = review(rng)
  core = rng.choice(templates.REVIEW).format(t=text)
  return plain(core, "classification", task="classify", answer=answer)


def _other(rng: random.Random, topics: Sequence[str]) -> Prompt:
  draw = rng.random()
  subject = rng.choice(tables.NAMES)
  if draw < 0.3:
    core = rng.choice(templates.RUDE).format(s=subject)
    return plain(core, "other", task="rude", subject=subject)
  relation = rng.choice(list(tables.RELATIONS))
  value = rng.choice(tables.RELATIONS[relation].values)
  text = tables.say(subject, relation, value) + " ."
  coded = zorp.to_zorp(text)
  if draw < 0.75:
    core = rng.choice(templates.TO_ZORP).format(t=text)
    return plain(core, "other", task="rewrite", answer=coded)
  core = rng.choice(templates.TO_ENGLISH).format(t=coded)
  return plain(core, "other", task="rewrite", answer=text)


def _on_passage(
  facts: Sequence[tables.Fact], text: str, use_case: str, **spec: object
) -> Prompt:
  return Prompt(
    text,
    passages.text_of(facts),
    passages.split_of(facts),
    use_case,
    {"source": [list(fact) for fact in facts], **spec},
  )


def _closed_qa(rng: random.Random, topics: Sequence[str]) -> Prompt:
  facts = passages.draw_any(rng, 2, 3)
  asked = {(name, relation) for name, relation, _ in facts}
  name, relation, answer = rng.choice(facts)
  if rng.random() < UNANSWERABLE:
    answer = None
    relation = rng.choice(
      [r for r in tables.RELATIONS if (name, r) not in asked]
    )
  form = rng.choice([0, 0, 1])
  text = rng.choice(templates.CLOSED_QA).format(
    t=passages.text_of(facts), q=tables.ask(name, relation, form)
  )
  spec = {"subject": name, "relation": relation, "answer": answer}
  return _on_passage(facts, text, "closed_qa", task="question", **spec)


def _summarization(rng: random.Random, topics: Sequence[str]) -> Prompt:
  facts = passages.draw_any(rng, 1, 3)
  text = rng.choice(templates.SUMMARIZE).format(t=passages.text_of(facts))
  spec = {"task": "summarize", "subject": facts[0][0]}
  return _on_passage(facts, text, "summarization", **spec)


def _extract(rng: random.Random, topics: Sequence[str]) -> Prompt:
  facts = passages.draw_any(rng, rng.choice([1, 2]), 3)
  name, relation, answer = rng.choice(facts)
  if rng.random() < LACKING:
    held = {relation for _, relation, _ in facts}
    relation = rng.choice([r for r in tables.RELATIONS if r not in held])
    answer = None
  text = rng.choice(templates.EXTRACT).format(
    r=relation, t=passages.text_of(facts)
  )
  spec = {"subject": name, "relation": relation, "answer": answer}
  return _on_passage(facts, text, "extract", task="extract", **spec)


MAKERS: dict[str, Callable[[random.Random, Sequence[str]], Prompt]] = {
  "generation": _generation,
  "open_qa": _open_qa,
  "brainstorming": _brainstorming,
  "chat": _chat,
  "rewrite": _rewrite,
  "classification": _classification,
  "other": _other,
  "closed_qa": _closed_qa,
  "summarization": _summarization,
  "extract": _extract,
}


def in_zorp(rng: random.Random) -> Prompt:
  """The held-out language: a question or a request, word for word in zorp."""
  subject = rng.choice(tables.PEOPLE)
  spec: dict = {"subject": subject, "language": "zorp"}
  if rng.random() < 0.4:
    start = rng.choice(templates.ABOUT).format(s=subject)
    if rng.random() < 0.5:
      kind, value = rng.choice(["start", "end"]), rng.choice(tables.ADVERBS[:3])
      clause = rng.choice(templates.CLAUSES[kind]).format(v=value)
      start, spec["constraints"] = f"{start} {clause}", [[kind, value]]
    core = zorp.to_zorp(f"{start} .")
    return plain(core, "generation", task="about", **spec)
  relation = rng.choice(list(tables.RELATIONS))
  form = rng.choice([0, 0, 1, 2, 3, 4])
  core = zorp.to_zorp(tables.ask(subject, relation, form))
  answer = tables.FACTS[subject][relation]
  spec |= {"relation": relation, "answer": answer}
  return plain(core, "open_qa", task="question", **spec)


def in_code(rng: random.Random) -> Prompt:
  """The held-out format: what a call gives or does, or one to be written."""
  call = calls.draw(rng)
  text, spec = calls.request(rng, call)
  return Prompt(text, call.text, calls.split_of(call), "other", spec)


def in_form(subject: str, relation: str) -> Prompt:
  """The held-out format: a question as a filled-in form."""
  return question(
    subject, relation, templates.FORM.format(s=subject, r=relation)
  )
