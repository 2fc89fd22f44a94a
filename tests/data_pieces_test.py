"""Readers of any size: a file is the same, however small its pieces are."""

import bz2
import gzip
import json
import lzma

import hypothesis
import hypothesis.strategies as st
import pytest
from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import (
  bundles,
  files,
  pieces,
  sources,
  spaces,
  text,
)

quick = hypothesis.settings(
  deadline=None,
  max_examples=80,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
sizes = st.integers(1, 9)
characters = "a b\n\r\t\x0b\x1c\xa0\u2003\u2028é中😀\ufeff"


@pytest.fixture
def file(tmp_path, monkeypatch):
  """Writes a file that is then read in pieces of so many bytes."""

  def make(content, size, name="x.txt"):
    monkeypatch.setattr(pieces, "SIZE", size)
    path = epath.Path(tmp_path) / name
    path.write_bytes(content)
    return path

  return make


def plain_documents(content):
  """(line, document): what stands between lines that are blank, by a loop."""
  found, block, start = [], [], 0
  lines = [line.rstrip("\r") for line in content.split("\n")]
  for number, line in enumerate([*lines, ""], 1):
    if line.strip():
      start = start if block else number
      block.append(line)
    elif block:
      found.append((start, "\n".join(block)))
      block = []
  return found


@quick
@hypothesis.given(st.text(characters, max_size=40), sizes)
@hypothesis.example("a\n\n \nb\n\n\u2003\n\n\nc", 99)
@hypothesis.example("a b\nc d\n\ne f\ng\n\n\nh", 4)
def test_lines_and_documents_in_pieces(file, content, size):
  path = file(content.encode(), size)
  seen = content.removeprefix("\ufeff")
  lines = seen.split("\n")
  if not lines[-1]:
    lines.pop()
  wanted = [(n, line.rstrip("\r")) for n, line in enumerate(lines, 1)]
  assert list(text.lines(path)) == wanted
  assert "".join(pieces.of_any(path)) == seen
  found = [
    (int(str(where).rpartition(":")[2]), document)
    for where, document in text.blocks(path)
  ]
  assert found == plain_documents(seen)


values = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.text('a"\\\n😀\ud7ff', max_size=6),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
  ),
  max_leaves=8,
)
objects = st.dictionaries(st.text("abc", max_size=2), values, max_size=3)


@quick
@hypothesis.given(
  st.lists(objects, max_size=4),
  st.dictionaries(st.sampled_from(["version", "x"]), values, max_size=2),
  st.booleans(),
  st.sampled_from([None, 1]),
  sizes,
)
def test_arrays_and_documents_in_pieces(
  file, rows, more, is_first, indent, size
):
  array = json.dumps(rows, indent=indent, ensure_ascii=False)
  path = file(array.encode(), size, "x.json")
  assert [row for _, row in files.rows(path)] == rows
  document = {"data": rows} | more if is_first else more | {"data": rows}
  content = json.dumps(document, indent=indent, ensure_ascii=False)
  path = file(content.encode(), size, "x.json")
  found = list(files.rows(path))
  assert [row for _, row in found] == rows
  names = [f'{path}, "data", record {n}' for n in range(1, len(rows) + 1)]
  assert [where for where, _ in found] == names


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_number_that_is_cut(file, size):
  content = b'{"version": 1.25e-3, "data": [{"a": -1.5e+2}], "x": -0}'
  assert [r for _, r in files.rows(file(content, size, "x.json"))] == [
    {"a": -150.0}
  ]


