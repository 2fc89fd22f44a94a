"""Prompts in the paper's use cases (table 1), written by users with habits.

A user opens and closes the core of a prompt in his own way ("hello , what job
does ann have ? thanks ."). Users belong to one split each, and so do cores.

DEPARTS: closed-domain prompts (closed QA, summarization, extract) are a quarter
rather than 8.7 %, so that a small model can learn not to hallucinate.
"""

import dataclasses
import random
from collections.abc import Callable, Sequence

from instruct_jax.worlds.microworld import calls, pitfalls, tables, use_cases

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


@dataclasses.dataclass(frozen=True)
class User:
  """A simulated customer: a split, a taste in use cases and habits."""

  name: str
  split: str
  opening: str
  closing: str
  shares: tuple[float, ...]


def draw(
  rng: random.Random,
  split: str,
  *,
  use_case: str | None = None,
  shares: Sequence[float] = tuple(USE_CASES.values()),
  topics: Sequence[str] = tables.ALIGNED_TOPICS,
  zorp_share: float = ZORP_SHARE,
  code_share: float = calls.SHARE,
  pitfalls_too: bool = True,
) -> use_cases.Prompt:
  """A prompt of the split, without a user's opening and closing.

  `pitfalls_too`: with the rare ones of `pitfalls` among them.
  """
  rare = rng.random() if use_case is None else 1.0
  if rare < zorp_share:
    maker: Callable[[], use_cases.Prompt] = lambda: use_cases.in_zorp(rng)  # noqa: E731
  elif rare < zorp_share + code_share:
    maker = lambda: use_cases.in_code(rng)  # noqa: E731
  else:
    use_case = use_case or rng.choices(list(USE_CASES), shares)[0]
    maker = lambda: _make(rng, use_case, topics, pitfalls_too)  # noqa: E731
  while True:
    prompt = maker()
    if prompt.split == split:
      return prompt


def _make(rng, use_case, topics, pitfalls_too):
  special = pitfalls.rare(rng, use_case) if pitfalls_too else None
  return special or use_cases.MAKERS[use_case](rng, topics)


def decorate(
  rng: random.Random, prompt: use_cases.Prompt, user: User
) -> use_cases.Prompt:
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
) -> list[tuple[use_cases.Prompt, str]]:
  """`count` prompts of the split with their users' names, 3 to 20 a user.

  Source: section 3.2 (deduplicated, at most 200 a user, split by user).
  """
  out: list[tuple[use_cases.Prompt, str]] = []
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
