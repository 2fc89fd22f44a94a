"""What a label says of two responses: a is better, b is, or they tie.

The usual spellings are known; those that sets use in several ways (0 and 1, or
0, 1 and 2) are asked for, never guessed.
"""

import dataclasses
import functools
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import typed

A, B, TIE, DROP = 1, -1, 0, 2
TEXT = "text"  # --labels=text: the label is the text of the better one
_TARGETS = {"a": A, "b": B, "tie": TIE, "drop": DROP}
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")
_NOUN = (
  "model|response|answer|output|completion|assistant|option|candidate|summary"
  "|system|choice|text|reply|message|generation"
)
_SIDE = re.compile(
  rf"(?:the )?(?:(?:{_NOUN}) ?)?(a|b|1|2|first|second|left|right)"
  r"(?: one)?(?: (?:wins?|won|is better|better|is preferred|preferred))?"
)
_FIRST = ("a", "1", "first", "left")
_OTHERS = {
  **dict.fromkeys(("a>b", "a>>b", "b<a", "b<<a", "[[a]]", "[[a>b]]"), A),
  **dict.fromkeys(("a<b", "a<<b", "b>a", "b>>a", "[[b]]", "[[b>a]]"), B),
  **dict.fromkeys(("a=b", "a==b", "b=a", "[[c]]", "[[a=b]]"), TIE),
  **dict.fromkeys(("tie", "ties", "tied", "draw", "equal", "same"), TIE),
  **dict.fromkeys(("both", "both good", "both bad", "bothbad"), TIE),
  **dict.fromkeys(("tie (bothbad)", "tie (both bad)", "neither"), TIE),
  **dict.fromkeys(("equally good", "equally bad", "about the same"), TIE),
  **dict.fromkeys(("no preference", "about equal", "bothgood"), TIE),
}
_MOST = 12  # labels that an error shows
EXAMPLE = "--labels='A=a,B=b,both=tie,unsure=drop'"


@dataclasses.dataclass(frozen=True)
class Mapped:
  """What --labels says."""

  exact: Mapping[str, int]
  ranges: tuple[tuple[float, float, int], ...] = ()
  other: int | None = None  # what `*` is

  def verdict(self, label: str) -> int | None:
    """What it says of a label, None for nothing."""
    if label in self.exact:
      return self.exact[label]
    number = _number(label)
    if number is not None:
      for low, high, verdict in self.ranges:
        if low <= number <= high:
          return verdict
    return self.other


def parse(text: str) -> Mapped:
  """What --labels='A=a,B=b' says, or --labels='{"A": "a"}'.

  A label is a value or, of numbers, a range such as -3..-1 or 0.5.. ; `*` is
  all others. It is a, b, tie or drop. A label that stands there itself goes
  before ranges. Raises UserError for anything else, and for ranges that are
  turned round or of which several say different things of a number.
  """
  exact, ranges, other = {}, [], None
  for label, target in _pairs(text):
    verdict = _TARGETS.get(target.strip().lower())
    if verdict is None:
      raise errors.UserError(
        f"--labels={text}: {label!r} is {target!r}; a, b, tie or drop is right,"
        f" as in {EXAMPLE}"
      )
    within = _RANGE.fullmatch(label)
    if label == "*":
      other = verdict
    elif within and label != "..":
      low, high = within.groups()
      bounds = float(low or -math.inf), float(high or math.inf)
      ranges.append((*bounds, verdict))
    elif name_of(label) in exact:
      raise errors.UserError(f"--labels={text}: {label!r} stands there twice")
    else:
      exact[name_of(label)] = verdict
  _check_ranges(text, ranges, exact)
  return Mapped(exact, tuple(ranges), other)


def name_of(value: Any) -> str:
  """A label as text: numbers as they are counted, so 1.0 is 1; '' for none."""
  if isinstance(value, bool):
    return "true" if value else "false"
  if isinstance(value, list | dict):
    return typed.shown(value)
  return "" if value is None else _name(str(value))


@functools.lru_cache(maxsize=4096)
def _name(text: str) -> str:
  name = text.strip()
  number = _number(name)
  is_whole = number is not None and number.is_integer()
  return str(int(number)) if number is not None and is_whole else name


def usual(label: str) -> int | None:
  """What a label says by itself; None where nobody can know."""
  plain = re.sub(r"[\s_-]+", " ", label.lower()).strip(" .'\"")
  if plain in _OTHERS:
    return _OTHERS[plain]
  side = None if plain.isdigit() else _SIDE.fullmatch(plain)
  if side is None:
    return None
  return A if side.group(1) in _FIRST else B


def of_keys(a: str, b: str) -> dict[str, int]:
  """What a label says that is the key of a response itself.

  Raises UserError for keys whose names say the contrary: a label 'A' of
  --a=answer_b could mean either.
  """
  if usual(a) == B or usual(b) == A:
    raise errors.UserError(
      f"--a={a}, --b={b}: is {a!r} a, as you say, or b, as its name does? Turn"
      f" the two round, or say what the labels mean: {EXAMPLE}"
    )
  return {a: A, b: B}


