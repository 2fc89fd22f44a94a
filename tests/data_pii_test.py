"""Personal data: every example of pii.json, and texts made to take long."""

import json
import time

import pytest

from instruct_jax.data import pii

ENTRIES = json.loads(pii.FILE.read_text())


@pytest.mark.parametrize("pattern", pii.patterns(), ids=lambda p: p.name)
def test_examples(pattern):
  for text in pattern.match:
    changed, count = pattern.remove(text)
    assert count == 1, text
    assert pattern.replacement in changed
  for text in pattern.no_match:
    assert pattern.remove(text) == (text, 0)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e["name"])
def test_entries_are_complete(entry):
  known = {"name", "about", "pattern", "replacement", "match", "no_match"}
  assert known <= set(entry) <= {*known, "check", "needs"}
  assert len(entry["match"]) >= 2
  assert len(entry["no_match"]) >= 3


ORDINARY = (
  "In 1998 the team won 3-2; by 2004 sales were $1,234,567.89 (up 12.5%).",
  "Python 3.11.7 at 10:30:45 on 2024-01-31, ISBN 978-3-16-148410-0.",
  "f(x) = 3.14159265358979 * r**2, see section 4.1.2 or pages 100-200.",
  "std::cout << x; a::b; 16:9; 1/2/3; #123456; room 101; 50 000 people",
  "2 + 2 = 4, 10000000000000 stars, 0.1.2, 1e-10, 42 42 42 42",
)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_numbers_stay(text):
  assert pii.remove(text) == (text, {})


def test_several_kinds_in_one_text():
  text = (
    "I am ann@example.com, call +1 415 555 2671; card 4111 1111 1111 1111,"
    " server 192.168.0.1, account number: 12345678, SSN 078-05-1120."
  )
  changed, counts = pii.remove(text)
  assert changed == (
    "I am <email>, call <phone>; card <card>, server <machine>, <account>,"
    " SSN <account>."
  )
  assert counts == dict.fromkeys(
    ("email", "phone", "card", "ipv4", "account", "ssn"), 1
  )
  assert pii.remove(changed) == (changed, {})  # once is enough


@pytest.mark.parametrize(
  "unit",
  ["a@", "a.", "1", "1 ", "1-", "1.", "1:", "a:", "(1", "+1", "::", "A1 ", "-"
   "account number ", "0-", "a@b.", "1234 ", "ab:", "12:", "12-", "#: "],
)  # fmt: skip
def test_no_text_takes_long(unit):
  text = unit * (100_000 // len(unit))
  start = time.monotonic()
  pii.remove(text)
  pii.remove(text + "!")
  assert time.monotonic() - start < 2
