"""Text that grows is shown as it ends: no half characters, no lost spaces."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_jax.base import typewriter


def typed(texts, final, *, width=1000, start="", end=""):
  """What is on the screen after each of the texts, and in the end."""
  stream = io.StringIO()
  writer = typewriter.Typewriter(stream, start=start, width=width)
  seen = []
  for text in texts:
    writer.show(text)
    seen.append(stream.getvalue())
  writer.finish(final, end)
  return [*seen, stream.getvalue()]


@pytest.mark.parametrize(
  ("text", "stays"),
  [
    ("", ""),
    ("ann", ""),  # may become "anna"
    ("ann is", "ann"),
    ("ann is ", "ann"),  # may become "ann is."
    ("ann is\n", "ann"),
    ("caf\ufffd", ""),
    ("a caf\ufffd", "a"),
    ("日本語の文には空白がない、だから待たない", "日本語の"),
  ],
)
def test_what_stays(text, stays):
  assert typewriter.staying(text) == stays


def test_words_come_when_the_next_one_does():
  texts = ["one", "one two", "one two three"]
  assert typed(texts, "one two three.") == [
    "",
    "one",
    "one two",
    "one two three.",
  ]


@given(st.text(alphabet="ab é日\n", max_size=80), st.integers(1, 5))
def test_bytes_that_come_one_by_one_give_the_text(text, size):
  data = text.encode()
  prefixes = [
    data[:n].decode(errors="replace") for n in range(0, len(data), size)
  ]
  seen = typed(prefixes, text)
  assert seen[-1] == re.sub(r" +(?=\n|\Z)", "", text)
  assert all("\ufffd" not in shown for shown in seen)


def test_a_text_that_changes_what_was_shown_is_written_again():
  assert typed(["one two three"], "uno dos", end="\n")[-1] == (
    "one two\nuno dos\n"
  )


def test_lines_break_between_words():
  text = "[1] the quick brown fox jumps over it"
  shown = typed([], text, width=12)[-1]
  assert shown == "[1] the\nquick brown\nfox jumps\nover it"
  # As it grows, too, and after what stands in front.
  words = text[4:].split()
  texts = [" ".join(words[:n]) for n in range(len(words))]
  assert typed(texts, text[4:], width=12, start="[1] ")[-1] == shown


def test_wide_characters_take_two_columns():
  assert typed([], "ab 日本 語", width=7)[-1] == "ab 日本\n語"


def test_lines_of_the_text_stay_and_so_does_what_indents_them():
  assert typed([], "a:\n  b\n\nc", width=9)[-1] == "a:\n  b\n\nc"


def test_a_word_that_is_longer_than_the_window_is_whole():
  assert typed([], "a " + "b" * 9 + " c", width=4)[-1] == (
    "a\n" + "b" * 9 + " c"
  )


def test_nothing_in_a_text_steers_the_terminal():
  shown = typed([], "a\x1b[2Jb\x07\rc\x9bd\te")[-1]
  assert shown == "a\ufffd[2Jb\ufffd\ufffdc\ufffdd    e"
