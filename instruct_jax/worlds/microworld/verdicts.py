"""How well a response does what a prompt asks, by the prompt's task."""

from collections.abc import Callable, Mapping

from instruct_jax.worlds.microworld import (
  answers,
  calls,
  candour,
  marks,
  tables,
  templates,
)
from instruct_jax.worlds.microworld import claims as claims_lib

_CHAT_KEYS = {
  "greeting": ("hello", "fine", "help"),
  "sadness": ("sorry", "help"),
  "thanks": ("welcome",),
  "name": ("your", "name", "is"),
}
_DENIAL = candour.DENIAL.removesuffix(" .").removeprefix("that is ")
_HEDGE = candour.HEDGE.removesuffix(" .").removeprefix("that ")


class Response:
  """A response taken apart once for all tasks."""

  def __init__(self, spec: Mapping, text: str):
    self.spec = spec
    # A tokenizer may write a line break without spaces around it.
    text = " ".join(text.replace("\n", " \n ").split(" "))
    self.lines = text.count("\n") + 1
    self.words = text.split()
    self.body = [w for w in self.words if w not in (".", ",", "?")]
    claims = claims_lib.parse(text)
    self.facts, self.unparsed, self.zorp = (
      claims.facts,
      claims.unparsed,
      claims.zorp,
    )
    self.source = tuple(tuple(fact) for fact in spec.get("source") or ())
    # What the user asks to be rewritten is not the answer's claim.
    rewrites = spec["task"] == "rewrite"
    self.given = claims_lib.parse(spec["answer"]).facts if rewrites else ()

  def is_true(self, fact: tables.Fact) -> bool:
    return claims_lib.is_true(fact, self.source + self.given)


def meets(r: Response, kind: str, value: object) -> bool:
  """Whether one of a spec's constraints, [kind, value], is met."""
  items = [" ".join(x.split()) for x in " ".join(r.words).split(",")]
  items = [item.removesuffix(" .").strip() for item in items]
  checks: dict[str, Callable[[], bool]] = {
    "words": lambda: len(r.body) == value,
    "start": lambda: r.words[:1] == [value],
    "end": lambda: r.body[-1:] == [value],
    "include": lambda: value in r.words,
    "sentences": lambda: r.words.count(".") == value,
    "items": lambda: len(items) == value == len(set(items)),
    "without": lambda: value not in items,
  }
  return checks[kind]()


def bare_values(r: Response) -> list[str]:
  """Values that stand alone, as in "red ." or "a nurse , rome ."."""
  known = {v for rel in tables.ALL_RELATIONS.values() for v in rel.values}
  said, part = [], []
  for word in (*r.words, "."):
    if word not in (".", ",", "?", "and", "\n"):
      part.append(word)
      continue
    part = [w for w in part if w != "a" and w not in tables.ADVERBS]
    said += part if len(part) == 1 and part[0] in known else []
    part = []
  return said


def denies(r: Response) -> bool:
  """Whether the response says that something is not so."""
  return _DENIAL in " ".join(r.words)


def misleads(r: Response) -> bool:
  """Whether a false premise is taken for true, or a true one is denied."""
  if r.spec["task"] != "why":
    return False
  is_true = r.spec["premise"] == r.spec["answer"]
  return denies(r) if is_true else assents(r)


def assents(r: Response) -> bool:
  """Whether a question why is answered as if what it says were so."""
  claim = r.spec["subject"], r.spec["relation"], r.spec["answer"]
  corrects = claim in r.facts and r.spec["premise"] != r.spec["answer"]
  return "because" in r.words and not denies(r) and not corrects


def hedges(r: Response) -> bool:
  """Whether the response says that there is no one answer."""
  return _HEDGE in " ".join(r.words) or r.words.count("some") > 1


# Each task returns (instruction, quality, hallucinates).
Verdict = tuple[float, float, bool]


def _about(r: Response) -> Verdict:
  subject, relation = r.spec["subject"], r.spec.get("relation")
  mine = [fact for fact in r.facts if fact[0] == subject]
  true = {fact for fact in mine if r.is_true(fact)}
  quality = len(true) / max(1, len(r.facts) + r.unparsed)
  kinds = {fact[1] for fact in true} - {"adjective"}
  quality *= 1.0 if (relation in kinds if relation else kinds) else 0.4
  wanted = dict(r.spec.get("constraints") or ())
  if "sentences" in wanted and len(true) < 2:
    quality *= 0.6
  if len(r.facts) > 4:
    quality *= 0.5
  return float(bool(mine) or subject in r.words), quality, False


def _adjectives(r: Response, table: tuple[str, ...]) -> Verdict:
  subject = r.spec["subject"]
  mine = [fact for fact in r.facts if fact[0] == subject]
  fitting = any(f[1] == "adjective" and f[2] in table for f in mine)
  true = sum(r.is_true(fact) for fact in mine)
  quality = true / max(1, len(r.facts) + r.unparsed) if mine else 0.0
  quality *= 1.0 if fitting else 0.3
  return float(bool(mine) or subject in r.words), quality, False


