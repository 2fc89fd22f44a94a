"""TruthfulQA: MC1 and MC2 by hand, prompts, answers, and who judges them."""

import csv
import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.measuring import nearness, truth_judges
from instruct_jax.sets import truthfulqa
from tests import toy_models

DATA = pathlib.Path(__file__).parents[2] / "shared" / "data" / "truthfulqa"
COLUMNS = ("Type", "Category", "Question", "Best Answer", "Correct Answers",
           "Incorrect Answers", "Source")  # fmt: skip
ROWS = [
  ("A", "Myths", "Do pigs fly?", "No", "No; They do not fly.", "Yes; Often",
   "x"),
  ("A", "Law", "Who rules?", "Nobody", "Nobody; The law", "A king", "x"),
]  # fmt: skip


def published(path, rows=ROWS, columns=COLUMNS):
  with path.open("w", newline="") as file:
    csv.writer(file).writerows([columns, *rows])
  return str(path)


def bench(tmp_path, model, files=None, **options):
  files = files or {"items": published(tmp_path / "TruthfulQA.csv")}
  made = toy_models.bench(model, files, name="truthfulqa", **options)
  return dataclasses.replace(made, folder=tmp_path / "asked")


# Choice


@pytest.mark.parametrize(
  ("best", "correct", "incorrect", "mc1", "mc2"),
  [
    # Of 1/2, 1/4 and 1/4: 3/4 is true.
    (math.log(1 / 2), [math.log(1 / 2), math.log(1 / 4)], [math.log(1 / 4)],
     1, 0.75),
    # The best is less likely than one of the false, the true together are not.
    (math.log(0.2), [math.log(0.2), math.log(0.5)],
     [math.log(0.3), math.log(0.1)], 0, 0.7 / 1.1),
    # As likely is not likelier.
    (-3.0, [-3.0], [-3.0], 0, 0.5),
    # What would be 0 / 0 if probabilities were summed.
    (-1000.0, [-1000.0], [-1000.0 - math.log(3)], 1, 0.75),
  ],
)  # fmt: skip
def test_mc(best, correct, incorrect, mc1, mc2):
  found = truthfulqa.mc(best, correct, incorrect)
  assert found == pytest.approx((mc1, mc2))


def test_reference_answers_end_in_a_period_behind_the_six_questions(tmp_path):
  weights = {" No.": 0.4, " They do not fly.": 0.1, " Yes.": 0.3,
             " Often.": 0.2, " Nobody.": 0.1, " The law.": 0.2,
             " A king.": 0.7}  # fmt: skip
  model = toy_models.Model(likes=lambda _, text: math.log(weights[text]))
  found = truthfulqa.measure(bench(tmp_path, model))
  assert found.metrics["mc1"].value == 0.5  # 0.4 > 0.3; 0.1 < 0.7
  assert found.metrics["mc2"].value == pytest.approx((0.5 + 0.3) / 2)
  assert found.metrics["mc2"].n == 2
  context = model.asked[0]
  assert context.startswith("Q: What is human life expectancy")
  assert context.count("Q: ") == 7
  assert context.endswith("Barcelona, Spain.\n\nQ: Do pigs fly?\nA:")
  assert found.samples[1]["mc2"] == pytest.approx(0.3)
  assert found.samples[1]["logprobs"][0] == pytest.approx(math.log(0.1), 1e-4)


# Generation


@pytest.mark.parametrize(
  ("text", "answer"),
  [
    (" They do. \nQ: And dogs?\nA: No", "They do."),
    ("\n\nPigs cannot fly.\n\nMore", "Pigs cannot fly."),
    ("A: No\nnever", "No\nnever"),
    (" \n", ""),
  ],
)
def test_what_is_the_answer(text, answer):
  assert truthfulqa.answer(text) == answer


def says_pigs(questions, answers):
  """A judge of one's own: true is what has a pig, and info what is long."""
  del questions
  return [["pig" in x for x in answers], [len(x) / 20 for x in answers]]


def half(questions, answers):
  del questions
  return [[0.5] * len(answers)]


def says(prompt):
  if "I have no comment" in prompt.split("Q: ")[0]:
    return " I have no comment.\n\nQ: x"
  if prompt.endswith("A:"):
    return " A pig cannot fly." if "pigs" in prompt else ""
  return "\n\nA pig? It is a king.\n\nA king"


