"""Large files are looked at in part, and that is said."""

import gzip
import json
import re

import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.data import __main__ as command
from instruct_jax.data import inspect, written
from instruct_jax.data.clean import hygiene
from instruct_jax.data.read import pieces, sampled, sources, windows
from instruct_jax.maths import sampling


def prompts(count):
  times = np.random.default_rng(0).integers(40, size=count).tolist()
  return [
    {"prompt": f"what is {n}?" + " please" * k} for n, k in enumerate(times)
  ]


def write(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(path)


@pytest.fixture
def small_windows(monkeypatch):
  monkeypatch.setattr(windows, "_LEAST", 400)
  monkeypatch.setattr(pieces, "SIZE", 512)


def number_of(record):
  return int(record["prompt"].split("?")[0].rpartition(" ")[2])


def test_lines_from_all_over_a_file(tmp_path, small_windows):
  every = prompts(5000)
  path = write(tmp_path / "a.jsonl", every)
  size = (tmp_path / "a.jsonl").stat().st_size
  found = sampled.read([path], "prompts", size // 10)
  assert not found.is_whole
  assert found.first == ()
  assert found.about == pytest.approx(5000, rel=0.1)
  assert len(found.records) == pytest.approx(500, rel=0.1)
  numbers = [number_of(record) for record in found.records]
  assert numbers == sorted(set(numbers))
  assert all(every[n] == record for n, record in zip(numbers, found.records))
  # Some of each tenth, and long ones as often as short ones.
  assert np.histogram(numbers, 10, (0, 5000))[0].min() > 20
  lengths = [len(record["prompt"]) for record in found.records]
  mean = np.mean([len(record["prompt"]) for record in every])
  assert np.mean(lengths) == pytest.approx(mean, rel=0.08)
  again = sampled.read([path], "prompts", size // 10)
  assert again == found


def test_what_is_small_is_read_whole(tmp_path):
  path = write(tmp_path / "a.jsonl", prompts(50))
  for most in (0, 10**6):
    found = sampled.read([path], "prompts", most)
    assert found.is_whole
    assert found.records == prompts(50)
    assert found.about == 50


@pytest.mark.parametrize("start", range(0, 60))
def test_windows_share_a_file_without_a_gap_or_twice(tmp_path, start):
  """What starts in a window is in it, wherever the file is cut in two."""
  lines = [b"one\n", b"two \xc3\xa9\n", b"\n", b"three\r\n", b"four " * 6]
  path = tmp_path / "a.txt"
  path.write_bytes(b"".join(lines))
  size = path.stat().st_size
  start = min(start, size)
  parts = [windows.lines(path, span) for span in ((0, start), (start, size))]
  found = [line for part in parts for _, line in part]
  assert found == ["one", "two é", "", "three", ("four " * 6)]


def test_documents_from_all_over_a_text(tmp_path, small_windows):
  every = [f"document {n}\nof {'many ' * (n % 30)}words" for n in range(2000)]
  path = tmp_path / "a.txt"
  path.write_text("\n\n".join(every) + "\n")
  found = sampled.read([str(path)], "pretraining", path.stat().st_size // 8)
  texts = [record["text"] for record in found.records]
  assert set(texts) <= set(every)
  assert len(texts) == pytest.approx(2000 / 8, rel=0.15)
  assert found.about == pytest.approx(2000, rel=0.15)


def test_a_wrong_line_of_a_window_is_told_by_its_byte(tmp_path, small_windows):
  path = tmp_path / "a.jsonl"
  lines = [json.dumps(r) + "\n" for r in prompts(2000)]
  path.write_text("".join(lines) + "no json\n" * 3000)
  with pytest.raises(errors.UserError, match=r"a\.jsonl:byte \d+: not JSON"):
    sampled.read([str(path)], "prompts", path.stat().st_size // 10)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv", "a.json"])
def test_of_others_the_beginning(tmp_path, name):
  records, path = prompts(3000), tmp_path / name
  if name.endswith("gz"):
    lines = "".join(json.dumps(r) + "\n" for r in records)
    path.write_bytes(gzip.compress(lines.encode()))
  elif name.endswith("csv"):
    path.write_text("prompt\n" + "".join(r["prompt"] + "\n" for r in records))
  else:
    path.write_text(json.dumps(records))
  size = path.stat().st_size
  found = sampled.read([str(path)], "prompts", size // 3)
  assert found.first == (str(path),)
  assert found.about is None
  assert found.records == records[: len(found.records)]
  assert 10 < len(found.records) < 2500


def test_rows_of_parquet_groups_from_all_over(tmp_path):
  pyarrow = pytest.importorskip("pyarrow")
  parquet = pytest.importorskip("pyarrow.parquet")
  path, records = tmp_path / "a.parquet", prompts(20_000)
  table = pyarrow.Table.from_pylist(records)
  parquet.write_table(table, path, row_group_size=1000)
  found = sampled.read([str(path)], "prompts", 4 * path.stat().st_size // 10)
  assert found.about == 20_000
  numbers = [number_of(record) for record in found.records]
  assert all(records[n] == r for n, r in zip(numbers, found.records))
  assert len(numbers) == pytest.approx(2000, rel=0.1)
  assert numbers[-1] - numbers[0] > 15_000


def test_it_is_said(tmp_path, capsys, small_windows, monkeypatch):
  path = write(tmp_path / "a.jsonl", prompts(5000))
  monkeypatch.setattr(inspect, "_MB", 10**3)
  command.main([path, "--most_mb=100", "--samples=1"])
  said = " ".join(capsys.readouterr().out.split())
  assert re.match(
    r"a sample of [56]\d\d of about (5,0|4,9|5,1)00 prompts", said
  )
  assert "Duplicates of the sample" in said
  command.main([path, "--most_mb=100", "--json"])
  assert json.loads(capsys.readouterr().out)["sample"]["first_of"] == []
  command.main([path, "--most_mb=100", "--all", "--samples=0"])
  said = capsys.readouterr().out
  assert said.startswith("5000 prompts")
  assert "sample" not in said


def test_out_writes_all_of_what_is_looked_at_in_part(
  tmp_path, capsys, small_windows, monkeypatch
):
  """The same files as of records in memory."""
  records = prompts(3000) + prompts(100)
  path = write(tmp_path / "a.jsonl", records)
  monkeypatch.setattr(inspect, "_MB", 10**3)
  command.main([path, "--most_mb=30", f"--out={tmp_path / 'out'}", "--json"])
  told = json.loads(capsys.readouterr().out)
  assert told["records"] < 1000
  assert told["written"]["counts"]["read"] == 3100
  assert told["written"]["counts"]["duplicates"] == 100
  settings = hygiene.Settings(every_kind=True)
  written.write(records, "prompts", settings, tmp_path / "whole")
  for split in ("train", "validation", "test"):
    name = f"prompts-{split}.jsonl"
    mine, whole = tmp_path / "out" / name, tmp_path / "whole" / name
    assert mine.read_bytes() == whole.read_bytes() != b""


def test_a_file_that_changes_while_it_is_written_leaves_nothing(
  tmp_path, monkeypatch
):
  path = tmp_path / "a.jsonl"
  write(path, prompts(3000))
  source = sources.Source(path, "prompts")
  plan = written.pipeline.scan({"prompts": source}, hygiene.Settings())
  write(path, prompts(2999))
  monkeypatch.setattr(written.pipeline, "scan", lambda *_: plan)
  out = tmp_path / "out"
  with pytest.raises(errors.UserError, match=r"a\.jsonl: changed while"):
    written.write(source, "prompts", hygiene.Settings(), out)
  assert list(out.iterdir()) == []


def test_a_uniform_sample_of_a_stream():
  counts = np.zeros(50)
  for start in range(400):
    # Another stream each time: what its items are does not matter.
    found = sampling.uniform(range(start, start + 50), 50)
    assert found.items == list(range(start, start + 50))
    assert found.is_whole
  found = sampling.uniform(range(10_000), 1000)
  assert (found.size, found.seen, found.is_whole) == (1000, 10_000, False)
  assert found.items == sorted(found.items)
  counts = np.histogram(found.items, 10, (0, 10_000))[0]
  assert 70 < counts.min() <= counts.max() < 130
  assert found == sampling.uniform(iter(range(10_000)), 1000)


def test_a_sample_by_size_has_one_at_least():
  texts = ["a" * 90, "b" * 20, "c" * 70]
  found = sampling.uniform(texts, 100, len)
  assert found.size <= 100
  assert found.seen_size == 180
  assert set(found.items) < set(texts)
  (one,) = sampling.uniform(texts, 10, len).items
  assert one in texts
  assert sampling.uniform([], 10, len).items == []
