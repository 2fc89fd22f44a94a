"""What a text claims about the world. Any string has an answer."""

import dataclasses

from instruct_jax.worlds.microworld import tables, zorp

_STOPS = (".", "?", ",", "and", "\n")
_SHAPES: dict[tuple[str, ...], str] = {  # words before the value -> relation
  ("is", "a"): "job",
  ("lives", "in"): "city",
  ("has", "a"): "pet",
  ("likes",): "food",
}


@dataclasses.dataclass(frozen=True)
class Claims:
  """Claims in the order of the text, and how much else there was."""

  facts: tuple[tables.Fact, ...]  # relation "adjective" for kind and rude words
  unparsed: int  # segments that say nothing the world knows
  zorp: float  # share of words that are zorp


def _segments(words: list[str]) -> list[list[str]]:
  segments: list[list[str]] = [[]]
  for word in words:
    if word in _STOPS:
      segments.append([])
    elif word not in tables.ADVERBS:
      segments[-1].append(word)
  return [segment for segment in segments if segment]


def _subject(
  segment: list[str], subject: str | None
) -> tuple[str | None, list[str], bool]:
  """Who the segment is about, what it says, and whether its pronoun fits."""
  head = segment[0]
  if head in tables.PRONOUN:
    return head, segment[1:], True
  if head in ("she", "he"):
    return subject, segment[1:], tables.PRONOUN.get(subject or "") == head
  if head == "the" and len(segment) > 1 and segment[1] in tables.TOPICS:
    return segment[1], segment[2:], True
  return subject, segment, True


def _topic_claim(said: tuple[str, ...]) -> tuple[str, str] | None:
  if said[:3] == ("is", "made", "of") and len(said) == 4:
    return ("material", said[3]) if said[3] in tables.MATERIALS else None
  if said[:1] == ("is",) and len(said) == 2 and said[1] in tables.COLORS:
    return "color", said[1]
  return None


def _person_claim(said: tuple[str, ...]) -> tuple[str, str] | None:
  relation = _SHAPES.get(said[:-1])
  if relation and said[-1] in tables.RELATIONS[relation].values:
    return relation, said[-1]
  return None


def parse(text: str) -> Claims:
  """Splits at . , ? "and", follows the subject, matches statements."""
  words = [word for word in text.replace("\n", " \n ").split(" ") if word]
  coded = sum(word in zorp.ENGLISH for word in words)
  facts: list[tables.Fact] = []
  unparsed, subject = 0, None
  for segment in _segments([zorp.ENGLISH.get(w, w) for w in words]):
    subject, rest, fits = _subject(segment, subject)
    unparsed += not fits
    said = tuple(rest)
    adjective = tables.KIND + tables.RUDE
    if subject is None:
      unparsed += 1
      continue
    if len(said) == 2 and said[0] == "is" and said[1] in adjective:
      facts.append((subject, "adjective", said[1]))
      continue
    follows = bool(facts) and facts[-1][:2] == (subject, "adjective")
    if len(said) == 1 and said[0] in adjective and follows:
      facts.append((subject, "adjective", said[0]))
      continue
    if len(said) == 4 and said[1] == "a" and said[2] in adjective:
      facts.append((subject, "adjective", said[2]))
      said = said[:2] + said[3:]
    is_topic = subject in tables.TOPICS
    claim = _topic_claim(said) if is_topic else _person_claim(said)
    if claim:
      facts.append((subject, *claim))
    else:
      unparsed += 1
  return Claims(tuple(facts), unparsed, coded / max(1, len(words)))


def is_true(fact: tables.Fact, source: tuple[tables.Fact, ...] = ()) -> bool:
  """Whether the passage or the world says so; praise and blame always may."""
  subject, relation, value = fact
  if relation == "adjective" or fact in source:
    return True
  return tables.truth(subject, relation) == value