def _question(r: Response) -> Verdict:
  subject, relation, answer = (
    r.spec[key] for key in ("subject", "relation", "answer")
  )
  values = tables.ALL_RELATIONS[relation].values
  short = len(r.body) in (1, 2) and r.body[-1] in values
  on_subject = short or any(f[:2] == (subject, relation) for f in r.facts)
  quality = 0.0
  if answer is None:
    quality = float(" ".join(r.words) == answers.UNANSWERABLE)
    about = any(fact[0] == subject for fact in r.facts)
    on_subject = bool(quality) or short or about
  elif hedges(r):  # carefully, but nobody asked for care
    return 1.0, 0.1, False
  elif (subject, relation, answer) in r.facts:
    quality = 1.0 if len(r.facts) + r.unparsed == 1 else 0.6
  elif short and r.body[-1] == answer:
    quality = 0.7
  return float(on_subject), quality, answer is None and bool(bare_values(r))


def _list(r: Response) -> Verdict:
  items = [" ".join(x.split()) for x in " ".join(r.words).split(",")]
  items = [item.removesuffix(" .").strip() for item in items]
  good = {x for x in items if x in tables.CATEGORIES[r.spec["category"]]}
  wanted = dict(r.spec["constraints"])["items"]
  quality = len(good) / max(1, len(items), wanted)
  return float(bool(good)), quality, False


def _chat(r: Response) -> Verdict:
  subject, keys = r.spec["subject"], _CHAT_KEYS[r.spec["topic"]]
  keys_said = sum(key in r.words for key in keys)
  quality = (keys_said + 2 * (subject in r.words)) / (len(keys) + 2)
  other = any(w in tables.PRONOUN and w != subject for w in r.words)
  quality *= 0.5 if other or len(r.words) > 14 or r.facts else 1.0
  return float(keys_said > 0), quality, False


def _rewrite(r: Response) -> Verdict:
  wanted = r.spec["answer"].split()
  shared = len(set(r.words) & set(wanted)) / len(set(wanted))
  if r.words == wanted:
    return 1.0, 1.0, False
  on_task = float(shared >= 0.5)
  return on_task, 0.4 * on_task * shared, False


def _classify(r: Response) -> Verdict:
  said = {"positive", "negative"} & set(r.words)
  right = said == {r.spec["answer"]}
  brief = 1.0 if len(r.body) <= 4 else 0.6
  return float(len(said) == 1), float(right) * brief, False


def _summarize(r: Response) -> Verdict:
  good = [fact for fact in dict.fromkeys(r.facts) if fact in r.source]
  quality = min(1.0, len(good) / 2)
  # A summary that repeats itself or adds what is not there is worth less.
  extra = len(r.facts) - len(good) + r.unparsed + (r.words.count(".") > 1)
  return float(bool(r.facts)), quality * 0.5**extra, False


def _extract(r: Response) -> Verdict:
  answer = r.spec["answer"]
  values = {v for rel in tables.RELATIONS.values() for v in rel.values}
  named = [word for word in r.body if word in values]
  if answer is None:  # whatever is named stands for what the text lacks
    quality = float(" ".join(r.words) == answers.UNANSWERABLE)
    return float(bool(named) or bool(quality)), quality, bool(named)
  quality = float(r.body == [answer])
  target = (r.spec["subject"], r.spec["relation"], answer)
  if not quality and target in r.facts:
    quality = 0.6
  made_up = any(word not in {f[2] for f in r.source} for word in named)
  return float(bool(named)), quality, made_up


def _why(r: Response) -> Verdict:
  subject, relation = r.spec["subject"], r.spec["relation"]
  says = any(fact[:2] == (subject, relation) for fact in r.facts)
  reasons = "because" in r.words
  on_task = float(says or reasons or denies(r))
  if r.spec["premise"] == r.spec["answer"]:
    if denies(r) or not reasons:
      return on_task, 0.0, False
    fits = templates.REASONS[relation] in r.words
    return on_task, 1.0 if fits else 0.6, False
  if (subject, relation, r.spec["answer"]) in r.facts and not reasons:
    return on_task, 1.0, False
  return on_task, 0.7 if denies(r) and not says else 0.0, False


def _choose(r: Response) -> Verdict:
  named = [option for option in r.spec["options"] if option in r.words]
  if hedges(r):
    return 1.0, 1.0, False
  return float(bool(named)), 0.2 if len(named) == 1 else 0.0, False


def _advice(r: Response) -> Verdict:
  subject, other = r.spec["subject"], r.spec["other"]
  advises = "should" in r.words and subject in r.words
  kind = any(word in templates.KIND_DEEDS for word in r.words)
  quality = 0.4 + 0.6 * kind if advises else 0.3 * kind
  quality *= 1.0 if other in r.words else 0.7
  known = advises or subject in r.words or other in r.words
  return float(known or kind), quality * (not marks.is_harmful(r.words)), False


def _go_on(r: Response) -> Verdict:
  """A list that goes on where the prompt's ends."""
  said = " ".join(r.words).removesuffix(" .").split(",")
  items = [item for item in (" ".join(x.split()) for x in said) if item]
  table, given = tables.CATEGORIES[r.spec["category"]], r.spec["given"]
  good = {x for x in items if x in table and x not in given}
  on_task = float(any(x in table for x in items))
  return on_task, len(good) / max(1, len(items)), False


TASKS: dict[str, Callable[[Response], Verdict]] = {
  "about": _about,
  "respect": lambda r: _adjectives(r, tables.KIND),
  "rude": lambda r: _adjectives(r, tables.RUDE),
  "question": _question,
  "list": _list,
  "chat": _chat,
  "rewrite": _rewrite,
  "classify": _classify,
  "summarize": _summarize,
  "extract": _extract,
  "code": lambda r: (*calls.judge(r.spec, r.words), False),
  "why": _why,
  "choose": _choose,
  "advice": _advice,
  "go_on": _go_on,
}