def resolve(
  seen: Mapping[str, tuple[int, str]],
  mapped: Mapped | None,
  flag: str,
  keys: Mapping[str, int],
  beside: Iterable[str] = (),
) -> dict[str, int]:
  """What every label that was seen says.

  Args:
    seen: how often, and where first, by label.
    mapped: what --labels says, None where it is not given.
    flag: the key that the labels are of, for errors.
    keys: as `of_keys` has it.
    beside: the labels of the other labelers' keys, on the same scale.

  Raises UserError, with the place of the first, for labels that are not known
  or mean several things.
  """
  if mapped is not None:
    found = {label: mapped.verdict(label) for label in seen}
  else:
    found = {label: keys.get(label, usual(label)) for label in seen}
    every = {*seen, *beside}
    numbers = {label for label in every if _number(label) is not None}
    # One of them alone may as well be of 0 and 1, or of 0, 1 and 2.
    if numbers == {"1", "2"}:
      found |= {x: A if x == "1" else B for x in numbers & seen.keys()}
  lacking = [label for label, verdict in found.items() if verdict is None]
  if lacking:
    raise _unknown(lacking, seen, mapped, flag)
  return {label: v for label, v in found.items() if v is not None}


def _unknown(lacking, seen, mapped, flag) -> errors.UserError:
  first = lacking[0]
  where = seen[first][1]
  values = ", ".join(f"{x[:30]} ({seen[x][0]})" for x in list(seen)[:_MOST])
  more = f" and {len(seen) - _MOST} more" if len(seen) > _MOST else ""
  head = f"{where}: {flag} is {typed.shown(first)}"
  if mapped is not None:
    return errors.UserError(
      f"{head}, of which --labels says nothing; add '{first[:30]}=a' (or b,"
      f" tie, drop), or '*=drop' for all others. Labels seen: {values}{more}"
    )
  if all(_number(x) is not None or x in ("true", "false") for x in lacking):
    return errors.UserError(
      f"{head}, which sets use in several ways. Labels seen: {values}{more}."
      f" Say which is meant: {_ways(lacking)}"
    )
  return errors.UserError(
    f"{head}, which is not known. Labels seen: {values}{more}. Say what they"
    f" mean: {EXAMPLE}; --labels={TEXT} where a label is the text of the better"
    " one"
  )


def _ways(lacking) -> str:
  """Examples of what numbers may mean."""
  numbers = {_number(x) for x in lacking}
  if None in numbers:
    return "--labels='true=a,false=b' or --labels='true=b,false=a'"
  if numbers == {1.0}:
    return "--labels='1=a,2=b', --labels='1=a,0=b' or --labels='0=a,1=b'"
  if numbers <= {0.0, 1.0}:
    return "--labels='1=a,0=b' or --labels='0=a,1=b'"
  if numbers <= {0.0, 1.0, 2.0}:
    return "--labels='1=a,2=b,0=tie' or --labels='0=a,1=b,2=tie'"
  if numbers <= {-1.0, 0.0, 1.0}:
    return "--labels='1=a,-1=b,0=tie' or --labels='-1=a,1=b,0=tie'"
  if numbers <= {0.0, 0.5, 1.0}:
    return "--labels='1=a,0=b,0.5=tie' or --labels='0=a,1=b,0.5=tie'"
  middle = _shown(_middle(numbers))
  ways = (
    f"--labels='{middle}=tie,{middle}..={high},..{middle}={low}'"
    for high, low in ("ab", "ba")
  )
  return f"{' or '.join(ways)}, with ranges of numbers"


def _middle(numbers) -> float:
  """What lies between those that say a and those that say b."""
  low, high = min(numbers), max(numbers)
  if low < 0:
    return 0.0
  return 0.5 if high <= 1 else (low + high) / 2


def _shown(number: float) -> str:
  whole, _, rest = f"{number:.6f}".partition(".")
  return f"{whole}.{rest}".rstrip("0").rstrip(".")


def _check_ranges(
  text: str,
  ranges: list[tuple[float, float, int]],
  exact: Mapping[str, int],
) -> None:
  """UserError for ranges that are turned round or contradict each other."""
  for low, high, _ in ranges:
    if low > high:
      raise errors.UserError(
        f"--labels={text}: the range {low:g}..{high:g} is turned round;"
        f" {high:g}..{low:g} is right"
      )
  for one, other in itertools.combinations(ranges, 2):
    low, high = max(one[0], other[0]), min(one[1], other[1])
    if low > high or one[2] == other[2]:
      continue
    if low == high and name_of(_shown(low)) in exact:
      continue
    both = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    raise errors.UserError(
      f"--labels={text}: two ranges say different things of {both}; ranges have"
      f" their ends in them. '{_shown(low)}=tie' beside them decides an end"
    )


def _pairs(text: str) -> list[tuple[str, str]]:
  """(label, what it is); a comma in a label belongs to it."""
  if text.lstrip().startswith("{"):
    try:
      tree = json.loads(text)
    except ValueError as error:
      raise errors.UserError(f"--labels={text}: not JSON ({error})") from None
    return [(str(label), str(target)) for label, target in tree.items()]
  found, held = [], ""
  for part in text.split(","):
    held = f"{held},{part}" if held else part
    label, equals, target = held.rpartition("=")
    if equals:
      found.append((label.strip(), target.strip()))
      held = ""
  if held.strip() or not found:
    raise errors.UserError(
      f"--labels={text}: LABEL=a, =b, =tie or =drop is right, as in {EXAMPLE}"
    )
  return found


def _number(label: str) -> float | None:
  if re.fullmatch(rf"\+?{_NUMBER}(e[-+]?\d+)?", label, re.I) is None:
    return None
  number = float(label)
  return number if math.isfinite(number) else None
