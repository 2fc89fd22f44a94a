"""Malformed data of every sort: an error that names file and place, at once.

Every input ends in a UserError within a second, never in a traceback, a hang
or in records that differ from what was written.
"""

import bz2
import gzip
import json
import lzma
import random
import time

import pytest

from instruct_jax.base import errors
from instruct_jax.data.public import convert
from instruct_jax.data.read import sources

GOOD = {
  "pretraining": {"text": "words"},
  "demonstrations": {"prompt": "q", "response": "a"},
  "prompts": {"prompt": "q"},
  "rankings": {
    "prompt": "q",
    "responses": ["a", "b", "c"],
    "ranks": [1, 2, 2],
  },
}
PAIRED = {"prompt": "q", "responses": ["a", "b", "c"], "pairs": [[0, 1]]}
NOT_TEXT = (None, 3, 1.5, True, [], ["x"], {}, {"a": "b"}, "", " \n ")
NOT_LABEL = (None, 3, 1.5, True, [], ["x"], {"a": "b"})
NOT_LIST = (None, 3, 1.5, True, "x", {}, {"a": 1})
HUGE = 10**400


def refused(call, *places):
  """The call must end in a UserError that names the places, in a second."""
  start = time.perf_counter()
  with pytest.raises(errors.UserError) as caught:
    call()
  assert time.perf_counter() - start < 1
  for place in places:
    assert place in str(caught.value)
  assert len(str(caught.value)) < 1500


def wrong_values():
  for kind, good in GOOD.items():
    for key in good:
      if isinstance(good[key], str):
        yield from ((kind, {key: value}, key) for value in NOT_TEXT)
      else:
        yield from ((kind, {key: value}, key) for value in NOT_LIST)
    for key in ("user", "labeler", "source"):
      is_person = key != "source"  # people may be numbered
      values = (x for x in NOT_LABEL if not (is_person and x == 3))
      yield from ((kind, {key: value}, key) for value in values)
    for value in (None, 3, True, [], {}, "dev", "", "TRAIN"):
      yield kind, {"split": value}, "split"


def wrong_rankings():
  for value in ([], ["a"], list("abcdefghij")):
    yield GOOD, {"responses": value}, "responses"
  for value in (None, 3, True, [], {}):
    yield GOOD, {"responses": ["a", value, "c"]}, "responses"
  for value in ([], [1], [1, 2], [1, 2, 3, 4]):
    yield GOOD, {"ranks": value}, "ranks"
  for value in (None, 0, -1, 1.0, 1.5, True, "1", [1], {}, HUGE, 2**31):
    yield GOOD, {"ranks": [1, 2, value]}, "ranks"
  for value in (*NOT_LIST, [], [True], [True] * 4, [1, 0, 1], [None] * 3):
    yield GOOD, {"ended": value}, "ended"
  for value in (*NOT_LIST, []):
    yield PAIRED, {"pairs": value}, "pairs"
  for pair in (
    None, 1, "01", {}, [], [0], [0, 1, 2], [0, 3], [-1, 0], [0, 0], [0, 1.0],
    [0, True], ["0", "1"], [0, None], [0, HUGE], [[0], [1]], [1, 2], [2, 1],
  ):  # fmt: skip
    yield PAIRED, {"pairs": [[1, 2], pair]}, "pairs"


@pytest.mark.parametrize(("kind", "change", "key"), wrong_values())
def test_wrong_values_of_every_key(kind, change, key, tmp_path):
  records = [GOOD[kind], GOOD[kind] | change]
  lines, array = tmp_path / "a.jsonl", tmp_path / "a.json"
  lines.write_text("".join(json.dumps(r) + "\n" for r in records))
  array.write_text(json.dumps(records))
  refused(lambda: sources.read(lines, kind), f"{lines}:2: ", f'"{key}"')
  refused(lambda: sources.read(array, kind), f"{array}, record 2: ", f'"{key}"')


