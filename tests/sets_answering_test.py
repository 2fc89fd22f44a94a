"""Sets that are answered in words: files, prompts and scores by hand."""

import json

import pytest

from instruct_jax import score
from instruct_jax.base import errors
from instruct_jax.sets import squadv2
from tests import exchange_test, toy_models

PUBLIC = exchange_test.ROOT.parent / "shared" / "data"


def write(folder, name, content):
  path = folder / name
  text = content if isinstance(content, str) else json.dumps(content)
  path.write_text(text)
  return str(path)


def lines(rows):
  return "\n".join(map(json.dumps, rows))


def run(one, model, files, **options):
  return one.SET.measure(
    toy_models.bench(model, files, name=one.__name__.split(".")[-1], **options)
  )


def asked_last(prompt, before="Q: ", after="\n\nA:"):
  """The question that a prompt ends with."""
  return prompt.rsplit(before, 1)[1].removesuffix(after)


# SQuAD 2.0


def answers(*texts):
  return [{"text": text, "answer_start": 0} for text in texts]


SQUAD = {
  "version": "v2.0",
  "data": [
    {
      "title": "The_Sea",
      "paragraphs": [
        {
          "context": "Fish swim. Birds fly.",
          "qas": [
            {"id": "1", "question": "What swims?", "is_impossible": False,
             "answers": answers("Fish", "the fish")},
            {"id": "2", "question": " What runs? ", "is_impossible": True,
             "answers": [], "plausible_answers": answers("Birds")},
            {"id": "3", "question": "What flies?", "is_impossible": False,
             "answers": answers("Birds")},
          ],
        },
        {
          "context": "Rain falls.",
          "qas": [
            {"id": "4", "question": "What falls?", "is_impossible": False,
             "answers": answers("Rain")},
          ],
        },
      ],
    },
    {
      "title": "Land",
      "paragraphs": [
        {
          "context": "Hills stand.",
          "qas": [
            {"id": "5", "question": "What stands?", "is_impossible": False,
             "answers": answers("Hills")},
          ],
        },
      ],
    },
  ],
}  # fmt: skip
SAID = {
  "What swims?": " The fish.\n\nQ: more",  # 1, 1
  "What runs?": " not in background",  # 1, 1
  "What flies?": " Birds and fish",  # 0, 1/2: one of three words, and of one
  "What falls?": " Not in background.",  # 0, 0
  "What stands?": "",  # 0, 0
}


def test_squad(tmp_path):
  model = toy_models.Model(lambda prompt: SAID[asked_last(prompt)])
  found = run(
    squadv2, model, {"items": write(tmp_path, "dev-v2.0.json", SQUAD)}
  )
  values = {name: one.value for name, one in found.metrics.items()}
  assert values == pytest.approx({
    "f1": 2.5 / 5, "em": 2 / 5, "f1_answered": 1.5 / 4, "em_answered": 1 / 4,
    "f1_unanswerable": 1, "em_unanswerable": 1,
  })  # fmt: skip
  # Residuals of three passages: 2.5 - 1.5, -0.5, -0.5.
  error = (3 / 2 * (1 + 0.25 + 0.25)) ** 0.5 / 5
  assert found.metrics["f1"].stderr == pytest.approx(error)
  assert found.metrics["f1"].n == 5
  assert found.metrics["f1_unanswerable"].stderr is None
  assert found.counts == {"responses without a word": 1}
  assert model.asked[2] == (
    "Answer each question using information in the preceding background"
    " paragraph. If there is not enough information provided, answer with"
    ' "Not in background."\n\nTitle: The_Sea\n\nBackground: Fish swim. Birds'
    " fly.\n\nQ: What swims?\n\nA: Fish\n\nQ: What runs?\n\nA: Not in"
    " background.\n\nQ: What flies?\n\nA:"
  )
  assert found.samples[2] == {
    "context": model.asked[2], "sample": "Birds and fish",
    "ref_text": ["Birds"], "is_answered": True, "f1": 0.5, "em": 0.0,
  }  # fmt: skip
  assert found.samples[1]["ref_text"] == ["Not in background."]


def test_squad_without_history(tmp_path):
  model = toy_models.Model()
  run(squadv2, model, {"items": write(tmp_path, "a.json", SQUAD)}, history="1")
  assert "Q: What swims?" not in model.asked[2]
  assert "Q: What runs?" in model.asked[2]
  model.asked.clear()
  run(squadv2, model, {"items": write(tmp_path, "a.json", SQUAD)}, history="0")
  assert all(prompt.count("Q: ") == 1 for prompt in model.asked)


