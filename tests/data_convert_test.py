"""Converters of public data sets, on small fixtures and on the real files."""

import gzip
import itertools
import json
import os
import pathlib
import subprocess
import sys

import pytest

from instruct_jax.base import errors
from instruct_jax.data.public import convert
from instruct_jax.data.public import finegrained as finegrained_lib
from instruct_jax.data.read import sources

PUBLIC = pathlib.Path(__file__).parents[2] / "shared" / "data"
PAIRS = list(itertools.combinations(range(4), 2))


def public(name):
  path = PUBLIC / name
  if not path.exists():
    pytest.skip(f"the public data set is not here: {path}")
  return path


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def turns(*texts):
  names = itertools.cycle(["Human", "Assistant"])
  return "".join(f"\n\n{name}: {text}" for name, text in zip(names, texts))


def test_hh(tmp_path):
  pairs = [
    (
      turns("hi", "hello", "and ?", "good"),
      turns("hi", "hello", "and ?", "bad"),
    ),
    (turns("hi", "same"), turns("hi", "same")),
    (turns("hi", "a"), turns("hi there", "b")),
    (turns("hi", ""), turns("hi", "b")),
  ]
  rows = [{"chosen": a, "rejected": b} for a, b in pairs]
  out = tmp_path / "out.jsonl"
  counts = convert.convert("hh", [write(tmp_path / "in.jsonl", rows)], out)
  assert read(out) == [
    {
      "prompt": "hi\n\nAssistant: hello\n\nHuman: and ?",
      "responses": ["good", "bad"],
      "ranks": [1, 2],
      "source": "hh",
    }
  ]
  assert counts == {
    "read": 4,
    "written": 1,
    "dropped: the same response twice": 1,
    "dropped: the two dialogues differ before the last turn": 1,
    "dropped: an empty response": 1,
  }
  assert len(sources.read(out, "rankings")) == 1


def test_ranks_of_every_weak_order_come_back():
  weak, total = set(), 0
  for ranks in itertools.product(range(4), repeat=4):
    labels = tuple(
      (ranks[i] > ranks[j]) + (ranks[i] != ranks[j]) for i, j in PAIRS
    )
    weak.add(labels)
  for labels in itertools.product(range(3), repeat=6):
    ranks = finegrained_lib.ranks_of(labels)
    total += ranks is not None
    assert (ranks is not None) == (labels in weak)
    if ranks:
      assert min(ranks) == 1
      for (i, j), label in zip(PAIRS, labels):
        order = (ranks[i] > ranks[j]) - (ranks[i] < ranks[j])
        assert order == {0: 0, 1: -1, 2: 1}[label]
  assert total == 75  # weak orders of four things


def finegrained(*labels):
  texts = {f"prediction {n}": f" answer {n}" for n in (1, 2, 3, 4)}
  row = {"question": "Why?", "gold": " Because. ", "passages": []}
  return [{**row, **texts, "preference": label} for label in labels]


def test_finegrained(tmp_path):
  rows = finegrained([2, 2, 2, 0, 1, 1], [1, 2, 0, 1, 0, 0])
  source, out = tmp_path / "in.json", tmp_path / "out.jsonl.gz"
  source.write_text(json.dumps(rows))
  counts = convert.convert("finegrained", [source], out)
  assert counts["written"] == 1
  assert counts["dropped: the labels are not a weak order"] == 1
  record = json.loads(gzip.decompress(out.read_bytes()))
  assert record["ranks"] == [4, 1, 1, 3]
  assert record["responses"] == [f"answer {n}" for n in (1, 2, 3, 4)]
  out = tmp_path / "demonstrations.jsonl"
  convert.convert("finegrained", [source], out, kind="demonstrations")
  answer = {"prompt": "Why?", "response": "Because."}
  assert read(out) == [answer | {"source": "finegrained"}] * 2
  counts = convert.convert("finegrained", [source], out, kind="prompts")
  assert read(out) == [{"prompt": "Why?", "source": "finegrained"}]
  assert counts["dropped: a prompt for the second time"] == 1


def test_instructions(tmp_path):
  rows = [
    {
      "instruction": "Add them. ",
      "instances": [
        {"input": "1 2", "output": "3"},
        {"input": "", "output": " 4\n"},
        {"input": "5", "output": ""},
      ],
    }
  ]
  source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
  for name in ("seed_tasks", "self_instruct"):
    counts = convert.convert(name, [source], out)
    assert read(out) == [
      {"prompt": "Add them.\n\n1 2", "response": "3", "source": name},
      {"prompt": "Add them.", "response": "4", "source": name},
    ]
    assert counts["dropped: an empty response"] == 1


