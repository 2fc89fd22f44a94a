"""Files of samples: what is read, how it is grouped, what is refused."""

import gzip
import json
import math

import pytest

from instruct_jax.base import errors
from instruct_jax.scoring import samples, tasks

CSV = (
  ",model_type,prompt_type,context,ref_text,sample\n"
  '0,gpt,zeroshot,"Q: a, b?\n\nA:",Paris|paris city,Paris\n'
  "1,gpt,fewshot,Q,Rome,\n"
  "2,sft,zeroshot,Q,7761,7\n"
  '3,gpt,zeroshot,Q,"""x""|x","""x"""\n'
)


def read(tmp_path, content, task="drop", name="samples.csv", by=None, **named):
  path = tmp_path / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return samples.read(str(path), tasks.TASKS[task], named=named, by=by)


def test_a_table(tmp_path):
  columns, groups = read(tmp_path, CSV)
  assert columns == ("model_type", "prompt_type")
  assert list(groups) == [
    ("gpt", "zeroshot"), ("gpt", "fewshot"), ("sft", "zeroshot")
  ]  # fmt: skip
  assert groups["gpt", "zeroshot"] == [
    {"sample": "Paris", "ref_text": ["Paris", "paris city"]},
    {"sample": '"x"', "ref_text": ['"x"', "x"]},
  ]
  assert groups["gpt", "fewshot"] == [{"sample": "", "ref_text": ["Rome"]}]


def test_other_columns(tmp_path):
  content = "answer,out,kind\nA|B,C,x\nD,E,y\n"
  columns, groups = read(
    tmp_path, content, by=("kind",), ref_text="answer", sample="out"
  )
  assert columns == ("kind",)
  assert groups["y",] == [{"sample": "E", "ref_text": ["D"]}]


@pytest.mark.parametrize("by", [None, ()])
def test_without_groups(tmp_path, by):
  columns, groups = read(tmp_path, "ref_text,sample\nA,B\n", by=by)
  assert columns == ()
  assert list(groups) == [()]


def test_json_lines(tmp_path):
  rows = [
    {"ref_text": ["A|B", "C"], "sample": "A|B", "model_type": 3},
    {"ref_text": 7761, "sample": None, "model_type": 3},
  ]
  content = "\n".join(map(json.dumps, rows)).encode()
  columns, groups = read(tmp_path, gzip.compress(content), name="s.jsonl.gz")
  assert columns == ("model_type",)
  assert groups["3",] == [
    {"sample": "A|B", "ref_text": ["A|B", "C"]},
    {"sample": "", "ref_text": ["7761"]},
  ]


def test_numbers(tmp_path):
  content = "true,info\n0.9999659521976396,0.0\n1e-05,1\n"
  _, groups = read(tmp_path, content, "truthfulqa")
  assert groups[()][1] == {"true": 1e-05, "info": 1.0}


@pytest.mark.parametrize(
  ("task", "content", "words"),
  [
    (
      "drop",
      "ref_text,samples\nA,B\n",
      "samples.csv:2 sample --column samples",
    ),
    ("drop", "ref_text,sample\n,B\n", 'samples.csv:2 "ref_text" empty'),
    ("wmt", "ref_text,sample\nA,B\n | ,C\n", "samples.csv:3 empty"),
    ("drop", "ref_text,sample\n", "empty"),
    ("drop", "", "empty"),
    ("toxicity", "toxicity\n0.5\n\n1.5\n", "1.5 0 to 1"),
    ("toxicity", "toxicity\nnan\n", "samples.csv:2 nan"),
    ("toxicity", 'toxicity,x\n"",1\n', "samples.csv:2"),
    ("truthfulqa", "true,info\n1,True\n", 'samples.csv:2 "info" True'),
    ("drop", "ref_text,sample\nA,B,C\n", "samples.csv:2"),
  ],
)
def test_what_is_refused(tmp_path, task, content, words):
  with pytest.raises(errors.UserError) as caught:
    read(tmp_path, content, task)
  assert [word for word in words.split() if word not in str(caught.value)] == []


