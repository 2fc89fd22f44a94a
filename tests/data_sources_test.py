"""Reading people's files: what is right, and what every wrong line says."""

import gzip
import json

import ml_collections
import pytest

from instruct_jax.base import errors
from instruct_jax.data.read import kinds, sources
from instruct_jax.data.read import lines as lines_lib
from tests import data_toys

DEMONSTRATION = {"prompt": "Why?", "response": "Because."}
RANKING = {"prompt": "Why?", "responses": ["a", "b", "c"], "ranks": [1, 2, 2]}


def lines(path, *records):
  texts = (r if isinstance(r, str) else json.dumps(r) for r in records)
  path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
  return path


def section(**changes):
  empty = dict.fromkeys(kinds.KINDS, "")
  plain = {"source": "files", "template": "{prompt}", "k_max": 4}
  plain["start"] = "reference"
  plain["tokenizer"] = "unigram"
  fractions = {"validation_fraction": 0.2, "test_fraction": 0.1}
  return ml_collections.ConfigDict({**plain, **fractions, **empty, **changes})


def test_reads_lines_gzip_patterns_and_lists(tmp_path):
  lines(tmp_path / "b.jsonl", DEMONSTRATION, "", {**DEMONSTRATION, "x": "é"})
  zipped = (tmp_path / "b.jsonl").read_bytes()
  (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(zipped))
  pattern = str(tmp_path / "*.jsonl*")
  found = sources.read(pattern, "demonstrations")
  assert found == [DEMONSTRATION, {**DEMONSTRATION, "x": "é"}] * 2
  both = f"{tmp_path / 'b.jsonl'}, {tmp_path / 'a.jsonl.gz'}"
  assert sources.read(both, "demonstrations") == found


def test_a_path_object_is_taken_as_it_is(tmp_path):
  odd = lines(tmp_path / "a,b[1].jsonl", RANKING)
  assert sources.read(odd, "rankings") == [RANKING]


def test_byte_order_mark_and_windows_lines(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_bytes(b"\xef\xbb\xbf" + json.dumps(RANKING).encode() + b"\r\n")
  assert sources.read(path, "rankings") == [RANKING]


def test_plain_text_is_split_at_blank_lines(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("\n\none\ntwo\n \nthree\n\n\n")
  found = list(sources.read(path, "pretraining"))
  assert found == [{"text": "one\ntwo"}, {"text": "three"}]
  (tmp_path / "a.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
  assert list(sources.read(tmp_path / "a.txt.gz", "pretraining")) == found
  jsonl = lines(tmp_path / "a.jsonl", {"text": "one\n\ntwo"})
  assert list(sources.read(jsonl, "pretraining")) == [{"text": "one\n\ntwo"}]


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("{", "not JSON"),
    ("[1]", "a JSON object such as"),
    ('{"prompt": "\\ud800"}', "surrogate"),
    ({"prompt": "x", "respons": "y"}, 'no "response".*did you mean "respons"'),
    ({"prompt": 3, "response": "y"}, '"prompt" should be a string, not 3'),
    ({"prompt": " ", "response": "y"}, '"prompt" is empty'),
    ({**DEMONSTRATION, "response": ""}, '"response" is empty'),
    ({**DEMONSTRATION, "split": "dev"}, '"split" should be one of'),
  ],
)
def test_a_wrong_line_names_file_line_and_key(line, message, tmp_path):
  path = lines(tmp_path / "a.jsonl", DEMONSTRATION, line)
  with pytest.raises(errors.UserError, match=rf"a\.jsonl:2: .*{message}"):
    sources.read(path, "demonstrations")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"responses": "a"}, '"responses" should be a list'),
    ({"responses": ["a"], "ranks": [1]}, "should hold 2 to 4 texts.* not 1"),
    ({"responses": list("abcde")}, "should hold 2 to 4 texts.* not 5"),
    ({"responses": ["a", "b", 3]}, r'"responses"\[2\] should be a string'),
    ({"ranks": [1, 2]}, '"ranks" has 2 entries, but there are 3 "responses"'),
    ({"ranks": [0, 1, 2]}, r'"ranks"\[0\] should be an integer, 1 for'),
    ({"ranks": [1, 2.5, 2]}, r'"ranks"\[1\].* not 2.5'),
    ({"ranks": [1, True, 2]}, r'"ranks"\[1\].* not true'),
    ({"ended": [True]}, '"ended" has 1 entries'),
    ({"ended": [True, False, 1]}, r'"ended"\[2\] should be true or false'),
  ],
)
def test_a_wrong_ranking(change, message, tmp_path):
  path = lines(tmp_path / "a.jsonl", RANKING, RANKING, {**RANKING, **change})
  with pytest.raises(errors.UserError, match=rf"a\.jsonl:3: .*{message}"):
    sources.read(path, "rankings", k_max=4)


def test_an_empty_completion_is_a_completion(tmp_path):
  record = {**RANKING, "responses": ["", "b", "c"], "ended": [True] * 3}
  path = lines(tmp_path / "a.jsonl", record)
  assert sources.read(path, "rankings") == [record]