@pytest.mark.parametrize(("good", "change", "key"), wrong_rankings())
def test_wrong_rankings(good, change, key, tmp_path):
  good = GOOD["rankings"] if good is GOOD else good
  path = tmp_path / "a.jsonl"
  path.write_text("".join(json.dumps(r) + "\n" for r in (good, good | change)))
  refused(lambda: sources.read(path, "rankings"), f"{path}:2: ", f'"{key}"')


LINES = {
  "no brace": '{"prompt": "q"',
  "half a string": '{"prompt": "q',
  "no value": '{"prompt":}',
  "no key": '{: "q"}',
  "a comma too many": '{"prompt": "q",}',
  "no comma": '{"prompt": "q" "x": 1}',
  "single quotes": "{'prompt': 'q'}",
  "a comment": '{"prompt": "q"} // why',
  "two objects": '{"prompt": "q"}{"prompt": "r"}',
  "two objects with a comma": '{"prompt": "q"}, {"prompt": "r"}',
  "a string": '"q"',
  "a number": "3",
  "null": "null",
  "true": "true",
  "nothing but a word": "prompt",
  "NaN": '{"prompt": "q", "x": NaN}',
  "NaN within": '{"prompt": "q", "x": [[NaN]]}',
  "Infinity": '{"prompt": "q", "x": Infinity}',
  "-Infinity": '{"prompt": "q", "x": -Infinity}',
  "a number beyond all": '{"prompt": "q", "x": 1e999}',
  "an integer beyond all": '{"prompt": "q", "x": ' + "9" * 5000 + "}",
  "a long integer beyond all": '{"prompt": "q", "x": ' + "9" * 10**6 + "}",
  "a key twice": '{"prompt": "q", "prompt": "r"}',
  "a key twice, the same": '{"prompt": "q", "prompt": "q"}',
  "a key twice within": '{"prompt": "q", "x": [{"y": 1, "y": 2}]}',
  "a key twice, escaped": '{"prompt": "q", "\\u0070rompt": "r"}',
  "a key twice of many": "{"
  + ",".join(f'"k{n}": 1' for n in [*range(60000), 59999])
  + "}",
  "half a pair": '{"prompt": "\\ud83d"}',
  "half a pair, upper": '{"prompt": "\\uD83D x"}',
  "the other half": '{"prompt": "\\ude00"}',
  "the halves turned": '{"prompt": "\\ude00\\ud83d"}',
  "half a pair in a key": '{"prompt": "q", "\\ud83d": 1}',
  "half a pair within": '{"prompt": "q", "x": [{"y": "\\ud83d"}]}',
  "a wrong escape": '{"prompt": "\\x41"}',
  "a cut escape": '{"prompt": "\\u12"}',
  "a control character": '{"prompt": "a\x01"}',
  "a tab": '{"prompt": "a\tb"}',
  "a NUL": '{"prompt": "a\x00"}',
  "only NULs": "\x00" * 100,
  "deep lists": '{"prompt": ' + "[" * 10**5 + "]" * 10**5 + "}",
  "deep lists, open": "[" * 10**6,
  "deep objects": '{"a":' * 10**5 + "1" + "}" * 10**5,
  "a mark in the middle": '\ufeff{"prompt": "q"}',
  "XML": "<prompt>q</prompt>",
  "CSV": "prompt,response",
}


