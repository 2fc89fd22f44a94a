"""Damaged and malformed data: each a UserError that names file and place.

None may end in another exception, in a record that is silently other than what
the file says, or take a second.
"""

import bz2
import gzip
import json
import lzma
import re
import time

import pytest

from instruct_jax import errors
from instruct_jax.data import convert, sources

GOOD = {
  "pretraining": {"text": "once upon a time"},
  "demonstrations": {"prompt": "Why?", "response": "Because."},
  "prompts": {"prompt": "Why?"},
  "rankings": {"prompt": "Why?", "responses": ["a", "b", "c"]},
}
GOOD["rankings"]["ranks"] = [1, 2, 2]
PLACE = r":\d+: |, record \d+: |, row \d+: "


def as_line(record):
  return (json.dumps(record) + "\n").encode("utf-8")


def refused(read, path, place=PLACE):
  """The message of the UserError; it names file and place, at once."""
  start = time.process_time()
  with pytest.raises(errors.UserError) as caught:
    read()
  message = str(caught.value)
  assert time.process_time() - start < 1, message
  assert str(path) in message
  assert re.search(re.escape(str(path)) + f"({place})", message), message
  assert len(message) < 1500 + len(str(path))
  assert all(c < "\ud800" or c > "\udfff" for c in message)
  return message


def wrong_texts():
  """{name: a line that is no right line of prompts}."""
  good = '{"prompt": "x"}'
  return {
    "nothing closed": b'{"prompt": "x"',
    "nothing but a bracket": b"{",
    "no value": b'{"prompt":}',
    "single quotes": b"{'prompt': 'x'}",
    "a comma at the end": b'{"prompt": "x",}',
    "no quotes": b"{prompt: 1}",
    "two objects": f"{good}{good}".encode(),
    "two objects with a comma": f"{good},{good}".encode(),
    "old line ends of the Macintosh": f"{good}\r{good}".encode(),
    "a comment": f"{good} // so".encode(),
    "a string": b'"prompt"',
    "a number": b"3",
    "null": b"null",
    "true": b"true",
    "csv": b"prompt,response",
    "html": b"<!DOCTYPE html><html>404</html>",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1",
    "a tab in a string": b'{"prompt": "a\tb"}',
    "a wrong escape": b'{"prompt": "\\x41"}',
    "half of an escape": b'{"prompt": "\\u12"}',
    "a BOM inside": b'\xef\xbb\xbf{"prompt": "x"}',
    "a NUL in a string": b'{"prompt": "a\0b"}',
    "NUL bytes alone": b"\0" * 50,
    "a lone continuation byte": b'{"prompt": "\x80"}',
    "half of a character": b'{"prompt": "\xe2\x82"}',
    "an overlong character": b'{"prompt": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"prompt": "\xed\xa0\x80"}',
    "Latin-1": '{"prompt": "é"}'.encode("latin-1"),
    "byte ff": b'{"prompt": "\xff"}',
    "UTF-16": good.encode("utf-16"),
    "UTF-32": good.encode("utf-32"),
    "the first half of a pair": b'{"prompt": "\\ud800"}',
    "the second half of a pair": b'{"prompt": "\\udfff"}',
    "in capitals": b'{"prompt": "\\uDC00 x"}',
    "a half in a key": b'{"prompt": "x", "\\ud800": 1}',
    "a half deep inside": b'{"prompt": "x", "y": [{"z": "\\uD900"}]}',
    "NaN": b'{"prompt": "x", "score": NaN}',
    "Infinity": b'{"prompt": "x", "score": Infinity}',
    "-Infinity": b'{"prompt": "x", "score": [-Infinity]}',
    "too large for a float": b'{"prompt": "x", "score": 1e999}',
    "a huge integer": b'{"prompt": "x", "n": ' + b"9" * 100_000 + b"}",
    "a key twice": b'{"prompt": "x", "prompt": "y"}',
    "a key twice, the same": b'{"prompt": "x", "prompt": "x"}',
    "another key twice": b'{"prompt": "x", "y": 1, "y": 2}',
    "a key twice inside": b'{"prompt": "x", "y": {"z": 1, "z": 2}}',
    "a key twice in a list": b'{"prompt": "x", "y": [{"z": 1, "z": 2}]}',
    "a key twice, once escaped": b'{"prompt": "x", "pro\\u006dpt": "y"}',
    "one key of many twice": (
      '{"prompt": "x", '
      + ",".join(f'"{n}": 0' for n in range(60_000))
      + ', "59999": 1}'
    ).encode(),
    "lists in lists": b'{"prompt": "x", "y": ' + b"[" * 100_000,
    "lists in lists, closed": (
      b'{"prompt": "x", "y": ' + b"[" * 90_000 + b"]" * 90_000 + b"}"
    ),
    "objects in objects": b'{"prompt": ' * 50_000,
  }