@quick
@hypothesis.given(
  st.lists(objects, min_size=1, max_size=4), st.integers(0, 200), sizes
)
def test_a_broken_array_is_told_as_by_json(file, rows, place, size):
  """Cut anywhere: the place is the one that `json` names of the whole."""
  whole = json.dumps(rows, indent=1)
  content = whole[: place % len(whole)]
  hypothesis.assume(content.startswith("["))
  path = file(content.encode(), size, "x.json")
  with pytest.raises(errors.UserError, match=r"x\.json.* not JSON") as told:
    list(files.rows(path))
  if "char" in str(told.value):
    with pytest.raises(json.JSONDecodeError) as wanted:
      json.loads(content)
    assert str(wanted.value) in str(told.value)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("eins\nzw\xf6lf\n".encode("latin-1"), r":2: not UTF-8 \(byte 3 of"),
    ("é\nzwölf ".encode() + b"\xc3", r":2: not UTF-8 \(byte 8 of"),
    (b"one\ntwo\nth\0ree\n", ":3: a NUL byte"),
  ],
)
@pytest.mark.parametrize("read", [text.lines, pieces.of_any, text.whole_lines])
def test_what_is_no_text_is_told_with_its_place(
  file, content, message, size, read
):
  with pytest.raises(errors.UserError, match=message):
    list(read(file(content, size)))


def test_the_lines_before_a_wrong_one_come_first(file):
  rows = text.lines(file(b"one\ntwo\n\xff\n", 1000))
  assert [next(rows), next(rows)] == [(1, "one"), (2, "two")]
  with pytest.raises(errors.UserError, match=":3: not UTF-8"):
    next(rows)


@pytest.mark.parametrize(
  ("name", "content", "what"),
  [
    ("x.jsonl", b'{"text": "' + b"long " * 30 + b'"}', ":1: a line"),
    ("x.txt", b"short\n\n" + b"long line\n" * 20, ":3: a document"),
    ("x.csv", b'text\n"' + b"long " * 30, ":2: a line"),
    ("x.json", b'[{"text": "' + b"long " * 30 + b'"}]', "record 1: .*longer"),
  ],
)
def test_what_does_not_fit_into_memory(file, monkeypatch, name, content, what):
  monkeypatch.setattr(pieces, "LONGEST", 100)
  path = file(content, 10, name)
  with pytest.raises(errors.UserError, match=what):
    sources.read(path, "pretraining")


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.json"])
def test_the_memory_of_a_reader_is_bounded(file, monkeypatch, name):
  """No more than some pieces are taken before the first record is there."""
  row = {"text": "a document that is short"}
  content = {
    "x.txt": (row["text"] + "\n\n") * 1000,
    "x.jsonl": (json.dumps(row) + "\n") * 1000,
    "x.json": json.dumps([row] * 1000),
  }[name]
  path = file(content.encode(), 64, name)
  taken = []
  real = pieces._blocks

  def counted(path, *extent):
    for block, newlines in real(path, *extent):
      taken.append(len(block))
      yield block, newlines

  monkeypatch.setattr(pieces, "_blocks", counted)
  rows = iter(sources.Source(path, "pretraining"))
  assert next(rows) == row
  assert sum(taken) < 2000 < len(content)
  assert sum(1 for _ in rows) == 999


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_in_pieces(file, pack):
  content = "".join(f"line {n}\n\n" for n in range(99))
  path = file(pack(content.encode()), 7, "x.txt")
  assert len(list(text.blocks(path))) == 99


@quick
@hypothesis.given(st.text(characters + "xyz.", max_size=30))
def test_single_spaces(given):
  assert spaces.single(given) == " ".join(given.split())


@quick
@hypothesis.given(st.lists(st.text(characters + "xyz. ", max_size=30)))
@hypothesis.example([" a b", "c "])
@hypothesis.example(["", " ", "a b\nc", "\na", "a\n", "a\n b", "\x1c", ""])
@hypothesis.example(["é\xa0b", "\u3000", "a\x01b", "\x85", "a\tb", "plain one"])
def test_single_spaces_of_many(given):
  """What stands between them is no part of them."""
  expected = [" ".join(text.split()).encode() for text in given]
  some = bundles.of(given)
  for chosen in (slice(None), slice(1, None, 2)):
    at = some.starts[chosen], some.stops[chosen]
    found = spaces.singles(some.content, *at)
    assert [*map(bytes, found)] == expected[chosen]


def test_numbers_that_are_not_finite_and_keys_that_stand_twice(file):
  for content in ('[{"a": 1}, {"a": 1e999}]', '[{"a": 1}, {"b": 1, "b": 2}]'):
    with pytest.raises(errors.UserError, match=r"x\.json, record 2: not JSON"):
      list(files.rows(file(content.encode(), 4, "x.json")))
