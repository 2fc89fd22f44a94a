"""Personal data in texts: what it looks like is data, in pii.json.

Each entry has a name, a regular expression (its group `value`, where it has
one, is what goes), what stands in its place, often a check that looks closer
(check digits are python-stdnum's work), and examples of what it must and must
not match. They are tried in the file's order. Names and addresses of people
have no such look and stay.
"""

import collections
import dataclasses
import functools
import ipaddress
import json
import pathlib
import re
from collections.abc import Callable

from stdnum import iban, isbn, luhn, numdb

FILE = pathlib.Path(__file__).with_name("pii.json")

# Every kind has a digit, an @ or its own name in it.
_SIGNS = (*"@0123456789", "PRIVATE KEY")
_RUN = re.compile(r"[0-9](?:[^\w\n]{0,3}[0-9])*+")
_ROUNDS = 16  # two or three are enough, but for texts made to take long
_STARTS = "+.%-("  # of what matches only where nothing stands before it


@dataclasses.dataclass(frozen=True)
class Pattern:
  """One look of one kind of personal data."""

  name: str
  expression: re.Pattern
  replacement: str
  check: Callable[[str], int]  # how many characters of a find are one
  needs: tuple[str, ...]  # a text without any of them need not be searched,
  run: int  # nor one without as many characters of digits close together
  match: tuple[str, ...]  # examples
  no_match: tuple[str, ...]

  def remove(self, text: str) -> tuple[str, int]:
    """The text with every find replaced, and how many there were."""
    if self.needs and not any(map(text.__contains__, self.needs)):
      return text, 0
    group = "value" if "value" in self.expression.groupindex else 0
    done, written, at, count = [], 0, 0, 0
    while match := self.expression.search(text, at):
      size = self.check(match[group])
      if not size:
        at = match.start() + 1  # something else may begin within
        continue
      first = match.start(group)
      done += [text[written:first], self.replacement]
      written = at = first + size
      count += 1
      if text[at : at + 1] in _STARTS:  # nothing stands before this now
        text, written, at = text[at:], 0, 0
    return "".join([*done, text[written:]]), count


@functools.cache
def patterns() -> tuple[Pattern, ...]:
  """The looks of personal data that are known."""
  return tuple(
    Pattern(
      name=entry["name"],
      expression=re.compile(entry["pattern"]),
      replacement=entry["replacement"],
      check=CHECKS[entry.get("check", "none")],
      needs=tuple(entry.get("needs", ())),
      run=entry.get("run", 0),
      match=tuple(entry["match"]),
      no_match=tuple(entry["no_match"]),
    )
    for entry in json.loads(FILE.read_text(encoding="utf-8"))
  )


def remove(text: str) -> tuple[str, dict[str, int]]:
  """The text without personal data, and how much of each kind there was.

  Removing it again changes nothing: what stands alone only now goes too.
  """
  if not _may_hold(text):
    return text, {}
  counts = collections.Counter()
  for _ in range(_ROUNDS):
    if not _may_hold(text):
      break
    before = text
    run = max(map(len, _RUN.findall(text)), default=0)
    for pattern in patterns():
      if run >= pattern.run:
        text, count = pattern.remove(text)
        counts[pattern.name] += count
    if text == before:
      break
  return text, {name: n for name, n in counts.items() if n}


def _may_hold(text: str) -> bool:
  return any(map(text.__contains__, _SIGNS))


def _luhn(text: str) -> int:
  digits = "".join(filter(str.isdigit, text))
  return len(text) * (luhn.is_valid(digits) and any(map(int, digits)))


def _iban(text: str) -> int:
  """What follows may look like a last group: groups go until it is short.

  Right is what the registry of IBANs says of a country's length and letters,
  and the check digits; not that the bank exists.
  """
  length = _iban_length(text[:2])
  while len(text) - text.count(" ") > length:
    text = text.rpartition(" ")[0]
  return len(text) * iban.is_valid(text, check_country=False)


@functools.cache
def _iban_length(country: str) -> int:
  """Characters of a country's IBANs; 0 where the registry knows none."""
  (_, facts), *_ = numdb.get("iban").info(country)
  # "8!n10!n" is 18 characters, behind the country and two check digits.
  parts = re.findall(r"([0-9]+)!", facts["bban"]) if facts else ()
  return 4 + sum(map(int, parts)) if parts else 0


def _ip(text: str) -> int:
  try:
    ipaddress.ip_address(text)
  except ValueError:
    return 0
  return len(text)


def _ipv6(text: str) -> int:
  """Valid, and of a range in use: C++ has a::b too, and Python x[1::2]."""
  if not _ip(text):
    return 0
  first, colons = int(text.partition(":")[0], 16), text.count(":")
  local = first >> 9 == 0x7E or first >> 6 == 0x3FA  # fc00::/7, fe80::/10
  named = any(c.isdigit() for c in text) and (
    local or first >> 8 == 0xFF or (first >> 13 == 1 and colons >= 3)
  )
  return len(text) * (colons == 7 or named)


def _phone(text: str) -> int:
  """7 to 16 digits, not of 0 and 1 alone and no ISBN."""
  digits = _digits(text)
  is_book = text.startswith("0") and isbn.isbn_type(text) == "ISBN10"
  good = 7 <= len(digits) <= 16 and max(digits) > 1
  return len(text) * (good and not (is_book and text.isdigit()))


def _local(text: str) -> int:
  """Without a country's code, 9 to 12 digits with the first 0."""
  return _phone(text) if 9 <= len(_digits(text)) <= 12 else 0


def _international(text: str) -> int:
  """8 to 15 digits (E.164), 11 with the code 1; no decimal, no round number."""
  digits = _digits(text)
  good = 8 <= len(digits) <= 15 and digits[0] and any(digits[-6:])
  good = good and (digits[0] != 1 or len(digits) == 11)
  is_decimal = re.fullmatch(r"\+[0-9]+\.[0-9]+", text)
  return len(text) * bool(good and not is_decimal)


def _digits(text: str) -> list[int]:
  return [int(c) for c in text if c.isdigit()]


CHECKS = {
  "none": len,
  "luhn": _luhn,
  "iban": _iban,
  "ip": _ip,
  "ipv6": _ipv6,
  "phone": _phone,
  "local": _local,
  "international": _international,
}