def test_true_and_info_by_prompt(tmp_path):
  model = toy_models.Model(says=says)
  judge = "tests.sets_truthfulqa_test:says_pigs"
  found = truthfulqa.measure(bench(tmp_path, model, judge=judge))
  values = {name: one.value for name, one in found.metrics.items()}
  del values["mc1"], values["mc2"]
  assert values == {
    # "A pig cannot fly." is both, nothing is true and says nothing.
    "true_qa": 1.0, "info_qa": 0.5, "true_info_qa": 0.5,
    "true_instruction": 0.0, "info_instruction": 1.0,
    "true_info_instruction": 0.0,
    "true_none": 1.0, "info_none": 1.0, "true_info_none": 1.0,
  }  # fmt: skip
  assert found.counts == {"answers of nothing (qa)": 1}
  first = found.samples[0]
  assert first["qa"] == {
    "answer": "A pig cannot fly.", "true": 1.0, "info": 0.85
  }  # fmt: skip
  assert first["none"]["answer"] == "A pig? It is a king."
  asked = model.asked[-6:]
  assert asked[4] == "Do pigs fly?"
  assert asked[2].startswith("Interpret each question literally")
  assert asked[2].removeprefix(truthfulqa.INSTRUCTION) == asked[0]


@pytest.mark.parametrize(
  ("judge", "words"),
  [
    ("tests.sets_truthfulqa_test:half", r"shape \[2, 2\]"),
    ("tests.sets_truthfulqa_test:published", "TypeError|AttributeError"),
    ("tests.sets_truthfulqa_test:says_pig", "says_pigs"),
  ],
)
def test_a_judge_of_ones_own_that_does_not_judge(tmp_path, judge, words):
  model = toy_models.Model(says=says)
  with pytest.raises(errors.UserError, match=words):
    truthfulqa.measure(bench(tmp_path, model, judge=judge))


def test_without_judges_the_choice_is_measured(tmp_path):
  found = truthfulqa.measure(bench(tmp_path, toy_models.Model(says=says)))
  assert set(found.metrics) == {"mc1", "mc2"}
  assert "finetune_truth.jsonl and finetune_info.jsonl" in found.notes[0]
  assert found.samples[0]["qa"] == {"answer": "A pig cannot fly."}


# Judges

THINGS = ["tower", "river", "garden", "window", "kettle", "ladder", "button",
          "pencil", "bridge", "candle"]  # fmt: skip
N = 60


def judge_files(tmp_path):
  """Questions whose true answers name one thing and false ones another: which
  is which differs by question, so that words by themselves tell nothing."""
  rng = np.random.default_rng(0)
  rows, judged = [], []
  for n in range(N):
    right, wrong = rng.choice(THINGS, 2, replace=False)
    question = f"What is in room number {n}?"
    rows.append(("A", "x", question, f"A {right}", f"A {right}; The {right}",
                 f"A {wrong}", "x"))  # fmt: skip
    for thing, yes in ((right, " yes"), (wrong, " no")):
      for said in (f"It is a {thing} there.", f"A {thing}, I think"):
        judged.append((question, said, yes))
  files = {"items": published(tmp_path / "TruthfulQA.csv", rows)}
  for role, word in (("truth", "True"), ("info", "Helpful")):
    path = tmp_path / f"finetune_{role}.jsonl"
    files[role] = str(path)
    path.write_text(
      "\n".join(
        json.dumps({"prompt": f"Q: {q}\nA: {a}\n{word}:", "completion": yes})
        for q, a, yes in judged
      )
    )
  return files, rows


def test_judges_are_fitted_on_other_questions_and_see_references(tmp_path):
  files, rows = judge_files(tmp_path)
  answers = {row[2]: row[3 if n % 3 else 5] for n, row in enumerate(rows)}
  model = toy_models.Model(
    says=lambda prompt: f"It is {answers[question(prompt)].lower()} there."
  )
  found = truthfulqa.measure(bench(tmp_path, model, files))
  right = {
    name: found.metrics[f"true_judge_right_{name}"]
    for name in truth_judges.BESIDE
  }
  assert right["judge"].value > 0.95
  assert right["bag_of_words"].value < 0.65
  assert right["majority"].value == pytest.approx(0.5, abs=0.05)
  assert right["judge"].n == 4 * N
  assert found.metrics["true_qa"].value == pytest.approx(2 / 3, abs=0.05)
  assert "never saw the question" in found.notes[0]
  assert len(list((tmp_path / "asked").glob("judge-*.npz"))) == 2


def question(prompt):
  return prompt.rpartition("Q: ")[2].removesuffix("\nA:")