@pytest.mark.parametrize("name", wrong_texts())
def test_a_wrong_line(name, tmp_path):
  path = tmp_path / "a.jsonl"
  line = wrong_texts()[name]
  path.write_bytes(as_line(GOOD["prompts"]) + line + b"\n")
  message = refused(lambda: sources.read(path, "prompts"), path)
  assert f"{path}:2: " in message


@pytest.mark.parametrize("name", wrong_texts())
def test_a_wrong_line_of_a_format(name, tmp_path):
  path, out = tmp_path / "a.jsonl.xz", tmp_path / "out.jsonl"
  line = wrong_texts()[name]
  path.write_bytes(lzma.compress(as_line(GOOD["prompts"]) + line + b"\n"))
  message = refused(lambda: convert.convert("jsonl", [path], out), path)
  assert f"{path}:2: " in message
  assert not out.exists()


@pytest.mark.parametrize("name", wrong_texts())
def test_a_wrong_record_of_an_array(name, tmp_path):
  path = tmp_path / "a.json"
  line = wrong_texts()[name]
  path.write_bytes(b"[" + as_line(GOOD["prompts"]) + b"," + line + b"]")
  if name in ("two objects with a comma",):  # which an array may hold
    assert len(sources.read(path, "prompts")) == 3
  else:
    refused(lambda: sources.read(path, "prompts"), path, f"{PLACE}|: ")


@pytest.mark.parametrize(
  "content",
  [
    b"[",
    b"[{}",
    b'[{"prompt": "x"}',
    b'[{"prompt": "x"},]',
    b'[{"prompt": "x"} {"prompt": "y"}]',
    b'[{"prompt": "x"}]]',
    b'[{"prompt": "x"}] [{"prompt": "y"}]',
    b'[{"prompt": "x"}, 3]',
    b'[[{"prompt": "x"}]]',
    b'["x"]',
    b"[null]",
    b"[,]",
    b"[" * 100_000,
    b"[]",
    b" \n ",
    b"",
  ],
)
def test_a_wrong_array(content, tmp_path):
  path = tmp_path / "a.json"
  path.write_bytes(content)
  refused(lambda: sources.read(path, "prompts"), path, f"{PLACE}|: ")


def _noise(count):
  """Bytes that do not compress."""
  state, found = 1, bytearray()
  for _ in range(count):
    state = state * 1103515245 + 12345 & 0x7FFFFFFF
    found.append(97 + (state >> 16) % 26)
  return found.decode("ascii")


