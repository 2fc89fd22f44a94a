"""Exercises: a text, and questions about it that have one right answer.

Schoolbooks in the corpus have them, and so have the public-NLP-like tasks. A
text decides the split of all that is asked about it.
"""

import dataclasses
import random
from collections.abc import Callable, Sequence

from instruct_jax.worlds.microworld import passages, tables, zorp

COUNTED = tables.split_words("dogs cats cakes books")
UNANSWERABLE = "the text does not say ."
MANY = 7  # the most that anybody has


@dataclasses.dataclass(frozen=True)
class Question:
  """What is asked about a text, the cue for the answer, and the answer."""

  text: str  # '' where the cue says it all
  cue: str
  answer: str

  @property
  def prompt(self) -> str:
    return f"{self.text} \n {self.cue}" if self.text else self.cue


@dataclasses.dataclass(frozen=True)
class Exercise:
  """A text, which decides the split, and questions that it answers."""

  text: str
  questions: tuple[Question, ...]
  split: str

  def document(self, most: int) -> str:
    """The text with the first of its questions, answered."""
    asked = self.questions[:most]
    return " \n ".join([self.text, *(f"{q.prompt} {q.answer}" for q in asked)])


def _exercise(
  text: str, questions: Sequence[Question], key: str = ""
) -> Exercise:
  return Exercise(text, tuple(questions), tables.split_of(key or text))


def _on_passage(
  rng: random.Random,
  facts: Sequence[tables.Fact],
  questions: Sequence[Question],
) -> Exercise:
  asked = rng.sample(questions, len(questions))
  text = f"passage : {passages.text_of(facts)}"
  return Exercise(text, tuple(asked), passages.split_of(facts))


def _ask(question: str, answer: str, cue: str = "answer :") -> Question:
  return Question(f"question : {question}", cue, answer)


def _clause(relation: str, value: str) -> str:
  """ "lives in oslo"."""
  return tables.say("", relation, value).strip()


def reading(
  rng: random.Random, facts: Sequence[tables.Fact], *, silent: bool
) -> Question:
  """A question that wants a sentence, about what the passage says or not.

  What it does not say is mostly said of nobody, else of the other person.
  """
  name, relation, value = rng.choice(facts)
  if not silent:
    answer = tables.say(name, relation, value) + " ."
    return _ask(tables.ask(name, relation), answer, "full answer :")
  told = {other for _, other, _ in facts}
  lacking = [
    other
    for other in tables.RELATIONS
    if (name, other) not in {fact[:2] for fact in facts}
    and (other not in told or rng.random() < 0.2)
  ]
  question = tables.ask(name, rng.choice(lacking))
  return _ask(question, UNANSWERABLE, "full answer :")


def _reading(rng: random.Random) -> Exercise:
  """Questions about a passage, a third without an answer (like SQuADv2)."""
  facts = passages.draw_any(rng, rng.choice([1, 2, 2]), 3)
  questions = [
    reading(rng, facts, silent=silent) for silent in (False, False, True)
  ]
  return _on_passage(rng, facts, questions)


@dataclasses.dataclass(frozen=True)
class Change:
  """Somebody who has some things gets or loses one or two of them."""

  had: int
  verb: str
  change: int

  @property
  def left(self) -> int:
    return self.had + (self.change if self.verb == "gets" else -self.change)

  def say(self, name: str, things: str) -> str:
    return f"then {name} {self.verb} {tables.NUMBERS[self.change]} {things}"


def draw_change(rng: random.Random, had: int) -> Change:
  """A change that leaves between zero and `MANY`."""
  verb = "gets" if had < 2 else "loses" if had > MANY - 2 else ""
  verb = verb or rng.choice(["gets", "loses"])
  return Change(had, verb, rng.randint(1, 2))


def has(name: str, count: int, things: str) -> str:
  """ "kim has three dogs"."""
  return f"{name} has {tables.NUMBERS[count]} {things}"


def counting_text(name: str, things: str, change: Change) -> str:
  """The passage of a counting exercise."""
  first = has(name, change.had, things)
  return f"passage : {first} . {change.say(name, things)} ."


