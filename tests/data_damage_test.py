"""Damage by chance: what is read is what strict JSON says, or it is refused.

`data_fuzz_test` holds the damage that somebody thought of; here seeds choose
it, and what a converter writes must be what `sources` reads.
"""

import bz2
import copy
import gzip
import json
import lzma
import math
import random
import re

import pytest

from instruct_jax.base import errors
from instruct_jax.data.public import convert
from instruct_jax.data.read import files, sources
from tests import data_fuzz_test

ROWS = (
  {"prompt": 'wü 😀 "q" \\ /', "n": [1, 2.5e3, None, True, {"a": "b\t"}]},
  {"prompt": "two", "k": {"z": [[], {}]}},
  {"prompt": "three\u2028", "split": "train"},
)
INSERTED = (
  *(bytes([byte]) for byte in b'"{}[],:\\\n\r\0\xff\xc3\x0b\x1c'),
  *(b"NaN", b"1e999", b"\\ud800", b"\xef\xbb\xbf"),
  *("\x85".encode(), "\u2028".encode(), "\xa0".encode()),
)
KEYS = (  # right by form behind an opening brace
  *(b'"prompt":"x",', b'"split":"test",', b'"x":"\\ud800",', b'"y":{},'),
  *(b'"x":NaN,', b'"x":[1e999],', b'"x":-Infinity,', b'"x":1,"x":1,'),
)
PACKERS = (bytes, gzip.compress, bz2.compress, lzma.compress)
VALUES = (
  *(None, True, False, 0, 1, 2, -1, 1.5, 10**30),
  *("", "x", " \n", "N/A", "dev", "é\u2028\x85x"),
  *("Human:", "\n\nHuman: z", "\n\nAssistant: y"),
  *([], [[]], {}, {"text": "t"}, {"role": "user", "content": "c"}),
  *(["a", "b"], [0, 1, 2]),
)
MESSAGES = [
  {"role": "user", "content": "q"},
  {"role": "assistant", "content": "a"},
]
OTHERS = [
  {"role": "user", "content": "q"},
  {"role": "assistant", "content": ""},
]
MORE = {
  "hh": {
    "chosen": "\n\nHuman: q\n\nAssistant: a",
    "rejected": "\n\nHuman: q\n\nAssistant: b",
    "user": "u",
    "score": 1,
  },
  "ultrafeedback": {
    "chosen": MESSAGES,
    "rejected": OTHERS,
    "score_chosen": 2.0,
    "score_rejected": 1.0,
  },
  "chat": {"messages": [{"role": "system", "content": "s"}, *MESSAGES * 2]},
  "tldr": {
    "info": {"post": "p", "title": "t", "subreddit": "s"},
    "summaries": [{"text": "a"}, {"text": "b"}],
    "choice": 1,
    "worker": "w",
    "split": "valid1",
  },
  "self_instruct": {
    "instruction": "q",
    "instances": [{"input": "i", "output": "a"}] * 2,
  },
  "jsonl": {"prompt": "q", "user": "u", "split": "test", "labeler": "l"},
  "pairs": {"q": "p", "x": MESSAGES[1], "y": "b", "who": 1, "won": "A"},
  "columns": {"q": "p", "x": "a"},
}
NAMED = {  # of the formats whose keys are named
  "rankings": {
    **{"prompt": "q", "a": "x", "b": "y", "labeler": "who", "label": "won"},
    "labels": "A=a,0=b,1=b,x=tie",
  },
  "demonstrations": {"prompt": "q", "response": "x"},
  "prompts": {"prompt": "q"},
  "pretraining": {"text": "x"},
}


def strict(content):
  """The objects of JSON lines by the standard library, None for any fault."""

  def once(pairs):
    if len(dict(pairs)) < len(pairs):
      raise ValueError
    return dict(pairs)

  def finite(number):
    if not math.isfinite(float(number)):
      raise ValueError
    return float(number)

  options = {"object_pairs_hook": once, "parse_constant": finite}
  try:
    lines = content.decode("utf-8-sig").split("\n")
    rows = [
      json.loads(line.strip(), parse_float=finite, **options)
      for line in lines
      if line.strip()
    ]
    json.dumps(rows, ensure_ascii=False).encode("utf-8")
  except ValueError:
    return None
  return rows if all(isinstance(row, dict) for row in rows) else None


