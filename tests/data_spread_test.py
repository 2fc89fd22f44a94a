"""A data set by many workers is, bit for bit, the one of this machine."""

import errno
import gzip
import json
import os
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instruct_jax.base import errors, interrupt
from instruct_jax.data import building, prepare, spread, tasks
from instruct_jax.data.read import answers, kinds, pieces, sources, spans
from tests import data_toys

WORDS = ["the", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sleeps"]


def here(every, look):
  """Does tasks in another order, and some of them twice."""
  every = list(every)
  random.Random(0).shuffle(every)
  for task in [*every, *every[::3]]:
    tasks.run(task)
    look()


def engine(run=here, group=700):
  return spread.Spread(run, group=group)


def contents(folder):
  paths = (path for path in folder.glob("**/*") if path.is_file())
  return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def write(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(path)


def _texts(count, seed):
  rng = random.Random(seed)
  return [
    " ".join(rng.choices(WORDS, k=rng.randint(3, 40))) + f" é {n}."
    for n in range(count)
  ]


@pytest.fixture
def files(tmp_path):
  """Files of every sort; the marks, users and copies that hang together."""
  texts = _texts(60, 1)
  texts[7] = texts[7].replace(" ", "\n")
  (tmp_path / "plain.txt").write_text("\n\n".join(texts) + "\n")
  ends = ["\r\n\r\n", "\r\n \t\r\n\r\n", "\n\n\n"]
  (tmp_path / "other.txt").write_bytes(
    b"\xef\xbb\xbf"
    + "".join(x + ends[n % 3] for n, x in enumerate(_texts(40, 2))).encode()
  )
  rows = [{"text": text} for text in _texts(50, 3)]
  rows[3]["split"], rows[30]["split"] = "validation", "test"
  write(tmp_path / "lines.jsonl", rows)
  with gzip.open(tmp_path / "packed.txt.gz", "wt") as file:
    file.write("\n\n".join(_texts(30, 4)))
  prompts = [
    {"prompt": f"what does dog {n % 61} do, {WORDS[n % 9]}?"} for n in range(90)
  ]
  for n, record in enumerate(prompts):
    if n % 3:
      record["user"] = f"user {n % 7}"
    if n % 5 == 0:
      record["prompt"] += f" Write to a{n}@b.org."
  prompts[4]["prompt"] = "the same"
  prompts[44] |= {"prompt": "the same", "user": "somebody"}
  write(tmp_path / "prompts.jsonl", prompts)
  asked = [x["prompt"] for x in prompts[:40]]
  shown = [{"prompt": x, "response": "it sleeps"} for x in asked]
  shown[9] = {
    "messages": [
      {"role": "user", "content": "hello"},
      {"role": "assistant", "content": "it is a dog"},
    ]
  }
  shown[11]["split"] = "test"
  write(tmp_path / "shown.jsonl", shown)
  rows = [f'"{x}",it jumps' for x in asked]
  (tmp_path / "shown.csv").write_text("\n".join(["prompt,response", *rows]))
  rankings = [
    {"prompt": x, "responses": ["sleeps", "it jumps"], "ranks": [1, 1 + n % 4]}
    for n, x in enumerate(asked)
  ]
  write(tmp_path / "rankings.jsonl", rankings)
  return tmp_path


def config(files, **changes):
  data = {
    "prompt_length": 64,
    "response_length": 8,
    "row_length": 80,
    "vocab_size": 370,
    "tokenizer": "unigram",
    "validation_fraction": 0.2,
    "test_fraction": 0.1,
    "per_user": 9,
    "pretraining": f"{files}/plain.txt,{files}/lines.jsonl,"
    f"{files}/other.txt,{files}/packed.txt.gz",
    "prompts": f"{files}/prompts.jsonl",
    "demonstrations": f"{files}/shown.jsonl,{files}/shown.csv",
    "rankings": f"{files}/rankings.jsonl",
  }
  return data_toys.config(data_toys.section(**(data | changes)))


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setattr(building, "PIECE", 900)


def built(config, folder, engine):
  with prepare.by(engine):
    return prepare.build(config, folder)


CASES = {
  "all": {},
  "a sample": {"tokenizer_sample": 3000},
  "bytes": {"tokenizer": "byte", "packing": True},
  "a mixture": {
    "pretraining": "{0}/plain.txt=0.7,{0}/lines.jsonl=0.3",
    "demonstrations": "{0}/shown.jsonl=1,{0}/shown.csv=2",
  },
  "nothing held out": {
    "validation_fraction": 0.0,
    "test_fraction": 0.0,
    "pretraining": "{0}/plain.txt",
    "demonstrations": "{0}/shown.csv",
  },
  "with personal data": {"remove_pii": False},
}


@pytest.mark.parametrize(
  ("case", "group"), [*((case, 700) for case in CASES), ("all", 10**6)]
)
def test_the_same_bytes_as_on_one_machine(files, tmp_path, small, case, group):
  changes = {
    name: value.format(files) if isinstance(value, str) else value
    for name, value in CASES[case].items()
  }
  made = config(files, **changes)
  alone = prepare.build(made, tmp_path / "alone")
  spread_ = built(made, tmp_path / "spread", engine(group=group))
  assert spread_ == alone
  assert contents(tmp_path / "spread") == contents(tmp_path / "alone")


def test_a_build_that_was_killed_goes_on_by_whoever_is_asked(
  files, tmp_path, small
):
  made, out = config(files), tmp_path / "out"
  prepare.build(made, tmp_path / "alone")
  done = []

  def killed(every, look):
    for task in every:
      tasks.run(task)
      done.append(task.work)
      if done.count("make") == 3:
        raise interrupt.Interrupted

  with pytest.raises(interrupt.Interrupted):
    built(made, out, engine(killed))
  assert not (out / "summary.json").exists()
  noted = list(out.glob("*/pieces/*.json"))
  assert len(noted) > 3
  before = {path: path.stat().st_mtime_ns for path in noted}
  again = []

  def counted(every, look):
    again.extend(task.work for task in every)
    here(every, look)

  built(made, out, engine(counted))
  assert set(again) == {"make"}  # What the others left is there.
  assert {path: path.stat().st_mtime_ns for path in noted} == before
  assert contents(out) == contents(tmp_path / "alone")

  done.clear()
  with pytest.raises(interrupt.Interrupted):
    built(made, tmp_path / "other", engine(killed))
  prepare.build(made, tmp_path / "other")  # by this machine
  assert contents(tmp_path / "other") == contents(tmp_path / "alone")


def test_what_tasks_left_of_other_input_is_not_taken(files, tmp_path, small):
  made, out = config(files), tmp_path / "out"

  def killed(every, look):
    here(every, look)
    if every[0].work == "measure":
      raise interrupt.Interrupted

  with pytest.raises(interrupt.Interrupted):
    built(made, out, engine(killed))
  with open(files / "plain.txt", "a") as file:
    file.write("\n\nthe fox is back\n\n")
  built(made, out, engine())
  prepare.build(made, tmp_path / "alone")
  assert contents(out) == contents(tmp_path / "alone")


def _broken(kind):
  def line(path):
    rows = path.read_text().splitlines()
    rows[33] = '{"text": "half'
    path.write_text("\n".join(rows))

  def utf8(path):
    content = path.read_bytes()
    at = content.index(b"\n", len(content) * 3 // 4) + 1
    path.write_bytes(content[:at] + b"\xff\xfe" + content[at:])

  def empty(path):
    path.write_text("\n\n")

  def key(path):
    rows = path.read_text().splitlines()
    rows[30] = rows[30].replace('"prompt"', '"promt"')
    path.write_text("\n".join(rows))

  def unmarked(path):
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    rows[5]["split"], rows[-1]["split"] = "test", "train"
    rows[-1]["prompt"] = rows[5]["prompt"]
    write(path, rows)

  return locals()[kind]


@pytest.mark.parametrize(
  ("name", "how"),
  [
    ("lines.jsonl", "line"),
    ("plain.txt", "utf8"),
    ("plain.txt", "empty"),
    ("lines.jsonl", "empty"),
    ("prompts.jsonl", "key"),
    ("shown.jsonl", "utf8"),
    ("shown.csv", "empty"),
    ("rankings.jsonl", "unmarked"),
  ],
)
def test_bad_input_is_said_as_on_one_machine(files, tmp_path, small, name, how):
  _broken(how)(files / name)
  made = config(files)
  with pytest.raises(errors.UserError) as alone:
    prepare.build(made, tmp_path / "alone")
  with pytest.raises(errors.UserError) as spread_:
    built(made, tmp_path / "spread", engine())
  assert str(spread_.value) == str(alone.value)
  assert name in str(alone.value) or how == "unmarked"
  assert not (tmp_path / "spread" / "summary.json").exists()


def test_a_file_that_changes_between_two_rounds_is_an_error(
  files, tmp_path, small
):
  def changes(every, look):
    here(every, look)
    if every[0].work == "scan":
      with open(files / "prompts.jsonl", "a") as file:
        file.write(json.dumps({"prompt": "one more"}) + "\n")

  with pytest.raises(errors.UserError, match=r"prompts\.jsonl: changed while"):
    built(config(files), tmp_path / "out", engine(changes))


def test_records_that_are_others_when_they_are_read_again(files, tmp_path):
  made = config(files)

  def others(every, look):
    here(every, look)
    path = files / "prompts.jsonl"
    if every[0].work == "scan":  # as long as before, at the same time
      stat = path.stat()
      path.write_text(path.read_text().replace("dog 17", "cat 17"))
      os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

  with pytest.raises(errors.UserError, match=r"record \d+ is no longer what"):
    built(made, tmp_path / "out", engine(others))


def test_a_disk_that_says_no_is_an_os_error_that_names_the_file(
  files, tmp_path, small, monkeypatch
):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device", "/there/shard-1")

  monkeypatch.setattr(tasks.pieces, "write", full)
  with pytest.raises(OSError, match="/there/shard-1") as error:
    built(config(files), tmp_path / "out", engine())
  assert error.value.errno == errno.ENOSPC


def test_a_bug_in_a_task_comes_with_its_traceback(files, tmp_path, monkeypatch):
  monkeypatch.setitem(tasks.WORK, "measure", lambda task: 1 // 0)
  with pytest.raises(RuntimeError, match="ZeroDivisionError"):
    built(config(files), tmp_path / "out", engine())


def test_people_s_labels_are_to_be_written_to_a_file_first(tmp_path):
  (tmp_path / answers.NAME).write_bytes(b"SQLite format 3\0")
  data = data_toys.section(rankings=str(tmp_path))
  with pytest.raises(errors.UserError, match=r"label export --dir=\S+ --out="):
    spans.cut(data, "rankings", 10)


@settings(max_examples=200, deadline=None)
@given(
  st.lists(st.integers(1, 40), max_size=60),
  st.lists(st.integers(0, 59), max_size=4),
  st.integers(1, 60),
)
def test_borders_are_those_of_cut(sizes, breaks, most):
  part, kept = 0, []
  records = []
  for n, size in enumerate(sizes):
    if n in breaks and n:
      part += 1
      kept.append(n)
    records.append({"prompt": "x" * size, "response": "y", "part": part})
  bytes_of = [len(building.content_of(record)) for record in records]
  most = most * 30
  pieces = building.cut(
    [("train", record) for record in records],
    "demonstrations",
    dict.fromkeys(kinds.SPLITS, most),
  )
  ends = np.cumsum([len(piece.records) for piece in pieces]).tolist()
  borders = building.borders(np.asarray(bytes_of, np.uint32), kept, most)
  assert [stop for _, stop in borders] == ends
  assert [start for start, _ in borders] == [0, *ends][:-1]


LINE = st.text("ab é\t\r\u2003", max_size=6)


@settings(
  max_examples=200,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(LINE, min_size=1, max_size=40), st.integers(1, 40))
def test_spans_of_text_hold_every_document_once(tmp_path, lines, size):
  path = tmp_path / "text.txt"
  path.write_bytes(("start\n" + "\n".join(lines)).encode())
  data = data_toys.section(pretraining=str(path))
  source = sources.Source(str(path), "pretraining")
  expected = [x.text(n) for x in source.bundles() for n in range(len(x))]
  found = [
    texts.text(n)
    for span in spans.cut(data, "pretraining", size)
    for texts in spans.texts(span)
    for n in range(len(texts))
  ]
  assert found == expected


@pytest.mark.parametrize("size", [1, 7, 50, 333, 10**6])
@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"])
def test_spans_of_lines_hold_every_record_once(tmp_path, size, end):
  path = tmp_path / "shown.jsonl"
  records = [
    {"prompt": f"p{n} " + "é" * (n % 9), "response": "r"} for n in range(40)
  ]
  lines = [json.dumps(record, ensure_ascii=False) for record in records]
  lines.insert(7, "")
  path.write_text("\n".join(lines) + end)
  data = data_toys.section(demonstrations=str(path))
  cut = spans.cut(data, "demonstrations", size)
  assert [x for span in cut for x in spans.records(span)] == records
  assert len(cut) == -(-path.stat().st_size // size)


def test_what_cannot_be_cut_is_a_span_of_its_own(files):
  data = config(files).data
  forms = {
    os.path.basename(span.unit): span.form
    for kind in ("pretraining", "demonstrations")
    for span in spans.cut(data, kind, 10**6)
  }
  assert forms == {
    "plain.txt": spans.TEXT,
    "lines.jsonl": spans.LINES,
    "other.txt": spans.TEXT,
    "packed.txt.gz": spans.WHOLE,
    "shown.jsonl": spans.LINES,
    "shown.csv": spans.WHOLE,
  }


def test_a_document_without_end_is_an_error_in_every_span(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(pieces, "LONGEST", 100)
  monkeypatch.setattr(pieces, "SIZE", 16)
  path = tmp_path / "text.txt"
  path.write_text("x\n" * 300)
  data = data_toys.section(pretraining=str(path))
  for span in spans.cut(data, "pretraining", 64)[1:3]:
    with pytest.raises(errors.UserError, match=r"text\.txt, byte \d+"):
      list(spans.texts(span))