CONTENT = as_line({"prompt": _noise(3000)}) + as_line({"prompt": _noise(3000)})
PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def _flipped(packed, place):
  found = bytearray(packed)
  found[int(place * len(found))] ^= 0x55
  return bytes(found)


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_compressed_file(packing, share, tmp_path):
  path = tmp_path / f"a.jsonl.{packing}"
  packed = PACKERS[packing](CONTENT)
  path.write_bytes(packed[: max(8, int(share * len(packed)))])
  refused(lambda: sources.read(path, "prompts"), path)
  refused(lambda: list(sources.read_text(path)), path)


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_a_flipped_byte_in_a_compressed_file(packing, place, tmp_path):
  path = tmp_path / f"a.jsonl.{packing}"
  path.write_bytes(_flipped(PACKERS[packing](CONTENT), place))
  refused(lambda: sources.read(path, "prompts"), path)


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize(
  "content", [b"", CONTENT[:50], b"\0" * 99, b"\xff\xfe"]
)
def test_a_file_that_only_begins_as_compressed(packing, content, tmp_path):
  path = tmp_path / f"a.txt.{packing}"
  path.write_bytes(PACKERS[packing](CONTENT)[:10] + content)
  refused(lambda: list(sources.read_text(path)), path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("ending", ["jsonl.zst", "txt.zst"])
def test_a_truncated_zstandard_file(share, ending, tmp_path):
  arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet'")
  path = tmp_path / f"a.{ending}"
  packed = arrow.compress(CONTENT, codec="zstd", asbytes=True)
  path.write_bytes(packed[: max(6, int(share * len(packed)))])
  kind = "prompts" if ending.startswith("jsonl") else "pretraining"
  refused(lambda: sources.read(path, kind), path, f"{PLACE}|: ")


def table_of(tmp_path, columns):
  pytest.importorskip("pyarrow", reason="the extra 'parquet'")
  import pyarrow.parquet

  path = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(pyarrow.table(columns), path)
  return path


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_a_truncated_parquet_file(share, tmp_path):
  path = table_of(tmp_path, {"prompt": [_noise(3000)] * 9})
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  refused(lambda: sources.read(path, "prompts"), path)


@pytest.mark.parametrize(
  "content", [b"PAR1", b"PAR1" * 9, b"PAR1\xff\xff\xff\x7fPAR1", CONTENT]
)
def test_what_is_no_parquet_file(content, tmp_path):
  path = table_of(tmp_path, {"prompt": ["x"]})
  path.write_bytes(content)
  refused(lambda: sources.read(path, "prompts"), path)


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
    {"prompt": ["x"], "user": [3]},
    {"prompt": ["x"], "split": ["dev"]},
  ],
)
def test_wrong_columns(columns, tmp_path):
  path = table_of(tmp_path, columns)
  message = refused(lambda: sources.read(path, "prompts"), path)
  assert ", row 1: " in message


WRONG = (None, True, 3, -2.5, [], ["x"], {}, {"x": 1})
BLANK = ("", " \n\t")


def wrong_values():
  """(kind, key, value) of every key of every kind."""
  for kind, record in GOOD.items():
    for key, value in record.items():
      if isinstance(value, str):
        for wrong in WRONG + BLANK:
          yield kind, key, wrong
      else:
        for wrong in (None, True, 3, "x", {}, [], ["x"], [None], [[1]]):
          yield kind, key, wrong
    for key in ("user", "labeler", "source"):
      for wrong in WRONG:
        yield kind, key, wrong
    for wrong in (*WRONG, "", "dev", "TRAIN", 10**30):
      yield kind, "split", wrong


@pytest.mark.parametrize(("kind", "key", "value"), wrong_values())
def test_a_wrong_value(kind, key, value, tmp_path):
  path = tmp_path / "a.jsonl"
  wrong = GOOD[kind] | {key: value}
  path.write_bytes(as_line(GOOD[kind]) + as_line(wrong))
  message = refused(lambda: sources.read(path, kind, k_max=4), path)
  assert f"{path}:2: " in message
  assert f'"{key}"' in message


@pytest.mark.parametrize("kind", GOOD)
def test_a_key_that_is_not_there(kind, tmp_path):
  path = tmp_path / "a.jsonl"
  for key in GOOD[kind]:
    wrong = {k: v for k, v in GOOD[kind].items() if k != key}
    path.write_bytes(as_line(GOOD[kind]) + as_line(wrong))
    message = refused(lambda: sources.read(path, kind), path)
    assert f'no "{key}"' in message


