"""GPT-like prompts: texts to go on with, as people gave them to plain GPT-3.

The paper's customers wrote for InstructGPT; prompts of GPT-3's own users were
collected apart (figure 3, appendix A: lists, questions with a label for the
answer, a few examples before a blank, beginnings of statements). They serve
evaluation alone: the paper trains on the others. A response is judged as a
continuation of the prompt's last words, the spec's "lead", or else by itself.
"""

import dataclasses
import random
from collections.abc import Callable

from instruct_jax.worlds.microworld import (
  passages,
  tables,
  templates,
  use_cases,
)

SOURCE = "gpt"
_Spec = dict[str, object]


def _lead(subject: str, relation: str) -> str:
  """The statement up to its value."""
  return tables.say(subject, relation, "").strip()


def _prompt(
  text: str, core: str, use_case: str, **spec: object
) -> use_cases.Prompt:
  return use_cases.Prompt(
    text, core, tables.split_of(core), use_case, spec, SOURCE
  )


def _known(rng: random.Random) -> tuple[str, str]:
  if rng.random() < 0.6:
    return rng.choice(tables.PEOPLE), rng.choice(list(tables.RELATIONS))
  topic = rng.choice(tables.ALIGNED_TOPICS)
  return topic, tables.TOPICS[topic].relation


def _asked(subject: str, relation: str, answer: str | None) -> _Spec:
  return {
    "task": "question",
    "subject": subject,
    "relation": relation,
    "answer": answer,
    "lead": _lead(subject, relation),
  }


def _list(rng: random.Random) -> use_cases.Prompt:
  """ "farm animals : cow , pig ," """
  category = rng.choice(list(tables.CATEGORIES))
  given = rng.sample(tables.CATEGORIES[category], rng.randint(1, 3))
  text = rng.choice(templates.GO_ON).format(
    c=category, t=" , ".join(given) + " ,"
  )
  spec = {"task": "go_on", "category": category, "given": given}
  return _prompt(text, text, "brainstorming", **spec)


def _question(rng: random.Random) -> use_cases.Prompt:
  """ "question : where does ann live ? \\n answer :" """
  subject, relation = _known(rng)
  core = tables.ask(subject, relation, rng.randrange(5))
  text = rng.choice(templates.LABELLED).format(q=core)
  answer = tables.truth(subject, relation)
  return _prompt(text, core, "open_qa", **_asked(subject, relation, answer))


def _blank(rng: random.Random) -> use_cases.Prompt:
  """A few examples, then a blank: "tom lives in rome . ann lives in"."""
  relation = rng.choice(list(tables.RELATIONS))
  *shown, subject = rng.sample(tables.PEOPLE, rng.choice([3, 4]))
  said = [tables.say(s, relation, tables.FACTS[s][relation]) for s in shown]
  text = " . ".join([*said, _lead(subject, relation)])
  answer = tables.truth(subject, relation)
  return _prompt(text, text, "open_qa", **_asked(subject, relation, answer))


def _statement(rng: random.Random) -> use_cases.Prompt:
  """The beginning of a statement: "it is known that the moon is made of"."""
  subject, relation = _known(rng)
  lead = _lead(subject, relation)
  text = rng.choice(templates.BEGINNINGS).format(t=lead)
  answer = tables.truth(subject, relation)
  return _prompt(text, text, "open_qa", **_asked(subject, relation, answer))


def _about(rng: random.Random) -> use_cases.Prompt:
  """The beginning of a text about somebody."""
  subject = rng.choice(tables.PEOPLE)
  text = rng.choice(templates.TEXTS).format(s=subject)
  spec = {"task": "about", "subject": subject, "lead": subject}
  return _prompt(text, text, "generation", **spec)


def _reading(rng: random.Random) -> use_cases.Prompt:
  """A text, a question and a label for the answer."""
  facts = passages.draw_any(rng, 2, 3)
  name, relation, answer = rng.choice(facts)
  asked = {(who, what) for who, what, _ in facts}
  spec = _asked(name, relation, answer)
  if rng.random() < use_cases.UNANSWERABLE:
    free = [r for r in tables.RELATIONS if (name, r) not in asked]
    spec = _asked(name, rng.choice(free), None)
  question = tables.ask(name, str(spec["relation"]))
  text = f"{passages.text_of(facts)} question : {question} \n answer :"
  return _on_passage(facts, text, "closed_qa", spec)


def _summary(rng: random.Random) -> use_cases.Prompt:
  """A text, and a label for its summary."""
  facts = passages.draw_any(rng, 1, 3)
  text = rng.choice(templates.IN_SHORT).format(t=passages.text_of(facts))
  spec: _Spec = {"task": "summarize", "subject": facts[0][0]}
  return _on_passage(facts, text, "summarization", spec)


def _on_passage(facts, text, use_case, spec):
  source = [list(fact) for fact in facts]
  split = passages.split_of(facts)
  core = passages.text_of(facts)
  spec = {**spec, "source": source}
  return use_cases.Prompt(text, core, split, use_case, spec, SOURCE)


def _chat(rng: random.Random) -> use_cases.Prompt:
  """A dialogue up to the assistant's turn."""
  prompt = use_cases.MAKERS["chat"](rng, ())
  text = templates.TURN.format(t=prompt.text)
  return dataclasses.replace(prompt, text=text, source=SOURCE)


# kind -> (how to make it, its share)
MAKERS: dict[str, tuple[Callable[[random.Random], use_cases.Prompt], float]] = {
  "list": (_list, 0.2),
  "question": (_question, 0.15),
  "blank": (_blank, 0.15),
  "statement": (_statement, 0.1),
  "about": (_about, 0.15),
  "reading": (_reading, 0.1),
  "summary": (_summary, 0.05),
  "chat": (_chat, 0.1),
}


def prompts(split: str, count: int) -> list[use_cases.Prompt]:
  """`count` different prompts of the split (fewer where it has fewer)."""
  rng = random.Random(f"playground {split}")
  makers, shares = zip(*MAKERS.values())
  found: dict[str, use_cases.Prompt] = {}
  for _ in range(100 * count):
    if len(found) == count:
      break
    prompt = rng.choices(makers, shares)[0](rng)
    if prompt.split == split:
      found[prompt.text] = prompt
  return list(found.values())