def damaged(rng):
  """The lines of `ROWS` with a few bytes changed, left out or put in."""
  found = bytearray()
  for row in ROWS:
    line = json.dumps(row, ensure_ascii=rng.random() < 0.5)
    found += line.encode("utf-8") + rng.choice([b"\n", b"\r\n"])
  for _ in range(rng.choice([1, 1, 2, 4])):
    at, other = rng.randrange(len(found)), rng.randrange(len(found))
    brace = found.rfind(b"{", 0, at) + 1
    choices = (
      (at, at + 1, bytes([rng.randrange(256)])),
      (at, at + 1, bytes([found[at] ^ 1 << rng.randrange(8)])),
      (at, at + rng.choice([1, 3, 20]), b""),
      (at, at, rng.choice(INSERTED)),
      (brace, brace, rng.choice(KEYS)),
      (brace, brace, rng.choice(KEYS)),
      (at, at, bytes(found[other : other + 30])),
    )
    start, stop, content = rng.choice(choices)
    found[start:stop] = content
  return bytes(found)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_read_is_what_strict_json_says(seed, tmp_path):
  rng, path, taken = random.Random(seed), tmp_path / "a.jsonl", 0
  for _ in range(60):
    content = damaged(rng)
    path.write_bytes(rng.choice(PACKERS)(content))
    wanted = strict(content)
    try:
      found = [row for _, row in files.rows(path)]
    except errors.UserError as error:
      place = re.escape(str(path)) + r"(:\d+|, record \d+|): "
      assert re.match(place, str(error)), error  # noqa: PT017
      found = None
    # A file whose first bytes are an array's or a packed file's is read so.
    assert found == wanted or content[:1] not in b"{", content
    taken += found is not None
  assert 0 < taken < 60


def places(value, path=()):
  """The paths of everything within a value."""
  if isinstance(value, dict | list):
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
      yield (*path, key)
      yield from places(value[key], (*path, key))


def changed(row, rng):
  """A row with one to three of its values changed, left out or doubled."""
  row = copy.deepcopy(row)
  for _ in range(rng.choice([1, 1, 2, 3])):
    *path, last = rng.choice(list(places(row)) or [(None,)])
    holder = row
    for key in path:
      holder = holder[key]
    if last is None:
      break
    choice = rng.randrange(4)
    if choice == 0:
      del holder[last]
    elif choice == 1 and isinstance(holder, list):
      holder.insert(last, copy.deepcopy(holder[last]))
    else:
      holder[last] = copy.deepcopy(rng.choice(VALUES))
  return row


@pytest.mark.parametrize("name", sorted({*convert.FORMATS} - {"text"}))
def test_what_a_converter_writes_can_be_read(name, tmp_path):
  rng = random.Random(name)
  path, out = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
  good = [x[name] for x in (data_fuzz_test.FORMATS, MORE) if name in x]
  written = refused = 0
  for _ in range(150):
    row = changed(rng.choice(good), rng)
    kind = rng.choice(list(convert.format_of(name).kinds))
    options = NAMED[kind] if name in ("pairs", "columns") else {}
    if name == "finegrained":
      options = {"pairs": rng.random() < 0.5}
    path.write_text(json.dumps(row))
    try:
      counts = convert.convert(name, [path], out, kind=kind, **options)
    except errors.UserError as error:
      assert str(path) in str(error), row  # noqa: PT017
      refused += 1
      continue
    found = sources.read(out, kind)
    assert len(found) == counts["written"] > 0
    assert {record.get("source", name) for record in found} == {name}
    written += 1
  assert written
  assert refused


@pytest.mark.parametrize(
  "columns",
  [
    {"prompts": ["x"]},
    {"prompt": [3]},
    {"prompt": [None]},
    {"prompt": [b"\xff"]},
    {"prompt": [""]},
    {"prompt": [["x"]]},
    {"prompt": [{"text": "x"}]},
    {"prompt": ["x"], "score": [float("inf")]},
    {"prompt": ["x"], "user": [3.5]},
    {"prompt": ["x"], "split": ["dev"]},
  ],
)
def test_wrong_columns_of_a_parquet_file(columns, tmp_path):
  arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet'")
  import pyarrow.parquet

  path = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(arrow.table(columns), path)
  with pytest.raises(errors.UserError, match=r"a\.parquet, row 1: "):
    sources.read(path, "prompts")


@pytest.mark.parametrize(
  "spec", ["", " ", ",", " , ,", "=1", "a\0b", "x" * 5000, "[", "nowhere/*"]
)
def test_names_of_nothing(spec):
  with pytest.raises(errors.UserError):
    sources.read(spec, "prompts")
