"""Personal data: every example of pii.json, and texts made to take long."""

import itertools
import json
import time

import hypothesis
import hypothesis.strategies as st
import pytest

from instruct_jax.data.clean import pii

ENTRIES = json.loads(pii.FILE.read_text())


@pytest.mark.parametrize("pattern", pii.patterns(), ids=lambda p: p.name)
def test_examples(pattern):
  for text in pattern.match:
    changed, count = pattern.remove(text)
    assert count >= 1, text
    assert pattern.replacement in changed
    found, counts = pii.remove(text)  # with the others, and what they need
    assert sum(counts.values()) == count
    assert found.count("<") == changed.count("<")
  for text in pattern.no_match:
    assert pattern.remove(text) == (text, 0)
    assert pii.remove(text) == (text, {})


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e["name"])
def test_entries_are_complete(entry):
  known = {"name", "about", "pattern", "replacement", "match", "no_match"}
  assert known <= set(entry) <= {*known, "check", "needs", "run"}
  assert len(entry["match"]) >= 2
  assert len(entry["no_match"]) >= 3


ORDINARY = (
  "In 1998 the team won 3-2; by 2004 sales were $1,234,567.89 (up 12.5%).",
  "Python 3.11.7 at 10:30:45 on 2024-01-31, ISBN 978-3-16-148410-0.",
  "f(x) = 3.14159265358979 * r**2, see section 4.1.2 or pages 100-200.",
  "std::cout << x; a::b; 16:9; 1/2/3; #123456; room 101; 50 000 people",
  "2 + 2 = 4, 10000000000000 stars, 0.1.2, 1e-10, 42 42 42 42",
  "Sort 300 200 1000; 123456789 * 987654321; -122.4194, +37.7749; 5 + 12345678",
  "01/02/2023 12:30, 05.10.2023, 2023-10-05T12:30:45Z, 0930-1730, 10-12 am",
  "years is 1999 2006 2007 2009 2010 2011 2012 2013 2014 2014 2000 2002 2003",
  "Unix 1700000000, 1700000000123; 2^32 = 4294967296; 0.30000000000000004",
  "x[1::2], a[::-1], dead::beef, 10:20:30:40, EAN 4006381333931, 3-16-148410-0",
  "EUR 1 234 567,89; 12 345 678 people; +20 000 000; pages 100-200-3000",
  "Chrome/120.0.0.0, version 1.2.3.4, Section 4.1.2.3, 10.0.19045.3448",
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
    "I am <email>, call <phone>; card <card>, server <machine>, account number:"
    " <account>, SSN <account>."
  )
  assert counts == dict.fromkeys(
    ("email", "phone", "card", "ipv4", "account", "ssn"), 1
  )
  assert pii.remove(changed) == (changed, {})  # once is enough


examples = st.sampled_from(
  [text for p in pii.patterns() for text in (*p.match, *p.no_match)]
)
between = st.sampled_from(["", " ", ",", ", ", ".", "-", "/", "+", "(", "\n"])


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(st.lists(st.tuples(examples, between), max_size=6))
def test_what_was_removed_is_not_found_again(pieces):
  text = "".join(itertools.chain.from_iterable(pieces))
  changed, counts = pii.remove(text)
  assert pii.remove(changed) == (changed, {})
  assert sum(counts.values()) == changed.count("<")


def test_neighbours_without_a_space_go_too():
  text = "+15551234567+15551234568 a@b.co+c@d.org, 8.8.8.8/9.9.9.9"
  assert pii.remove(text) == (
    "<phone><phone> <email><email>, <machine>/<machine>",
    {"phone": 2, "email": 2, "ipv4": 2},
  )


UNITS = (
  "a", "1", "(", "-", ":", "a@", "a.", "1 ", "1-", "1.", "1:", "a:", "(1", "+1",
  "::", "A1 ", "0-", "a@b.", "a@b-", "1234 ", "ab:", "12:", "12-", "#: ",
  "account number ", "account no: 1 ", "tel 1", "DE89 3704 ", "AB12 ", "eyJ",
  "sk-", "-----BEGIN PRIVATE KEY-----", "a@b.co+", "+15551234567", "8.8.8.8/",
  "4111 1111 1111 1111 ", "415 555 2671 ", "(030) 1234567 ", "2001:db8::1 ",
  "06 12 34 56 78 ", "\n", " ", "é@",
)  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_no_text_takes_long(unit):
  text = unit * (100_000 // len(unit))
  start = time.process_time()
  pii.remove(text)
  assert time.process_time() - start < 1
  start = time.process_time()
  pii.remove(f"1@ PRIVATE KEY {text}!")
  assert time.process_time() - start < 1