def test_books_lose_header_and_footer(tmp_path):
  source, out = tmp_path / "book.txt", tmp_path / "out.jsonl"
  book = """\ufeffTitle: A Book

*** START OF THIS PROJECT GUTENBERG EBOOK A BOOK ***


CHAPTER I

It was a
  dark night.

End of the Project Gutenberg EBook

*** END OF THIS PROJECT GUTENBERG EBOOK A BOOK ***
licence
"""
  source.write_bytes(book.replace("\n", "\r\n").encode("utf-8"))
  convert.convert("text", [source], out)
  assert read(out) == [{"text": "CHAPTER I\nIt was a dark night."}]
  paragraphs = [f"paragraph {n} " + "x" * 500 for n in range(40)]
  source.write_text("\n\n".join(paragraphs))
  convert.convert("text", [source], out)
  documents = [row["text"] for row in read(out)]
  assert len(documents) == 3
  assert "\n".join(documents).split("\n") == paragraphs


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("a.csv", "text\nhello\n"),
    ("a.tsv", "id\ttext\n1\thello\n"),
    ("a.jsonl", '{"text": "hello"}\n'),
    ("a.txt", '[{"text": "hello"}]'),
  ],
)
def test_records_are_not_taken_for_plain_text(tmp_path, name, content):
  """A table is no document; the error's command converts it."""
  source, out = tmp_path / name, tmp_path / "out.jsonl"
  source.write_text(content)
  with pytest.raises(errors.UserError, match=f"{name}: holds records") as found:
    convert.convert("text", [source], out)
  assert not out.exists()
  line = str(found.value).partition("instruct_jax.data convert ")[2]
  arguments = line.replace("KEY", "text").replace("FILE.jsonl", str(out))
  convert.main(arguments.split())
  (row,) = read(out)
  assert row["text"] == "hello"


def test_wikitext_is_split_into_articles(tmp_path):
  source, out = tmp_path / "wiki.txt", tmp_path / "out.jsonl"
  source.write_text(
    " \n = First = \n \n A 3 @.@ 2 km long , 10 @,@ 000 @-@ year @-@ old"
    ' " big " one ( the queen \'s ) . \n = = Part = = \n More <unk> . \n'
    " = Second = \n \n Text ; it is n't long . \n"
  )
  convert.convert("text", [source], out)
  assert [row["text"] for row in read(out)] == [
    '= First =\nA 3.2 km long, 10,000-year-old "big" one (the queen\'s).\n'
    "= = Part = =\nMore <unk>.",
    "= Second =\nText; it isn't long.",
  ]


def test_what_is_refused(tmp_path):
  def refuses(message, name, content, **more):
    source, out = tmp_path / "in.json", tmp_path / "out.jsonl"
    source.write_text(content)
    with pytest.raises(errors.UserError, match=message):
      convert.convert(name, [source], out, **more)
    assert not out.exists()

  refuses("Did you mean 'hh'", "h", "")
  refuses("Did you mean 'prompts'", "hh", "", kind="prompt")
  refuses('in.json:1: "chosen" should be', "hh", '{"rejected": "x"}\n')
  refuses("not JSON", "finegrained", "{")
  refuses('in.json:1: "question" should be', "finegrained", "{}")
  refuses('record 1: "question" should be a string', "finegrained", "[{}]")
  wrong = json.dumps(finegrained([1, 2, 3, 0, 0, 0]))
  refuses('record 1: "preference" should be six of', "finegrained", wrong)
  wrong = json.dumps({"instruction": "x", "instances": [{"input": ""}]})
  refuses('in.json:1: "output" should be a string', "seed_tasks", wrong)
  refuses("nothing to write", "finegrained", "[]")
  (tmp_path / "in.txt").write_text("")
  with pytest.raises(errors.UserError, match="empty files"):
    convert.convert("text", [tmp_path / "in.txt"], tmp_path / "out.jsonl")