@pytest.mark.parametrize("name", LINES)
def test_lines_that_are_no_json(name, tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text(f'{{"prompt": "p"}}\n{LINES[name]}\n', encoding="utf-8")
  refused(lambda: sources.read(path, "prompts"), f"{path}:2: ")


ARRAYS = {
  "open": '[{"prompt": "q"}',
  "cut after a comma": '[{"prompt": "q"},',
  "cut in an object": '[{"prompt": "q"}, {"prom',
  "no comma": '[{"prompt": "q"} {"prompt": "r"}]',
  "two commas": '[{"prompt": "q"},, {"prompt": "r"}]',
  "a comma at the end": '[{"prompt": "q"},]',
  "more behind": '[{"prompt": "q"}] {"prompt": "r"}',
  "two arrays": '[{"prompt": "q"}]\n[{"prompt": "r"}]',
  "a key twice": '[{"prompt": "p"}, {"prompt": "q", "prompt": "r"}]',
  "a number": '[{"prompt": "q"}, 3]',
  "an array": '[[{"prompt": "q"}]]',
  "NaN": '[{"prompt": "q"}, {"prompt": "r", "x": NaN}]',
  "half a pair": '[{"prompt": "q"}, {"prompt": "\\ud83d"}]',
  "bracket": "[",
  "brackets": "[" * 10**5,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_none(name, tmp_path):
  path = tmp_path / "a.json"
  path.write_text(ARRAYS[name])
  refused(lambda: sources.read(path, "prompts"), f"{path}", "record ")


BYTES = {
  "latin-1": '{"prompt": "é"}\n'.encode("latin-1"),
  "UTF-16": '{"prompt": "q"}\n'.encode("utf-16"),
  "UTF-32": '{"prompt": "q"}\n'.encode("utf-32"),
  "half a character": '{"prompt": "é'.encode()[:-1],
  "too long a form": b'{"prompt": "\xc0\xaf"}\n',
  "half a pair": b'{"prompt": "\xed\xa0\x80"}\n',
  "beyond Unicode": b'{"prompt": "\xf5\x80\x80\x80"}\n',
  "noise": random.Random(1).randbytes(5000),
  "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
  "an archive": b"PK\x03\x04" + bytes(100),
  "a pickle": b"\x80\x04\x95" + bytes(50),
  "nothing": b"",
  "only spaces": b" \n\r\n\t",
  "only a mark": b"\xef\xbb\xbf",
  "a Parquet mark alone": b"PAR1",
  "two Parquet marks": b"PAR1PAR1",
  "Parquet with a long footer": b"PAR1" + b"\xff\xff\xff\x7fPAR1",
  "a gzip head": b"\x1f\x8b",
  "a bzip2 head": b"BZh9",
  "an xz head": b"\xfd7zXZ\x00",
  "a zstandard head": b"\x28\xb5\x2f\xfd",
}


@pytest.mark.parametrize("kind", ["prompts", "pretraining"])
@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_text(name, kind, tmp_path):
  pytest.importorskip("pyarrow", reason="the extra 'parquet'")
  path = tmp_path / "a.jsonl"
  path.write_bytes(BYTES[name])
  refused(lambda: sources.read(path, kind), str(path))
  if kind == "pretraining" and "Parquet" not in name:
    text = tmp_path / "a.txt"
    text.write_bytes(BYTES[name])
    refused(lambda: sources.read(text, kind), str(text))


def packed(ending, content):
  if ending == ".zst":
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet'")
    return pyarrow.compress(content, codec="zstd", asbytes=True)
  pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
  return pack[ending](content)


def many(count=3000):
  rng = random.Random(0)
  rows = ({"prompt": f"{n} {rng.random()}"} for n in range(count))
  return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_cut_compressed_files(ending, share, tmp_path):
  content = packed(ending, many())
  path = tmp_path / f"a.jsonl{ending}"
  path.write_bytes(content[: min(int(len(content) * share), len(content) - 1)])
  refused(lambda: sources.read(path, "prompts"), f"{path}:")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_flipped_bits_of_compressed_files(ending, seed, tmp_path):
  content = bytearray(packed(ending, many(300)))
  rng = random.Random(seed)
  # Past the head, which also says what does not matter, such as a date.
  content[rng.randrange(16, len(content))] ^= 1 << rng.randrange(8)
  path = tmp_path / f"a.jsonl{ending}"
  path.write_bytes(content)
  refused(lambda: sources.read(path, "prompts"), f"{path}:")


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_more_behind_a_compressed_file(ending, tmp_path):
  path = tmp_path / f"a.jsonl{ending}"
  path.write_bytes(packed(ending, many(10)) + b"more that is not packed")
  refused(lambda: sources.read(path, "prompts"), f"{path}:")


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("ending", [".bz2", ".xz"])
def test_a_second_member_with_a_damaged_head(ending, at, tmp_path):
  first, second = (bytearray(packed(ending, many(n))) for n in (10, 20))
  second[at] ^= 255
  path = tmp_path / f"a.jsonl{ending}"
  path.write_bytes(first + second)
  refused(lambda: sources.read(path, "prompts"), f"{path}:")


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
  arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet'")
  import pyarrow.parquet

  path = tmp_path_factory.mktemp("parquet") / "a.parquet"
  rows = [{"prompt": f"why {n}?", "user": f"u{n % 7}"} for n in range(2000)]
  table = arrow.Table.from_pylist(rows)
  pyarrow.parquet.write_table(
    table, path, row_group_size=500, write_page_checksum=True
  )
  return path.read_bytes()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0])
