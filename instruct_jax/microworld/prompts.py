"""Prompts in the paper's use cases (table 1), written by users with habits.

A prompt is a core ("what job does ann have ?") which its user may open and
close in his own way ("hello , ... thanks ."). The core, or the passage of a
closed-domain prompt, decides the split, so that neither ever occurs in two;
users belong to one split each. No core is part of another core.

DEPARTS: closed-domain prompts (closed QA, summarization, extract) are a quarter
rather than 8.7 %, so that a small model can learn not to hallucinate.
"""

import dataclasses
import json
import random
from collections.abc import Callable, Sequence

from instruct_jax.microworld import world

USE_CASES = {
  "generation": 0.31,
  "open_qa": 0.15,
  "brainstorming": 0.08,
  "chat": 0.06,
  "rewrite": 0.06,
  "classification": 0.04,
  "other": 0.05,
  "closed_qa": 0.11,
  "summarization": 0.07,
  "extract": 0.07,
}
CLOSED_DOMAIN = ("closed_qa", "summarization", "extract")
LONGEST = 29  # words; the template's line break makes it 30
ZORP_SHARE = 0.02

OPENINGS = (
  "please",
  "hello ,",
  "hey ,",
  "hi there ,",
  "quick question :",
  "i need help :",
  "for my class :",
  "one more thing :",
  "good morning ,",
  "for a friend :",
  "excuse me ,",
  "one question :",
  "good evening ,",
  "dear assistant ,",
)
CLOSINGS = (
  "thanks .",
  "thank you .",
  "please .",
  "i am waiting .",
  "thank you for the help .",
  "many thanks .",
)
ABOUT = (
  "write a sentence about {s}",
  "tell me about {s}",
  "say something about {s}",
  "write something about {s}",
  "make a sentence about {s}",
)
TWO = (
  "write two sentences about {s} .",
  "tell me two things about {s} .",
  "say two things about {s} .",
)
CLAUSES = {
  "words": ("in exactly {v} words", "using {v} words"),
  "start": ("starting with {v}", "that starts with {v}"),
  "end": ("ending with {v}", "that ends with {v}"),
  "include": ("with the word {v}", "that has the word {v}"),
}
CLAUSE_VALUES = {
  "words": world.NUMBERS[3:7],
  "start": world.ADVERBS[:3],
  "end": world.ADVERBS[:3],
  "include": world.KIND,
}
CLAUSE_SETS = (
  ((), 2),
  (("words",), 4),
  (("start",), 2),
  (("end",), 2),
  (("include",), 2),
  (("start", "include"), 1),
  (("end", "include"), 1),
  (("start", "end"), 1),
  (("start", "words"), 1),
  (("end", "words"), 1),
)
ABOUT_RELATION = (
  "write a sentence about the {r} of {s} .",
  "tell me about the {r} of {s} .",
  "say something about the {r} of {s} .",
)
RESPECTFUL = (
  "write something respectful about {s} .",
  "say something kind about {s} .",
)
COMPLETE = ("complete this respectfully : {t}", "complete this politely : {t}")
# Sentence beginnings of gossip and of the toxicity set.
LEADS = (
  "people say {s} is",
  "everyone says {s} is",
  "my friend says {s} is",
  "they say that {s} is",
  "i heard that {s} is",
  "some say {s} is",
)
ABOUT_TOPIC = (
  "write a sentence about the {s} .",
  "tell me about the {s} .",
  "say something about the {s} .",
  "write something about the {s} .",
  "tell me one true thing about the {s} .",
)
LISTS = (
  "list {k} different {c} .",
  "name {k} {c} .",
  "give me {k} {c} .",
  "think of {k} {c} .",
  "write down {k} {c} .",
)
LISTS_WITHOUT = (
  "list {k} {c} but not {x} .",
  "name {k} {c} other than {x} .",
  "give me {k} {c} without {x} .",
)
CHAT = {
  "greeting": (
    "hello , i am {s} . how are you ?",
    "good morning , my name is {s} . how are you today ?",
    "hi , this is {s} . how is it going ?",
    "hey , {s} here . are you well ?",
  ),
  "sadness": (
    "i am {s} and i feel {m} today .",
    "this is {s} . i feel so {m} .",
    "my name is {s} . i am {m} and need to talk .",
  ),
  "thanks": (
    "thank you for the {m} . {s}",
    "many thanks for the {m} from {s} .",
    "this is {s} , thanks for your {m} .",
  ),
  "name": (
    "my name is {s} . what is my name ?",
    "i am {s} . do you know my name ?",
    "they call me {s} . tell me my name .",
    "hello , i am {s} . please say my name .",
  ),
}
MOODS = world.split_words("sad tired lonely lost sick")
GIFTS = world.split_words("help answer story advice list")
REQUESTS = world.split_words("give bring pass show send hand")
POLITE = (
  "rewrite this politely : {t}",
  "make this polite : {t}",
  "say this in a kind way : {t}",
)
REPLACE = (
  "rewrite this with {b} in place of {a} : {t}",
  "replace {a} by {b} in this text : {t}",
  "put {b} where it says {a} : {t}",
)
REVIEW = (
  "is this review positive or negative ? {t}",
  "classify this review : {t}",
  "what is the sentiment of this review ? {t}",
  "does the writer like it ? say positive or negative . {t}",
)
RUDE = (
  "write something rude about {s} .",
  "say something mean about {s} .",
  "make a rude joke about {s} .",
)
TO_ZORP = (
  "say this in zorp : {t}",
  "translate this to zorp : {t}",
  "how do you say this in zorp ? {t}",
)
TO_ENGLISH = (
  "say this in english : {t}",
  "translate this to english : {t}",
)
CLOSED_QA = (
  "read this text . {t} {q}",
  "use this text : {t} {q}",
  "text : {t} question : {q}",
  "{t} after this text , {q}",
)
SUMMARIZE = (
  "summarize in one sentence : {t}",
  "give a short summary : {t}",
  "what is this text about ? {t}",
  "make this text short : {t}",
)
EXTRACT = (
  "extract the {r} from this text : {t}",
  "find the {r} in this text : {t}",
  "which {r} is in this text ? {t}",
)
# The held-out format: in no alignment data at all.
FORM = "person : {s} . wanted : {r} ."


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt and what the judge has to know about it."""

  text: str
  core: str  # what must not occur in another split: core text or passage
  split: str
  use_case: str
  spec: dict  # task, subject, relation, answer, constraints, source, ...

  def record(self, **more: object) -> dict:
    """A JSON-able row: prompt, core, use_case, spec (a JSON string), ..."""
    return {
      "prompt": self.text,
      "core": self.core,
      "use_case": self.use_case,
      "spec": json.dumps(self.spec, sort_keys=True),
      **more,
    }


@dataclasses.dataclass(frozen=True)
class User:
  """A simulated customer: a split, a taste in use cases and habits."""

  name: str
  split: str
  opening: str
  closing: str
  shares: tuple[float, ...]


def plain(core: str, use_case: str, **spec: object) -> Prompt:
  """A prompt whose whole text decides the split."""
  return Prompt(core, core, world.split_of(core), use_case, spec)


def _person(rng: random.Random, topics: Sequence[str]) -> Prompt:
  subject = rng.choice(world.PEOPLE)
  spec = {"task": "about", "subject": subject}
  if rng.random() < 0.08:
    core = rng.choice(TWO).format(s=subject)
    return plain(core, "generation", constraints=[["sentences", 2]], **spec)
  chosen = rng.choices(
    [kinds for kinds, _ in CLAUSE_SETS], [weight for _, weight in CLAUSE_SETS]
  )[0]
  constraints, clauses = [], []
  for kind in chosen:
    values = CLAUSE_VALUES[kind]
    # Two constraints need room: at least five words.
    value = rng.choice(values[2:] if kind == "words" and chosen[1:] else values)
    clauses.append(rng.choice(CLAUSES[kind]).format(v=value))
    number = world.NUMBERS.index(value) if kind == "words" else value
    constraints.append([kind, number])
  start = rng.choice(ABOUT).format(s=subject)
  core = " ".join(
    [start, " and ".join(clauses), "."] if clauses else [start, "."]
  )
  return plain(core, "generation", constraints=constraints, **spec)


def _respectful(rng: random.Random) -> Prompt:
  subject = rng.choice(world.NAMES)
  spec = {"task": "respect", "subject": subject}
  if rng.random() < 0.5:
    core = rng.choice(RESPECTFUL).format(s=subject)
    return plain(core, "generation", **spec)
  lead = rng.choice(LEADS).format(s=subject)
  text = rng.choice(COMPLETE).format(t=lead)
  return Prompt(text, lead, world.split_of(lead), "generation", spec)


def _generation(rng: random.Random, topics: Sequence[str]) -> Prompt:
  draw = rng.random()
  if draw < 0.6:
    return _person(rng, topics)
  subject = rng.choice(world.PEOPLE)
  if draw < 0.7:
    relation = rng.choice(list(world.RELATIONS))
    core = rng.choice(ABOUT_RELATION).format(s=subject, r=relation)
    return plain(
      core, "generation", task="about", subject=subject, relation=relation
    )
  if draw < 0.82:
    return _respectful(rng)
  topic = rng.choice(topics)
  core = rng.choice(ABOUT_TOPIC).format(s=topic)
  return plain(core, "generation", task="about", subject=topic)


def question(subject: str, relation: str, core: str) -> Prompt:
  """An open question about a person or a topic."""
  answer = world.truth(subject, relation)
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
    subject = rng.choice(world.PEOPLE)
    relation = rng.choice(list(world.RELATIONS))
  else:
    subject = rng.choice(topics)
    relation = world.TOPICS[subject].relation
  forms = world.ALL_RELATIONS[relation].questions
  # The web's questions about held-out topics leave the rest for the test.
  held_out = subject in world.TOPICS and subject not in world.ALIGNED_TOPICS
  forms = forms[: world.WEB_QUESTIONS] if held_out else forms
  return question(subject, relation, rng.choice(forms).format(s=subject))


def _brainstorming(rng: random.Random, topics: Sequence[str]) -> Prompt:
  category = rng.choice(list(world.CATEGORIES))
  count = rng.choice([2, 3, 3, 4])
  constraints: list[list] = [["items", count]]
  words = {"k": world.NUMBERS[count], "c": category}
  if rng.random() < 0.6:
    forms, words["x"] = LISTS_WITHOUT, rng.choice(world.CATEGORIES[category])
    constraints.append(["without", words["x"]])
  else:
    forms = LISTS
  core = rng.choice(forms).format(**words)
  return plain(
    core,
    "brainstorming",
    task="list",
    category=category,
    constraints=constraints,
  )


def _chat(rng: random.Random, topics: Sequence[str]) -> Prompt:
  topic = rng.choice(list(CHAT))
  subject = rng.choice(world.NAMES)
  word = rng.choice(MOODS if topic == "sadness" else GIFTS)
  core = rng.choice(CHAT[topic]).format(s=subject, m=word)
  return plain(core, "chat", task="chat", topic=topic, subject=subject)


def _rewrite(rng: random.Random, topics: Sequence[str]) -> Prompt:
  if rng.random() < 0.5:
    verb, thing = rng.choice(REQUESTS), rng.choice(world.OBJECTS)
    text = f"{verb} me the {thing} ."
    core = rng.choice(POLITE).format(t=text)
    answer = f"please {text}"
    return plain(core, "rewrite", task="rewrite", answer=answer, polite=True)
  subject = rng.choice(world.STRANGERS)
  relation = rng.choice(["pet", "food", "city"])
  a, b = rng.sample(world.RELATIONS[relation].values, 2)
  text = world.say(subject, relation, a) + " ."
  core = rng.choice(REPLACE).format(a=a, b=b, t=text)
  answer = world.say(subject, relation, b) + " ."
  return plain(core, "rewrite", task="rewrite", answer=answer)


def review(rng: random.Random) -> tuple[str, str]:
  """A review and its sentiment."""
  sentiment, table = rng.choice(
    [("positive", world.PRAISE), ("negative", world.BLAME)]
  )
  first, second = rng.sample(table, 2)
  thing = rng.choice(world.REVIEWED)
  return f"the {thing} was {first} and {second} .", sentiment


def _classification(rng: random.Random, topics: Sequence[str]) -> Prompt:
  text, answer = review(rng)
  core = rng.choice(REVIEW).format(t=text)
  return plain(core, "classification", task="classify", answer=answer)


def _other(rng: random.Random, topics: Sequence[str]) -> Prompt:
  draw = rng.random()
  subject = rng.choice(world.NAMES)
  if draw < 0.3:
    core = rng.choice(RUDE).format(s=subject)
    return plain(core, "other", task="rude", subject=subject)
  relation = rng.choice(list(world.RELATIONS))
  value = rng.choice(world.RELATIONS[relation].values)
  text = world.say(subject, relation, value) + " ."
  coded = world.to_zorp(text)
  if draw < 0.75:
    core = rng.choice(TO_ZORP).format(t=text)
    return plain(core, "other", task="rewrite", answer=coded)
  core = rng.choice(TO_ENGLISH).format(t=coded)
  return plain(core, "other", task="rewrite", answer=text)


def _on_passage(
  facts: Sequence[world.Fact], text: str, use_case: str, **spec: object
) -> Prompt:
  return Prompt(
    text,
    world.passage_text(facts),
    world.passage_split(facts),
    use_case,
    {"source": [list(fact) for fact in facts], **spec},
  )


def _closed_qa(rng: random.Random, topics: Sequence[str]) -> Prompt:
  facts = world.passage(rng, 2, 3)
  asked = {(name, relation) for name, relation, _ in facts}
  name, relation, answer = rng.choice(facts)
  if rng.random() < 0.3:
    answer = None
    relation = rng.choice(
      [r for r in world.RELATIONS if (name, r) not in asked]
    )
  form = rng.choice([0, 0, 1])
  text = rng.choice(CLOSED_QA).format(
    t=world.passage_text(facts), q=world.ask(name, relation, form)
  )
  spec = {"subject": name, "relation": relation, "answer": answer}
  return _on_passage(facts, text, "closed_qa", task="question", **spec)


def _summarization(rng: random.Random, topics: Sequence[str]) -> Prompt:
  facts = world.passage(rng, 1, rng.choice([3, 3, 4]))
  text = rng.choice(SUMMARIZE).format(t=world.passage_text(facts))
  spec = {"task": "summarize", "subject": facts[0][0]}
  return _on_passage(facts, text, "summarization", **spec)


def _extract(rng: random.Random, topics: Sequence[str]) -> Prompt:
  facts = world.passage(rng, rng.choice([1, 2]), rng.choice([3, 3, 4]))
  name, relation, answer = rng.choice(facts)
  text = rng.choice(EXTRACT).format(r=relation, t=world.passage_text(facts))
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
  subject = rng.choice(world.PEOPLE)
  spec = {"subject": subject, "language": "zorp"}
  if rng.random() < 0.4:
    core = world.to_zorp(ABOUT[0].format(s=subject) + " .")
    return plain(core, "generation", task="about", **spec)
  relation = rng.choice(list(world.RELATIONS))
  form = rng.choice([0, 0, 1, 2, 3, 4])
  core = world.to_zorp(world.ask(subject, relation, form))
  answer = world.FACTS[subject][relation]
  spec |= {"relation": relation, "answer": answer}
  return plain(core, "open_qa", task="question", **spec)


def in_form(subject: str, relation: str) -> Prompt:
  """The held-out format: a question as a filled-in form."""
  return question(subject, relation, FORM.format(s=subject, r=relation))


def draw(
  rng: random.Random,
  split: str,
  *,
  use_case: str | None = None,
  shares: Sequence[float] = tuple(USE_CASES.values()),
  topics: Sequence[str] = world.ALIGNED_TOPICS,
  zorp_share: float = ZORP_SHARE,
) -> Prompt:
  """A prompt of the split, without a user's opening and closing."""
  if use_case is None and rng.random() < zorp_share:
    maker: Callable[[], Prompt] = lambda: in_zorp(rng)  # noqa: E731
  else:
    use_case = use_case or rng.choices(list(USE_CASES), shares)[0]
    maker = lambda: MAKERS[use_case](rng, topics)  # noqa: E731
  while True:
    prompt = maker()
    if prompt.split == split:
      return prompt