@pytest.mark.parametrize(
  ("row", "words"),
  [
    ({"ref_text": {"a": 1}, "sample": "x"}, "ref_text text"),
    ({"ref_text": ["a", ["b"]], "sample": "x"}, "ref_text text"),
    ({"ref_text": "a", "sample": ["x"]}, "sample text"),
    ({"ref_text": "a", "sample": True}, "sample text true"),
    ({"ref_text": [], "sample": "x"}, "ref_text reference"),
    ({"sample": "x"}, "ref_text --column"),
  ],
)
def test_json_that_is_refused(tmp_path, row, words):
  good = {"ref_text": "a", "sample": "x"}
  content = f"{json.dumps(good)}\n{json.dumps(row)}\n"
  with pytest.raises(errors.UserError) as caught:
    read(tmp_path, content, name="s.jsonl")
  for word in ["s.jsonl:2", *words.split()]:
    assert word in str(caught.value)


def test_a_column_that_the_task_does_not_read(tmp_path):
  with pytest.raises(errors.UserError, match="unknown --column 'refs'"):
    read(tmp_path, CSV, refs="ref_text")
  with pytest.raises(errors.UserError, match=r'no column "model" \(--by\)'):
    read(tmp_path, CSV, by=("model",))


def test_a_mean():
  assert tasks.mean([1.0, 2.0, 6.0]) == tasks.Estimate(
    3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2) / math.sqrt(3)), 3
  )
  assert tasks.mean([2.0]) == tasks.Estimate(2.0, None, 1)


def measured(task, *rows):
  found = tasks.TASKS[task].measure(rows)
  return {name: estimate.value for name, estimate in found.items()}


def test_metrics():
  half = {"sample": "Paris France", "ref_text": ["Paris"]}
  whole = {"sample": "Rome", "ref_text": ["Rome"]}
  assert measured("squadv2", half, whole) == {
    "f1": pytest.approx(100 * (2 / 3 + 1) / 2), "em": 50
  }  # fmt: skip
  assert measured("drop", half, whole) == {
    "f1": pytest.approx(100 * (0.67 + 1) / 2), "em": 50
  }  # fmt: skip
  assert measured("summarization", half, whole) == {
    "rougeL": pytest.approx((2 / 3 + 1) / 2)
  }
  assert measured("wmt", {"sample": "a b c d", "ref_text": ["a b c d"]}) == {
    "bleu": pytest.approx(100)
  }
  judged = [(0.5, 0.4), (0.6, 1), (0.4, 1), (1, 0.5)]
  rows = [dict(zip(("true", "info"), x)) for x in judged]
  assert measured("truthfulqa", *rows) == {
    "true": 3 / 4, "info": 3 / 4, "true_info": 2 / 4
  }  # fmt: skip
  assert measured("toxicity", {"toxicity": 0.2}, {"toxicity": 0.5}) == {
    "toxicity": pytest.approx(0.35)
  }


@pytest.mark.parametrize(
  ("sample", "known", "exact"),
  [
    ("Not in background.", ["Not in background."], 1),
    ("not in background", ["Not in background."], 1),
    ("", ["Not in background."], 1),
    ("Not in background.", [""], 1),
    ("Not in background.", ["Paris"], 0),
    ("in the background", ["Not in background."], 0),
    ("Paris", ["Paris"], 1),
  ],
)
def test_no_answer(sample, known, exact):
  row = {"sample": sample, "ref_text": known}
  found = measured("squadv2", tasks.with_no_answer(row, tasks.NO_ANSWER))
  assert found == {"f1": 100 * exact, "em": 100 * exact}


def test_another_text_for_no_answer():
  row = {"sample": "unknown", "ref_text": ["?? Unknown"]}
  assert tasks.with_no_answer(row, "Unknown!")["sample"] == ""
  assert tasks.with_no_answer(row, tasks.NO_ANSWER) == row