def test_cut_parquet_files(share, parquet, tmp_path):
  path = tmp_path / "a.parquet"
  path.write_bytes(parquet[: min(int(len(parquet) * share), len(parquet) - 1)])
  refused(lambda: sources.read(path, "prompts"), f"{path}, row ")


@pytest.mark.parametrize("seed", range(20))
def test_noise_in_parquet_files(seed, parquet, tmp_path):
  content, rng = bytearray(parquet), random.Random(seed)
  for _ in range(40):
    content[rng.randrange(4, len(content))] = rng.randrange(256)
  path = tmp_path / "a.parquet"
  path.write_bytes(content)
  start = time.perf_counter()
  try:
    found = sources.read(path, "prompts")
  except errors.UserError as error:
    assert f"{path}, row " in str(error)  # noqa: PT017
  else:  # the noise lay where nothing depends on it, or changed letters
    assert len(found) == 2000
  assert time.perf_counter() - start < 1


FORMATS = {
  "hh": {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "x"},
  "finegrained": {
    "question": "q",
    **{f"prediction {n}": f"a{n}" for n in (1, 2, 3, 4)},
    "preference": [0, 0, 0, 0, 0, 0],
  },
  "pandalm": {
    "instruction": "q",
    "response1": "a",
    "response2": "b",
    **{f"annotator{n}": n - 1 for n in (1, 2, 3)},
  },
  "llmbar": {"input": "q", "output_1": "a", "output_2": "b", "label": 1},
  "ultrafeedback": {
    "prompt": "q",
    "completions": [
      {"response": "a", "score": 1},
      {"response": "b", "score": 2},
    ],
  },
  "oasst": {
    "prompt": {
      "text": "q",
      "role": "prompter",
      "replies": [
        {"text": x, "role": "assistant", "rank": n} for n, x in enumerate("ab")
      ],
    }
  },
  "tldr": {
    "info": {"post": "p"},
    "summaries": [{"text": "a"}, {"text": "b"}],
    "choice": 0,
  },
  "seed_tasks": {"instruction": "q", "instances": [{"output": "a"}]},
  "alpaca": {"instruction": "q", "output": "a"},
  "dolly": {"instruction": "q", "response": "a"},
  "t0": {"prompt": "q", "completion": "a"},
  "chat": {
    "messages": [
      {"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"},
    ]
  },
}
OPTIONAL = {
  "pandalm": {"input": 3},
  "alpaca": {"input": ["x"]},
  "dolly": {"context": {}},
  "tldr": {"worker": 3, "split": "later"},
}
COUNTED = ("response1", "response2")  # what is no text is dropped, and counted


def wrong_rows():
  for name, good in FORMATS.items():
    for key, value in good.items():
      wrong = [None, [3], {"x": 1}, HUGE, True, 1.5]
      wrong += [] if isinstance(value, str) else ["x"]
      for other in wrong:
        yield name, key, {**good, key: other}
      yield name, key, {k: v for k, v in good.items() if k != key}
    for key, value in OPTIONAL.get(name, {}).items():
      yield name, key, {**good, key: value}


@pytest.mark.parametrize(("name", "key", "row"), wrong_rows())
def test_rows_that_are_not_of_a_format(name, key, row, tmp_path):
  path, out = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
  path.write_text(json.dumps(row) + "\n")
  place = str(path) if key in COUNTED else f"{path}:1"
  refused(lambda: convert.convert(name, [path], out), place)
  assert not out.exists()