def test_what_is_read_or_not_its_own_is_spared(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  rows = [{"prompt": f"{n}"} for n in range(3)]
  source = write(tmp_path / "a.jsonl", rows)
  before = source.read_bytes()
  (tmp_path / "link.jsonl").symlink_to(source)
  (tmp_path / "hard.jsonl").hardlink_to(source)
  names = ("a.jsonl", "./a.jsonl", str(source), "link.jsonl", "hard.jsonl")
  for given in ("a.jsonl", "*.jsonl", "a.jsonl,link.jsonl"):
    for out in names:
      for overwrite in (False, True):
        with pytest.raises(errors.UserError, match="which is read"):
          convert.convert("jsonl", [given], out, overwrite=overwrite)
  assert source.read_bytes() == before
  mine = tmp_path / "mine.jsonl"
  mine.write_text("mine")
  with pytest.raises(errors.UserError, match="replace it with --overwrite"):
    convert.convert("jsonl", [source], mine)
  assert mine.read_text() == "mine"
  convert.convert("jsonl", [source], mine, overwrite=True)
  convert.convert("jsonl", [source], mine)  # its own by now
  assert [x["prompt"] for x in read(mine)] == ["0", "1", "2"]


@pytest.mark.parametrize(
  "name",
  [
    *("x.csv", "x.parquet", "x.json", "x.zip", "x.tsv.gz", "-", "x", ".jsonl"),
    *("x.jsonl.zst", "x.jsonl.bz2", "x.gz", "x.jsonl.txt"),
  ],
)
def test_what_is_written_is_called_so(name, tmp_path):
  source, out = write(tmp_path / "a.jsonl", [{"prompt": "q"}]), tmp_path / name
  with pytest.raises(errors.UserError, match=r"--out=.*: FILE\.jsonl or"):
    convert.convert("jsonl", [source], out, kind="prompts")
  assert not out.exists()


def test_what_fails_half_way_leaves_nothing(tmp_path):
  rows = [{"prompt": f"{n}"} for n in range(3000)]
  source = write(tmp_path / "a.jsonl", [*rows, {"prompt": 3}])
  out = tmp_path / "new" / "folder" / "out.jsonl"
  with pytest.raises(errors.UserError, match=r"a\.jsonl:3001: "):
    convert.convert("jsonl", [source], out)
  assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
  convert.convert("jsonl", [write(tmp_path / "b.jsonl", rows)], out)
  before = out.read_bytes()
  with pytest.raises(errors.UserError):
    convert.convert("jsonl", [source], out)
  assert out.read_bytes() == before
  names = {path.name for path in out.parent.iterdir()}
  assert names == {"out.jsonl", ".written.json"}


def run(*arguments):
  command = [sys.executable, "-m", "instruct_jax.data", *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_line(tmp_path):
  source, out = write(tmp_path / "a.jsonl", [{"prompt": "x"}] * 2), "out.jsonl"
  found = run("convert", "jsonl", source, "--out", tmp_path / out)
  assert found.returncode == 0, found.stderr
  counts = [line.rsplit(None, 1) for line in found.stdout.splitlines()]
  assert counts[2:4] == [["read", "2"], ["written", "1"]]
  assert ["dropped: a prompt for the second time", "1"] in counts
  found = run("convert", "jsonll", source, "--out", tmp_path / out)
  assert found.returncode == 2
  assert found.stderr.startswith("error: unknown format 'jsonll'. Did you mean")


def test_whoever_reads_no_more_is_no_bug(tmp_path):
  source = write(tmp_path / "a.jsonl", [{"prompt": "x"}] * 2)
  reads, writes = os.pipe()
  os.close(reads)
  command = [sys.executable, "-m", "instruct_jax.data", str(source)]
  found = subprocess.run(
    command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False
  )
  os.close(writes)
  assert (found.returncode, found.stderr) == (141, "")


@pytest.mark.parametrize(
  ("name", "file", "kind", "written", "dropped"),
  [
    ("hh", "hh_rlhf/harmless-base_test.jsonl.gz", "rankings", 2303, 9),
    ("finegrained", "finegrained_rlhf/dev_feedback.json", "rankings", 478, 22),
    (
      "finegrained",
      "finegrained_rlhf/dev_feedback.json",
      "demonstrations",
      500,
      0,
    ),
    ("seed_tasks", "seed_tasks/seed_tasks.jsonl", "demonstrations", 175, 0),
    (
      "self_instruct",
      "self_instruct/user_oriented_instructions.jsonl",
      "demonstrations",
      252,
      0,
    ),
    ("text", "text_wikitext2/valid.txt", "pretraining", 60, 0),
    ("text", "text_gutenberg/11-0.txt", "pretraining", 18, 0),
  ],
)
def test_public_data(name, file, kind, written, dropped, tmp_path):
  out = tmp_path / "out.jsonl"
  counts = convert.convert(name, [public(file)], out, kind=kind)
  assert counts["written"] == written
  assert counts["read"] - written == dropped
  found = sources.read(out, kind, k_max=4)
  assert len(found) == written
  assert "Gutenberg" not in str(found)
