"""Personal data in texts: what it looks like is data, in pii.json.

Each entry has a name, a regular expression, what stands in its place, often a
check that looks closer (Luhn's digit, a bank's), and examples of what it must
and must not find. They are tried in the file's order. Names and addresses of
people have no such look and are not found.
"""

import collections
import dataclasses
import functools
import ipaddress
import json
import pathlib
import re
from collections.abc import Callable

FILE = pathlib.Path(__file__).with_name("pii.json")


@dataclasses.dataclass(frozen=True)
class Pattern:
  """One kind of personal data."""

  name: str
  expression: re.Pattern
  replacement: str
  check: Callable[[str], bool]
  needs: str  # a text without it need not be searched
  match: tuple[str, ...]  # examples
  no_match: tuple[str, ...]

  def remove(self, text: str) -> tuple[str, int]:
    """The text with every find replaced, and how many there were."""
    if self.needs not in text:
      return text, 0
    count = 0

    def replace(found):
      nonlocal count
      if not self.check(found[0]):
        return found[0]
      count += 1
      return self.replacement

    return self.expression.sub(replace, text), count


@functools.cache
def patterns() -> tuple[Pattern, ...]:
  """The kinds of personal data that are known."""
  return tuple(
    Pattern(
      name=entry["name"],
      expression=re.compile(entry["pattern"]),
      replacement=entry["replacement"],
      check=CHECKS[entry.get("check", "none")],
      needs=entry.get("needs", ""),
      match=tuple(entry["match"]),
      no_match=tuple(entry["no_match"]),
    )
    for entry in json.loads(FILE.read_text())
  )


def remove(text: str) -> tuple[str, dict[str, int]]:
  """The text without personal data, and how much of each kind there was."""
  counts = collections.Counter()
  if not _MAY_HOLD.search(text):
    return text, {}
  for pattern in patterns():
    text, count = pattern.remove(text)
    if count:
      counts[pattern.name] += count
  return text, dict(counts)


# Every kind has a digit, an @ or colons in it.
_MAY_HOLD = re.compile(r"[0-9@]|::")


def _luhn(text: str) -> bool:
  digits = [int(c) for c in text if c.isdigit()]
  if not 13 <= len(digits) <= 19 or not any(digits):
    return False
  doubled = [2 * d - 9 * (d > 4) for d in digits[-2::-2]]
  return (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
  plain = text.replace(" ", "")
  if not 15 <= len(plain) <= 34:
    return False
  turned = plain[4:] + plain[:4]
  return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def _ip(text: str) -> bool:
  try:
    ipaddress.ip_address(text)
  except ValueError:
    return False
  return True


def _ipv6(text: str) -> bool:
  """Valid, and with a long group: C++ has a::b too."""
  return _ip(text) and max(map(len, text.split(":"))) >= 3


def _phone(text: str) -> bool:
  return 8 <= sum(c.isdigit() for c in text) <= 15


CHECKS = {
  "none": lambda text: True,
  "luhn": _luhn,
  "iban": _iban,
  "ip": _ip,
  "ipv6": _ipv6,
  "phone": _phone,
}