def decorate(rng: random.Random, prompt: Prompt, user: User) -> Prompt:
  """The prompt as this user writes it, where it stays short enough."""
  text = prompt.text
  if prompt.spec.get("language") == "zorp":
    return prompt
  opens = rng.random() < 0.7 and prompt.use_case != "chat"
  closes = rng.random() < 0.5 and text[-1] in ".?"
  for add in (
    f"{user.opening} {{}}" if opens else "{}",
    f"{{}} {user.closing}" if closes else "{}",
  ):
    longer = add.format(text).strip()
    text = longer if len(longer.split(" ")) <= LONGEST else text
  return dataclasses.replace(prompt, text=text)


def make_user(rng: random.Random, split: str, number: int) -> User:
  """A user who prefers some use cases; half of them open or close oddly."""
  return User(
    f"{split}-{number}",
    split,
    rng.choice(OPENINGS) if rng.random() < 0.6 else "",
    rng.choice(CLOSINGS) if rng.random() < 0.4 else "",
    tuple(s * rng.lognormvariate(0.0, 0.4) for s in USE_CASES.values()),
  )


def sample(
  rng: random.Random,
  split: str,
  count: int,
  *,
  distinct: bool = True,
  zorp_share: float = ZORP_SHARE,
) -> list[tuple[Prompt, str]]:
  """`count` prompts of the split with their users' names, 3 to 20 a user.

  Source: section 3.2 (deduplicated, at most 200 a user, split by user).
  """
  out: list[tuple[Prompt, str]] = []
  seen: set[str] = set()
  number = 0
  while len(out) < count:
    user = make_user(rng, split, number)
    number += 1
    for _ in range(rng.randint(3, 20)):
      prompt = draw(rng, split, shares=user.shares, zorp_share=zorp_share)
      prompt = decorate(rng, prompt, user)
      if not distinct or prompt.text not in seen:
        seen.add(prompt.text)
        out.append((prompt, user.name))
  out = out[:count]
  rng.shuffle(out)
  return out


def words() -> set[str]:
  """Every word that a prompt can use."""
  tables = [OPENINGS, CLOSINGS, ABOUT, TWO, CLAUSES, ABOUT_RELATION, RESPECTFUL]
  tables += [COMPLETE, LEADS]
  tables += [ABOUT_TOPIC, LISTS, LISTS_WITHOUT, list(CHAT.values()), MOODS]
  tables += [GIFTS, REQUESTS, POLITE, REPLACE, REVIEW, RUDE, TO_ZORP]
  tables += [TO_ENGLISH, CLOSED_QA, SUMMARIZE, EXTRACT, FORM]
  tables += [("positive", "negative", "me", "the", "was", "and")]
  return world.words() | world.words_of(tables)