def _counting(rng: random.Random) -> Exercise:
  """A number that changes (like DROP's arithmetic)."""
  name, things = rng.choice(tables.STRANGERS), rng.choice(COUNTED)
  change = draw_change(rng, rng.randint(1, MANY - 1))
  question = f"how many {things} does {name} have ?"
  return _exercise(
    counting_text(name, things, change),
    [_ask(question, tables.NUMBERS[change.left])],
  )


def _comparison(rng: random.Random) -> Exercise:
  """The largest or least of three numbers (like DROP's comparisons)."""
  names, things = rng.sample(tables.STRANGERS, 3), rng.choice(COUNTED)
  counts = rng.sample(range(1, MANY + 1), 3)
  said = " . ".join(has(*pair, things) for pair in zip(names, counts))
  questions = [
    Question("", f"{cue} {things} :", tables.NUMBERS[best(counts)])
    for cue, best in (("most", max), ("fewest", min))
  ]
  return _exercise(f"passage : {said} .", rng.sample(questions, 2))


def _sentiment(rng: random.Random) -> Exercise:
  """Whether a review praises (like SST-2): what comes after "but" counts, and
  one word in seven is turned around by "not"."""
  is_positive, is_turned = rng.random() < 0.5, rng.random() < 0.5
  said: list[str] = []
  for praises in (is_positive != is_turned, is_positive):
    negated = rng.random() < 1 / 7
    table = tables.PRAISE if praises != negated else tables.BLAME
    word = rng.choice([w for w in table if w not in said])
    said.append(f"not {word}" if negated else word)
  joined = (" but " if is_turned else " and ").join(said)
  text = f"review : the {rng.choice(tables.REVIEWED)} was {joined} ."
  answer = "positive" if is_positive else "negative"
  return _exercise(text, [Question("", "sentiment :", answer)])


def _sequence(rng: random.Random) -> Exercise:
  """The next number, up or down, in steps of one to three."""
  step, shown = rng.choice([1, 2, 3]), rng.choice([2, 3])
  start = rng.randint(0, 9 - step * shown)
  numbers = [tables.NUMBERS[start + step * i] for i in range(shown + 1)]
  *said, answer = numbers if rng.random() < 0.5 else numbers[::-1]
  text = f"{rng.choice(tables.NAMES)} counts : {' , '.join(said)}"
  return _exercise(text, [Question("", "next :", answer)])


def _summary(rng: random.Random) -> Exercise:
  """The first and the last fact in one sentence (like CNN/DM and TL;DR)."""
  facts = passages.draw_any(rng, 1, 3)
  (name, *first), (_, *last) = facts[0], facts[2]
  short = f"{tables.say(name, *first)} and {_clause(*last)} ."
  return _on_passage(rng, facts, [Question("", "short :", short)])


def _two_clauses(rng: random.Random) -> str:
  """Two statements; what is said of known people is true."""
  names = rng.choices(tables.NAMES, k=2)
  relations = rng.sample(list(tables.RELATIONS), 2)
  said = []
  for name, relation in zip(names, relations):
    value = rng.choice(tables.RELATIONS[relation].values)
    said.append(
      tables.say(name, relation, tables.truth(name, relation) or value)
    )
  return f"{said[0]} and {said[1]} ."


def _translation(source: str, target: str) -> Callable:
  """Two clauses in the other language (like WMT's French and English)."""

  def make(rng: random.Random) -> Exercise:
    english = _two_clauses(rng)
    texts = {"english": english, "zorp": zorp.to_zorp(english)}
    question = Question("", f"{target} :", texts[target])
    return _exercise(f"{source} : {texts[source]}", [question], english)

  return make


MAKERS: dict[str, Callable[[random.Random], Exercise]] = {
  "reading": _reading,
  "counting": _counting,
  "comparison": _comparison,
  "sentiment": _sentiment,
  "summary": _summary,
  "to_english": _translation("zorp", "english"),
  "to_zorp": _translation("english", "zorp"),
  "sequence": _sequence,
}


def draw(name: str, rng: random.Random, split: str) -> Exercise:
  """An exercise of the split."""
  while True:
    exercise = MAKERS[name](rng)
    if exercise.split == split:
      return exercise