@pytest.mark.parametrize(
  "change",
  [
    {"ranks": [1, 2]},
    {"ranks": [1, 2, 3, 4]},
    {"ranks": [0, 1, 2]},
    {"ranks": [-1, 1, 2]},
    {"ranks": [1, 1.0, 2]},
    {"ranks": [1, "2", 3]},
    {"ranks": [1, None, 2]},
    {"ranks": [1, False, 2]},
    {"ranks": [1, 2, 10**40]},
    {"ranks": [1, 2, 2**31]},
    {"ranks": {"0": 1}},
    {"responses": ["a"], "ranks": [1]},
    {"responses": list("abcde"), "ranks": [1] * 5},
    {"responses": ["a", 1, "c"]},
    {"responses": ["a", None, "c"]},
    {"responses": ["a", ["b"], "c"]},
    {"responses": ["a", {"text": "b"}, "c"]},
    {"ended": [True, False]},
    {"ended": [True, False, 1]},
    {"ended": [True, False, None]},
    {"ended": True},
    {"pairs": {}},
    {"pairs": 3},
    {"pairs": "01"},
    {"pairs": []},
    {"pairs": [[]]},
    {"pairs": [0, 1]},
    {"pairs": [[0]]},
    {"pairs": [[0, 1, 2]]},
    {"pairs": [[0, 3]]},
    {"pairs": [[-1, 0]]},
    {"pairs": [[0, 10**30]]},
    {"pairs": [[1, 1]]},
    {"pairs": [[0, 1], [0, 1]]},
    {"pairs": [[0, 1], [1, 0]]},
    {"pairs": [[0, 1], [1, 2], [2, 1]]},
    {"pairs": [[0, True]]},
    {"pairs": [[0, 1.0]]},
    {"pairs": [["0", "1"]]},
    {"pairs": [[0, None]]},
    {"pairs": [[[0], [1]]]},
    {"pairs": [{"0": 1}]},
    {"pairs": [[0, 1], 5]},
  ],
)
def test_a_wrong_ranking(change, tmp_path):
  path = tmp_path / "a.jsonl"
  good = GOOD["rankings"]
  for wrong in (
    good | change,
    {k: v for k, v in good.items() if k != "ranks"} | change,
  ):
    path.write_bytes(as_line(good) + as_line(wrong))
    message = refused(lambda: sources.read(path, "rankings", k_max=4), path)
    assert f"{path}:2: " in message


@pytest.mark.parametrize(
  "spec",
  [
    "{a}=0.5,{b}",
    "{a},{b}=0.5",
    "{a}=0,{b}=0",
    "{a}=0,{b}=1",
    "{a}=-0.5,{b}=0.5",
    "{a}=-1,{b}=-1",
    "{a}=nan,{b}=1",
    "{a}=inf,{b}=1",
    "{a}=,{b}=1",
    "{a}==1,{b}=1",
    "{a}=half,{b}=0.5",
    "{a}=1/2,{b}=1/2",
    "{a}=50%,{b}=50%",
    "{a}=0x1,{b}=1",
    "{a}=" + "9" * 400 + ",{b}=1",
  ],
)
def test_wrong_weights(spec, tmp_path):
  for name in "ab":
    (tmp_path / name).with_suffix(".jsonl").write_bytes(
      as_line(GOOD["prompts"])
    )
  spec = spec.format(a=tmp_path / "a.jsonl", b=tmp_path / "b.jsonl")
  with pytest.raises(errors.UserError, match=r"a\.jsonl"):
    sources.read(spec, "prompts")


@pytest.mark.parametrize(
  "spec", ["", " ", ",", " , ,", "=1", "a\0b", "x" * 5000, "[", "nowhere/*"]
)
def test_names_of_nothing(spec):
  with pytest.raises(errors.UserError):
    sources.read(spec, "prompts")