def test_squad_with_examples(tmp_path):
  model = toy_models.Model()
  files = {"items": write(tmp_path, "a.json", SQUAD)}
  run(squadv2, model, files, shots="2")
  rain = (
    "Title: The_Sea\n\nBackground: Rain falls.\n\nQ: What falls?\n\nA: Rain"
  )
  hills = (
    "Title: Land\n\nBackground: Hills stand.\n\nQ: What stands?\n\nA: Hills"
  )
  before, _, after = model.asked[0].partition("\n\nTitle: The_Sea\n\nBackgr"
                                              "ound: Fish swim.")  # fmt: skip
  assert rain in before
  assert hills in before
  assert after.count("Q: ") == 1
  with pytest.raises(errors.UserError, match=r"squadv2\.shots=3"):
    run(squadv2, model, files, shots="3")
  shine = {"question": "What shines?", "answers": answers("Suns", "the suns")}
  part = {"context": "Suns shine.", "qas": [shine]}
  train = {"data": [{"title": "Sky", "paragraphs": [part]}]}
  files["examples"] = write(tmp_path, "train-v2.0.json", train)
  model.asked.clear()
  run(squadv2, model, files, shots="1", limit=2)
  suns = "Title: Sky\n\nBackground: Suns shine.\n\nQ: What shines?\n\nA: Suns"
  assert len(model.asked) == 2
  assert all(f"\n\n{suns}\n\nTitle: " in prompt for prompt in model.asked)


def test_squad_of_rows(tmp_path):
  rows = [
    {"id": "1", "title": "Sea", "context": "Fish swim.", "question": "What?",
     "answers": {"text": ["Fish"], "answer_start": [0]}},
    {"id": "2", "title": "Sea", "context": "Fish swim.", "question": "Why?",
     "answers": {"text": [], "answer_start": []}},
  ]  # fmt: skip
  items = list(squadv2.read(write(tmp_path, "valid.jsonl", lines(rows))))
  assert [item.answers for item in items] == [("Fish",), ()]


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ({"data": [{"title": "a"}]}, 'record 1 "answers" "text"'),
    (
      {"data": [{"title": "a", "paragraphs": [{"qas": []}]}]},
      '"paragraphs"[0] no column "context" qas',
    ),
    (
      {"data": [{"title": "a", "paragraphs": [
        {"context": "b", "qas": [{"question": 3, "answers": []}]}]}]},
      '"qas"[0] "question" should be a text 3',
    ),
    (
      {"data": [{"title": "a", "paragraphs": [
        {"context": "b", "qas": [{"question": "c", "answers": "d"}]}]}]},
      '"qas"[0] "answers" should be a list of objects "d"',
    ),
    ({"data": [{"title": "a", "paragraphs": ["b"]}]}, "list of objects"),
    ({"data": [{"title": "a", "paragraphs": []}]}, "no item of the set"),
    ('{"title": "a", "context": "b", "question": "c", "answers": ["d"]}\n',
     'x.json:1 "answers" object "text"'),
  ],
)  # fmt: skip
def test_squad_of_another_shape(tmp_path, content, words):
  spec = write(tmp_path, "x.json", content)
  with pytest.raises(errors.UserError) as caught:
    run(squadv2, toy_models.Model(), {"items": spec})
  said = str(caught.value)
  assert "x.json" in said
  assert [word for word in words.split() if word not in said] == []


def scored(task, rows, tmp_path, monkeypatch, capsys):
  """What `python -m instruct_jax.score` says of samples: {metric: value}."""
  path = write(tmp_path, "samples.jsonl", lines(rows))
  command = ["score", f"--task={task}", f"--samples={path}", "--json"]
  monkeypatch.setattr("sys.argv", command)
  score.main()
  said = map(json.loads, capsys.readouterr().out.splitlines())
  return {row["metric"]: row["value"] for row in said}


def test_samples_of_squad_can_be_scored(tmp_path, monkeypatch, capsys):
  model = toy_models.Model(lambda prompt: SAID[asked_last(prompt)])
  found = run(squadv2, model, {"items": write(tmp_path, "a.json", SQUAD)})
  values = scored("squadv2", found.samples, tmp_path, monkeypatch, capsys)
  assert values == pytest.approx({
    name: 100 * found.metrics[name].value for name in ("f1", "em")
  })  # fmt: skip


@pytest.mark.skipif(
  not (PUBLIC / "squad_v2_cs224n_split").exists(), reason=f"no {PUBLIC}"
)
def test_squad_as_it_is_published():
  folder = PUBLIC / "squad_v2_cs224n_split"
  items = list(squadv2.read(str(folder / "dev-v2.0.json")))
  assert len(items) == 6078
  assert sum(bool(item.answers) for item in items) == 2910
  assert len(list(squadv2.read(str(folder / "test-v2.0.json")))) == 5915