INNER = [
  ("finegrained", ("preference", 0), (None, 3, -1, "1", 1.0, True, [], HUGE)),
  ("ultrafeedback", ("completions", 0), (None, 3, "a", [], {})),
  ("ultrafeedback", ("completions", 0, "response"), (None, 3, [], {})),
  ("ultrafeedback", ("completions", 0, "score"), (True, [], {})),
  ("oasst", ("prompt", "text"), (None, 3, [], {})),
  ("oasst", ("prompt", "role"), (None, 3, "assistant", "user")),
  ("oasst", ("prompt", "replies"), (3, "x", {}, {"text": "a"})),
  ("oasst", ("prompt", "replies", 0), (None, 3, "a", [], {})),
  ("oasst", ("prompt", "replies", 0, "text"), (None, 3, [], {})),
  ("oasst", ("prompt", "replies", 0, "role"), (None, 3, "prompter")),
  ("oasst", ("prompt", "replies", 0, "rank"), ("1", 1.5, True, [])),
  ("oasst", ("prompt", "replies", 0, "replies"), (3, "x", {}, [3], [{}])),
  ("tldr", ("info", "post"), (None, 3, [], {})),
  ("tldr", ("info", "title"), (3, [], {"a": 1})),
  ("tldr", ("info", "subreddit"), (3, [], {"a": 1})),
  ("tldr", ("summaries", 0), (None, 3, "a", [], {})),
  ("tldr", ("summaries", 0, "text"), (None, 3, [], {})),
  ("seed_tasks", ("instances", 0), (None, 3, "a", [], {})),
  ("seed_tasks", ("instances", 0, "output"), (None, 3, [], {})),
  ("seed_tasks", ("instances", 0, "input"), (3, [], {"a": 1})),
  ("chat", ("messages", 0), (None, 3, "a", [], {})),
  ("chat", ("messages", 0, "role"), (None, 3, [], {})),
  ("chat", ("messages", 0, "content"), (3, [], {"a": 1})),
]


@pytest.mark.parametrize(
  ("name", "path", "value"),
  [(name, path, value) for name, path, values in INNER for value in values],
)
def test_wrong_values_within_rows(name, path, value, tmp_path):
  row = json.loads(json.dumps(FORMATS[name]))
  place = row
  for step in path[:-1]:
    place = place[step]
  place[path[-1]] = value
  source, out = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
  source.write_text(json.dumps(row) + "\n")
  refused(lambda: convert.convert(name, [source], out), f"{source}:1")
  assert not out.exists()


def test_the_rows_that_were_spoilt_are_right(tmp_path):
  """So that each of the above is refused for what was changed."""
  source, out = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
  for name, row in FORMATS.items():
    rows = [row]
    if name == "hh":
      rows = [{**row, "rejected": "\n\nHuman: q\n\nAssistant: b"}]
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert convert.convert(name, [source], out)["written"] > 0
  for kind, record in GOOD.items():
    source.write_text(json.dumps(record))
    assert sources.read(source, kind) == [record]
  source.write_text(json.dumps(PAIRED))
  assert sources.read(source, "rankings") == [PAIRED]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_marks_and_line_ends_that_are_fine(mark, ends, tmp_path):
  records = [
    {"prompt": "a é 😀"},
    {"prompt": "b\u2028c"},
    {"prompt": "\U0001f600"},
  ]
  path = tmp_path / "a.jsonl"
  for ascii_only in (True, False):
    texts = [json.dumps(r, ensure_ascii=ascii_only) for r in records]
    path.write_bytes((mark + ends.join(texts)).encode("utf-8"))
    assert sources.read(path, "prompts") == records


@pytest.mark.parametrize("depth", range(100, 1000, 60))
def test_what_is_read_can_be_written_again(depth, tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"prompt": "q", "x": ' + "[" * depth + "]" * depth + "}")
  try:
    found = sources.read(path, "prompts")
  except errors.UserError as error:
    assert f"{path}:1" in str(error)  # noqa: PT017
  else:
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
  "name", ["none", "none/a.jsonl", "*.none", "[", "a\x00b", "x" * 300, "."]
)
def test_names_that_name_no_file(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  refused(lambda: sources.read(name, "prompts"), name[:100])