def test_judges_are_kept_by_what_they_are_fitted_on(tmp_path, monkeypatch):
  files, _ = judge_files(tmp_path)
  questions = list(truthfulqa.read(files["items"]))
  judged = truth_judges.read(files["truth"], "true")
  asked, said = [x.question for x in judged], [x.answer for x in judged]
  first = truth_judges.fitted("true", judged, questions, tmp_path / "kept")
  monkeypatch.setattr(truth_judges, "_fit", None)
  again = truth_judges.fitted("true", judged, questions, tmp_path / "kept")
  np.testing.assert_array_equal(
    first.says(asked, said), again.says(asked, said)
  )
  assert again.right == first.right
  with pytest.raises(TypeError):
    truth_judges.fitted("true", judged[:-1], questions, tmp_path / "kept")
  (path,) = (tmp_path / "kept").iterdir()
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(errors.UserError, match="delete it"):
    truth_judges.fitted("true", judged, questions, tmp_path / "kept")


def test_what_references_are_no_feat(tmp_path):
  """An answer that is a reference, but for its ending, is not counted."""
  files, _ = judge_files(tmp_path)
  questions = list(truthfulqa.read(files["items"]))
  judged = truth_judges.read(files["truth"], "true")
  judged += [
    truth_judges.Judged(one.text, f"{one.best.lower()}.", True)
    for one in questions
  ]
  judged.append(truth_judges.Judged("Who?", nearness.NO_COMMENT, True))
  found = truth_judges.fitted("true", judged, questions, tmp_path / "kept")
  assert found.right["judge"].n == 4 * N + 1


def test_nearness_by_hand():
  known = {"Who?": nearness.Question("Who?", "a b", ("a b",), ("not c d",))}
  numbers = nearness.numbers(["Who?", "Who?"], ["a b", "c d"], known)
  # Words: a, b and "a b", each once. Of "not c d" c, d, "c d" of five.
  assert numbers[0, 0] == pytest.approx(1)
  assert numbers[1, 0] == pytest.approx(0)
  assert numbers[1, 6] == pytest.approx(3 / math.sqrt(3 * 5))
  assert numbers[1, 9] == 0  # one of them denies, the other does not
  assert numbers[0, 3] == pytest.approx(1)
  assert numbers[0, 12] == pytest.approx(1)
  assert numbers[1, 12] == pytest.approx(-3 / math.sqrt(3 * 5))
  assert nearness.numbers([], [], known).shape == (0, numbers.shape[1])


# Files


def test_rows_with_lists(tmp_path):
  path = tmp_path / "generation.jsonl"
  row = {"question": "Q?", "best_answer": "b", "correct_answers": ["b", "c "],
         "incorrect_answers": ["d", ""]}  # fmt: skip
  path.write_text(json.dumps(row))
  (one,) = truthfulqa.read(str(path))
  assert one == nearness.Question("Q?", "b", ("b", "c"), ("d",))


@pytest.mark.parametrize(
  ("rows", "columns", "words"),
  [
    (ROWS, (*COLUMNS[:3], "Best", *COLUMNS[4:]), "best_answer"),
    ([(*ROWS[0][:5], " ; ", "x")], COLUMNS, "incorrect_answers.*at least"),
    ([], COLUMNS, "empty"),
  ],
)
def test_another_shape(tmp_path, rows, columns, words):
  path = published(tmp_path / "TruthfulQA.csv", rows, columns)
  with pytest.raises(errors.UserError, match=words) as raised:
    list(truthfulqa.read(path))
  assert "TruthfulQA.csv" in str(raised.value)


@pytest.mark.parametrize(
  ("row", "words"),
  [
    ({"prompt": "Q: a\nA: b\nHelpful:", "completion": " yes"}, "True:"),
    ({"prompt": "Q: a\nA: b\nTrue:", "completion": " maybe"}, "one of"),
    ({"prompt": "Q: a\nA: b\nTrue:", "completion": " yes"}, "the same"),
    ({"text": "a"}, 'no column "prompt"'),
  ],
)
def test_another_judge_set(tmp_path, row, words):
  path = tmp_path / "finetune_truth.jsonl"
  path.write_text(json.dumps(row))
  with pytest.raises(errors.UserError, match=words):
    truth_judges.read(str(path), "true")


@pytest.mark.skipif(not DATA.exists(), reason=f"not here: {DATA}")
def test_the_published_files():
  questions = list(truthfulqa.read(str(DATA / "TruthfulQA.csv")))
  assert len(questions) == 817
  assert all(one.best in one.correct for one in questions[:10])
  for name, role in (("true", "truth"), ("info", "info")):
    judged = truth_judges.read(str(DATA / f"finetune_{role}.jsonl"), name)
    assert len(judged) == 22_434
    known = {one.text for one in questions}
    assert sum(one.question not in known for one in judged) == 26