def test_wrong_files(tmp_path):
  def refuses(message, path, kind="demonstrations"):
    with pytest.raises(errors.UserError, match=message):
      sources.read(path, kind)

  refuses("no such file", str(tmp_path / "none.jsonl"))
  refuses("no such file", str(tmp_path / "*.none"))
  refuses("a folder", str(tmp_path))
  refuses("empty path", " , ")
  (tmp_path / "a.jsonl").write_text(" \n")
  refuses(r"a\.jsonl: empty", tmp_path / "a.jsonl")
  (tmp_path / "a.txt").write_text(" \n")
  refuses(r"a\.txt: empty", tmp_path / "a.txt", "pretraining")
  (tmp_path / "b.jsonl").write_bytes(b'{"prompt": "x"}\n{"prompt": "\xff"}\n')
  refuses(r"b\.jsonl:1: no \"response\"", tmp_path / "b.jsonl")
  refuses(r"b\.jsonl:2: not UTF-8", tmp_path / "b.jsonl", "prompts")
  data = gzip.compress(json.dumps(DEMONSTRATION).encode() * 100)
  (tmp_path / "c.jsonl.gz").write_bytes(data[:-12])
  refuses("a damaged compressed file", tmp_path / "c.jsonl.gz")


def test_split_is_by_prompt_and_stable():
  def split(prompt, **more):
    record = {"prompt": prompt, **more}
    fractions = {"validation_fraction": 0.2, "test_fraction": 0.1}
    return kinds.split_of(record, "prompts", **fractions)

  found = [split(f"prompt {n}") for n in range(2000)]
  shares = [found.count(name) / 2000 for name in kinds.SPLITS]
  assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
  assert [split(f" prompt\n{n} ", response="r") for n in range(2000)] == found
  assert split("prompt 1", split="test") == "test"
  # Larger fractions only move prompts out of the training split.
  more = {"validation_fraction": 0.4, "test_fraction": 0.1}
  for n, before in enumerate(found):
    after = kinds.split_of({"prompt": f"prompt {n}"}, "prompts", **more)
    assert after == before or (before, after) == ("train", "validation")


def test_open_source_of_files(tmp_path):
  prompts = [{"prompt": f"prompt {n}"} for n in range(60)]
  demonstrations = [{**prompt, "response": "r"} for prompt in prompts]
  data = section(
    prompts=str(lines(tmp_path / "p.jsonl", *prompts)),
    demonstrations=str(lines(tmp_path / "d.jsonl", *demonstrations)),
  )
  seen = []
  for split in kinds.SPLITS:
    ours = sources.open_source(data, "prompts", split, {})
    theirs = sources.open_source(data, "demonstrations", split, {})
    assert [r["prompt"] for r in ours] == [r["prompt"] for r in theirs]
    seen += ours
  assert sorted(r["prompt"] for r in seen) == sorted(
    r["prompt"] for r in prompts
  )
  with pytest.raises(errors.UserError, match=r"data\.rankings is empty"):
    sources.open_source(data, "rankings", "train", {})
  with pytest.raises(errors.UserError, match="unknown split 'dev'"):
    sources.open_source(data, "prompts", "dev", {})


def test_rankings_of_a_stage_go_before_the_file(tmp_path):
  lines(tmp_path / "train.jsonl", RANKING)
  data = section(rankings="nowhere.jsonl")
  folders = {"rankings": tmp_path}
  assert sources.open_source(data, "rankings", "train", folders) == [RANKING]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"template": "no place"}, "data.template"),
    ({"template": "abc"}, "text with {prompt} in it"),
    ({"start": "bso"}, "Did you mean 'bos'"),
    ({"validation_fraction": 0.9}, "data.validation_fraction"),
    ({"pretraining": ""}, "data.pretraining is empty"),
    ({"pretraining": "none.txt"}, "none.txt: no such file"),
    ({}, "data.rankings is empty"),
  ],
)
def test_check(changes, message, tmp_path):
  (tmp_path / "a.txt").write_text("text")
  good = {"pretraining": str(tmp_path / "a.txt")}
  sources.check(section(**good))
  with pytest.raises(errors.UserError, match=message):
    sources.check(section(**{**good, **changes}), ["rankings"])


def test_a_large_file_s_records_are_read_one_by_one(tmp_path, monkeypatch):
  """As many as there are, in every way that a list is asked for them."""
  path = tmp_path / "prompts-train.jsonl"
  given = [{"prompt": f"é{n}" * (n % 4 + 1)} for n in range(50)]
  path.write_text(
    "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in given)
  )
  monkeypatch.setattr(sources, "IN_MEMORY", 10)
  folders, data = {"data": tmp_path}, data_toys.section()
  for block in (1 << 24, 7):
    monkeypatch.setattr(lines_lib, "_BLOCK", block)
    found = sources.open_source(data, "prompts", "train", folders)
    assert isinstance(found, lines_lib.Lines)
    assert len(found) == 50
    assert list(found) == given
    assert [found[-1], found[7], *found[3:9:2]] == [
      given[-1],
      given[7],
      *given[3:9:2],
    ]
    with pytest.raises(IndexError):
      found[50]
  content = path.read_bytes().replace(b'"\xc3\xa97', b"7", 1)
  path.write_bytes(content)
  found = sources.open_source(data, "prompts", "train", folders)
  with pytest.raises(errors.UserError, match=r"train\.jsonl:8: not a JSON"):
    found[7]
