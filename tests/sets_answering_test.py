"""Sets that are answered in words: files, prompts and scores by hand."""

import json

import pytest
import sacrebleu

from instruct_jax import score
from instruct_jax.base import errors
from instruct_jax.measuring import summaries
from instruct_jax.sets import cnn_dm, drop, quac, squadv2, tldr, wmt15_fr_en
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
  assert "no word at all" in found.notes[0]
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


@pytest.mark.parametrize(
  ("said", "f1"),
  [("", 1), ("The.", 1), ("Not in background", 1), ("in the background", 0)],
)
def test_squad_without_an_answer(tmp_path, said, f1):
  """No word is none, as to the official script; a part of its text is not."""
  model = toy_models.Model(lambda prompt: said)
  found = run(squadv2, model, {"items": write(tmp_path, "a.json", SQUAD)})
  assert found.metrics["f1_unanswerable"].value == f1
  assert found.metrics["f1_answered"].value == 0


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


# DROP


def worked(number="", day="", month="", year="", found=()):
  """An answer as DROP publishes it."""
  date = {"day": day, "month": month, "year": year}
  return {"number": number, "date": date, "spans": list(found)}


def asked_for(question, answer, *more):
  one = {"question": question, "answer": answer, "query_id": question}
  return one | ({"validated_answers": list(more)} if more else {})


DROP = {
  "nfl_1": {
    "passage": "Smith threw 3 times, Jones twice.",
    "qa_pairs": [
      asked_for("How many?", worked("5"), worked("3")),
      asked_for("Who?", worked(found=["Smith", "Jones"])),
      asked_for("Who first?", worked(found=["Smith"]),
                worked(found=["John Smith"])),
    ],
  },
  "history_2": {
    "passage": "The war began on 9 May 1901.",
    "wiki_url": "x",
    "qa_pairs": [
      asked_for("When?", worked(day="9", month="May", year="1901")),
      asked_for("What year?", worked(year="1901")),
      asked_for("Nothing?", worked()),
    ],
  },
}  # fmt: skip
WORKED = {
  "How many?": " 3.0",  # an alternative: 1, 1
  "Who?": " Smith, Jones",  # one span of two words: 0, 2/3 of one of two
  "Who first?": " the Smith",  # 1, 1
  "When?": " May 1901",  # 0, 4/5: two of three words
  "What year?": " 1902",  # 0, 0
  "Nothing?": " none",
}


def last_question(prompt):
  return asked_last(prompt, "Question: ", "\nAnswer:")


def test_drop(tmp_path):
  model = toy_models.Model(lambda prompt: WORKED[last_question(prompt)])
  spec = write(tmp_path, "drop_dataset_dev.json", json.dumps(DROP, indent=2))
  found = run(drop, model, {"items": spec})
  values = {name: one.value for name, one in found.metrics.items()}
  assert values == pytest.approx({
    "f1": (1 + 0.33 + 1 + 0.8) / 6, "em": 2 / 6,
    "f1_number": 1, "em_number": 1, "f1_date": 0.4, "em_date": 0,
    "f1_span": 1, "em_span": 1, "f1_spans": 0.33, "em_spans": 0,
  })  # fmt: skip
  one, other = 1 + 0.33 + 1, 0.8  # two passages of three questions
  error = (2 * 2 * ((one - other) / 2) ** 2) ** 0.5 / 6
  assert found.metrics["f1"].stderr == pytest.approx(error)
  assert found.counts == {
    "questions without an answer in the file, scored 0": 1
  }
  assert model.asked[0] == (
    "Passage: Smith threw 3 times, Jones twice.\nQuestion: How many?\nAnswer:"
  )
  assert found.samples[0]["ref_text"] == ["5", "3"]
  assert found.samples[1]["ref_text"] == ["Smith, Jones"]
  assert found.samples[3]["ref_text"] == ["9 May 1901"]


def test_drop_with_examples(tmp_path):
  model = toy_models.Model()
  files = {"items": write(tmp_path, "drop_dataset_dev.json", DROP)}
  run(drop, model, files, shots="1")
  war, smith = "Passage: The war began on 9 May 1901.", "Passage: Smith threw"
  assert all(prompt.startswith(war) for prompt in model.asked[:3])
  assert all(prompt.startswith(smith) for prompt in model.asked[3:])
  assert all(prompt.count("Answer:") == 2 for prompt in model.asked)
  assert "Question: Nothing?" not in "".join(model.asked[:3])
  assert model.asked[0].partition("\n\n")[0].rsplit("Answer: ")[1] in (
    "9 May 1901", "1901"
  )  # fmt: skip


def drop_answers(row):
  fields = {"passage": "p", "question": "q"}
  return [
    (one.kind, *one.spans) for one in drop._item(fields | row, "p", "x").answers
  ]


def test_drop_of_other_forms():
  """EleutherAI/drop, ucinlp/drop and TFDS have their own."""
  columns = {
    "number": ["", "7"],
    "date": {"day": ["1", ""], "month": ["May", ""], "year": ["", ""]},
    "spans": [[], []],
  }
  assert drop_answers(
    {"answer": worked(found=["a", "b"]), "validated_answers": columns}
  ) == [("spans", "a", "b"), ("date", "1 May"), ("number", "7")]
  dates = columns | {"date": [{"day": "1", "month": "May"}, {}]}
  assert drop_answers({"answer": worked("3"), "validated_answers": dates}) == [
    ("number", "3"),
    ("date", "1 May"),
    ("number", "7"),
  ]
  listed = {"spans": ["a", "b"], "types": ["span", "span"]}
  assert drop_answers({"answers_spans": listed}) == [("spans", "a", "b")]
  listed = {"spans": ["12"], "types": ["number"]}
  assert drop_answers({"answers_spans": listed}) == [("number", "12")]
  assert drop_answers({"answers_spans": {"spans": [], "types": []}}) == []
  assert drop_answers({"answer": "a", "validated_answers": ["b", ""]}) == [
    ("span", "a"),
    ("span", "b"),
  ]
  assert drop_answers({"answer": worked(0)}) == [("number", "0")]
  assert drop_answers({"answer": worked(found=[" "])}) == []


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ({"a": {"qa_pairs": []}}, '"a" no column "passage" qa_pairs'),
    ({"a": {"passage": "b"}}, '"a" no column "qa_pairs"'),
    ({"a": {"passage": "b", "qa_pairs": [{"question": "c"}]}},
     '"a", "qa_pairs"[0] no column "answer"'),
    ({"a": {"passage": "b", "qa_pairs": [{"question": "c", "answer": 3}]}},
     "number, date and spans not 3"),
    ({"a": {"passage": "b", "qa_pairs": [
      {"question": "c", "answer": {"spans": "d"}}]}}, '"spans" list of texts'),
    ({"a": {"passage": "b", "qa_pairs": [
      {"question": "c", "answer": {"date": "d"}}]}}, '"date" day, month, year'),
    ({"a": {"passage": "b", "qa_pairs": [
      {"question": "c", "answer": {}, "validated_answers":
       {"number": ["1"], "spans": [[], []]}}]}}, "differ in length"),
    ({"a": {"passage": "b", "qa_pairs": []}}, "no item of the set"),
    ({"question": "c", "answer": "d"}, 'no column "passage" question'),
    ({"passage": "a", "question": "b", "answers_spans": ["c"]}, '"spans"'),
  ],
)  # fmt: skip
def test_drop_of_another_shape(tmp_path, content, words):
  spec = write(tmp_path, "x.json", content)
  with pytest.raises(errors.UserError) as caught:
    run(drop, toy_models.Model(), {"items": spec})
  said = str(caught.value)
  assert "x.json" in said
  assert [word for word in words.split() if word not in said] == []


def test_samples_of_drop_can_be_scored(tmp_path, monkeypatch, capsys):
  """Alternatives of several spans, which are no text, left out."""
  model = toy_models.Model(lambda prompt: WORKED[last_question(prompt)])
  found = run(drop, model, {"items": write(tmp_path, "a.json", DROP)})
  rows = [x for x in found.samples if x["kind"] not in ("spans", "none")]
  values = scored("drop", rows, tmp_path, monkeypatch, capsys)
  assert values == pytest.approx({
    name: 100 * sum(row[name] for row in rows) / 4 for name in ("f1", "em")
  })  # fmt: skip


# QuAC


def turn(n, question, teacher, *others):
  return {
    "id": f"C_1_q#{n}", "question": question, "yesno": "x", "followup": "n",
    "answers": [{"text": x, "answer_start": 0} for x in (teacher, *others)],
    "orig_answer": {"text": teacher, "answer_start": 0},
  }  # fmt: skip


QUAC = {
  "data": [
    {
      "title": "Ada Lovelace",
      "section_title": "Work",
      "background": "b",
      "paragraphs": [
        {
          "id": "C_1",
          "context": "She wrote programs in 1843. CANNOTANSWER",
          "qas": [
            turn(0, "What did she do?", "wrote programs", "wrote programs",
                 "programs"),
            turn(1, "Where?", "CANNOTANSWER", "CANNOTANSWER", "programs"),
            turn(2, "When?", "in 1843", "1843"),
            turn(3, "And?", "she", "programs"),  # people have no word in common
          ],
        }
      ],
    },
    {
      "title": "Mars", "section_title": "Moons", "background": "b",
      "paragraphs": [
        {"id": "C_2", "context": "It has two. CANNOTANSWER",
         "qas": [turn(0, "How many?", "two")]}
      ],
    },
  ]
}  # fmt: skip
SPOKEN = {
  "What did she do?": " programs",
  "Where?": " I don't know.",
  "When?": " 1900",
  "And?": " she",
  "How many?": " two",
}


def test_quac(tmp_path):
  """By hand: the model's F1, people's.

  What: against (wp, p), (wp, p), (wp, wp) 1, 1, 2/3: 8/9; people 1, 1, 2/3, as
  well. Where: two of three say none: 1, 1. When: 0; people 2/3. And: left out,
  people 0. How many: 1, 1.
  """
  model = toy_models.Model(lambda prompt: SPOKEN[asked_last(prompt)])
  found = run(quac, model, {"items": write(tmp_path, "val_v0.2.json", QUAC)})
  values = {name: one.value for name, one in found.metrics.items()}
  assert values == pytest.approx({
    "f1": (8 / 9 + 1 + 0 + 1) / 4, "heq_q": 3 / 4, "heq_d": 1 / 2,
    "f1_answered": (8 / 9 + 0 + 1) / 3, "f1_unanswerable": 1,
    "f1_unfiltered": (8 / 9 + 1 + 0 + 0.5 + 1) / 5,
  })  # fmt: skip
  assert found.metrics["heq_q"].n == 4
  one = 8 / 9 + 1 - 3 * (8 / 9 + 2) / 4  # residuals of both dialogues cancel
  assert found.metrics["f1"].stderr == pytest.approx(
    (2 * 2 * one**2) ** 0.5 / 4
  )
  assert found.counts == {"questions left out, people's F1 below 0.4": 1}
  assert model.asked[2] == (
    "Answer each question using information in the preceding background"
    " paragraph. If there is not enough information provided, answer with"
    ' "I don\'t know"\n\nTITLE: Ada Lovelace - Work\n\nPARAGRAPH: She wrote'
    " programs in 1843.\n\nQ: What did she do?\n\nA: wrote programs\n\nQ:"
    " Where?\n\nA: I don't know\n\nQ: When?\n\nA:"
  )
  assert [row["human_f1"] for row in found.samples] == pytest.approx(
    [8 / 9, 1, 2 / 3, 0, 1]
  )


def test_quac_of_some_questions_knows_no_dialogues(tmp_path):
  spec = write(tmp_path, "val_v0.2.json", {"data": QUAC["data"][:1]})
  found = run(quac, toy_models.Model(), {"items": spec}, limit=3)
  assert "heq_q" in found.metrics
  assert "heq_d" not in found.metrics


def test_quac_of_rows(tmp_path):
  row = {
    "wikipedia_page_title": "Mars", "section_title": "Moons",
    "context": "It has two. CANNOTANSWER", "questions": ["How many?", "Why?"],
    "answers": {"texts": [["two", "it has two"], ["CANNOTANSWER"]]},
    "orig_answers": {"texts": ["two", "CANNOTANSWER"]},
  }  # fmt: skip
  (one,) = quac.read(write(tmp_path, "quac.jsonl", lines([row])))
  assert (one.title, one.passage) == ("Mars - Moons", "It has two.")
  assert [item.answers for item in one.items] == [
    ("two", "it has two"), ("CANNOTANSWER",)
  ]  # fmt: skip
  short = row | {"orig_answers": {"texts": ["two"]}}
  with pytest.raises(errors.UserError, match="one a question is right"):
    list(quac.read(write(tmp_path, "quac.jsonl", lines([short]))))


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ({"data": [{"paragraphs": [{"qas": []}]}]}, '"paragraphs"[0] "context"'),
    ({"data": [{"paragraphs": [{"context": "a", "qas": [
      {"question": "b", "answers": []}]}]}]}, '"qas"[0] needs answers'),
    ({"data": [{"paragraphs": [{"context": "a", "qas": [
      {"answers": [{"text": "c"}]}]}]}]}, '"qas"[0] no column "question"'),
    ({"data": [{"title": "a"}]}, 'no column "questions" title'),
  ],
)  # fmt: skip
def test_quac_of_another_shape(tmp_path, content, words):
  spec = write(tmp_path, "x.json", content)
  with pytest.raises(errors.UserError) as caught:
    run(quac, toy_models.Model(), {"items": spec})
  said = str(caught.value)
  assert "x.json" in said
  assert [word for word in words.split() if word not in said] == []


# WMT 2015


SGM = """<srcset setid="newsdiscusstest2015" srclang="any">
<doc docid="1" genre="newsdiscuss" origlang="fr">
<p>
<seg id="1">Super article, merci !</seg>
<seg id="2"> Le chat &amp; le chien dorment. </seg>
</p>
</doc>
<doc docid="2">
<seg id="1">Il pleut.</seg>
</doc>
</srcset>
"""
ENGLISH = ["Great article, thanks!", "The cat & the dog sleep.", "It rains."]
TRANSLATED = {
  "Super article, merci !": " Great article, thanks!\nFrench:",
  "Le chat & le chien dorment.": " The cat and the dog sleep here now.",
  "Il pleut.": " Rain.",
}


def french(prompt):
  return asked_last(prompt, "French: ", "\nEnglish:")


def wmt_files(folder):
  english = "\n".join(
    f'<seg id="{n}">{text.replace("&", "&amp;")}</seg>'
    for n, text in enumerate(ENGLISH)
  )
  return {
    "source": write(folder, "newsdiscusstest2015-fren-src.fr.sgm", SGM),
    "reference": write(folder, "newsdiscusstest2015-fren-ref.en.sgm", english),
  }


def test_wmt(tmp_path, monkeypatch, capsys):
  model = toy_models.Model(lambda prompt: TRANSLATED[french(prompt)])
  found = run(wmt15_fr_en, model, wmt_files(tmp_path))
  texts = [TRANSLATED[french(x)].split("\n")[0].strip() for x in model.asked]
  one = found.metrics["bleu"]
  expected = sacrebleu.corpus_bleu(texts, [ENGLISH])
  assert one.value == pytest.approx(expected.score)
  assert 0 < one.value < 100
  assert one.n == 3
  assert one.stderr is not None
  assert wmt15_fr_en.SET.plain == ("bleu",)
  version = sacrebleu.__version__
  assert found.notes == (
    "sacrebleu: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"
    + version,
  )
  assert model.asked[1] == (
    "Translate the following sentences from French into English.\n\n"
    "French: Le chat & le chien dorment.\nEnglish:"
  )
  assert found.samples[0] == {
    "context": model.asked[0], "sample": "Great article, thanks!",
    "ref_text": ["Great article, thanks!"],
  }  # fmt: skip
  values = scored("wmt", found.samples, tmp_path, monkeypatch, capsys)
  assert values == pytest.approx({"bleu": one.value})


def test_wmt_of_other_forms(tmp_path):
  texts = list(wmt15_fr_en.read(*wmt_files(tmp_path).values()))
  assert [one.english for one in texts] == ENGLISH
  plain = [
    write(tmp_path, name, "\n".join(some) + "\n")
    for name, some in (
      ("wmt15.fr-en.src", [one.french for one in texts]),
      ("wmt15.fr-en.ref", ENGLISH),
    )
  ]
  assert list(wmt15_fr_en.read(*plain)) == texts
  rows = [{"fr": one.french, "en": one.english} for one in texts]
  flat = write(tmp_path, "a.jsonl", lines(rows))
  deep = write(tmp_path, "b.jsonl", lines([{"translation": x} for x in rows]))
  assert list(wmt15_fr_en.read(flat)) == texts
  assert list(wmt15_fr_en.read(deep)) == texts


def test_wmt_with_examples(tmp_path):
  model = toy_models.Model()
  files = wmt_files(tmp_path)
  run(wmt15_fr_en, model, files, shots="2")
  assert all(prompt.count("French: ") == 3 for prompt in model.asked)
  for n, prompt in enumerate(model.asked):
    assert ENGLISH[n] not in prompt
  files["examples"] = write(
    tmp_path, "dev.jsonl", lines([{"fr": "Oui", "en": "Yes"}])
  )
  model.asked.clear()
  run(wmt15_fr_en, model, files, shots="1")
  assert "\n\nFrench: Oui\nEnglish: Yes\n\nFrench: Il pleut." in model.asked[2]


@pytest.mark.parametrize(
  ("name", "source", "reference", "words"),
  [
    ("a.src", "un\ndeux\n", "one\n", "a.src 2 segments 1 as many"),
    ("a.src", "un\n", None, "a.src French alone reference"),
    ("a.sgm", '<seg id="1">un</seg>\n<seg id="2">deux\n</seg>\n', "one\ntwo\n",
     "a.sgm:2 on one line"),
    ("a.jsonl", '{"fr": "un"}', None, 'a.jsonl:1 no column "en"'),
    ("a.jsonl", '{"translation": "un"}', None, "a.jsonl:1 translation object"),
    ("a.src", "", "", "no item of the set"),
  ],
)  # fmt: skip
def test_wmt_of_another_shape(tmp_path, name, source, reference, words):
  files = {"source": write(tmp_path, name, source)}
  if reference is not None:
    files["reference"] = write(tmp_path, "b.ref", reference)
  with pytest.raises(errors.UserError) as caught:
    run(wmt15_fr_en, toy_models.Model(), files)
  assert [x for x in words.split() if x not in str(caught.value)] == []


# Summaries

NEWS = [
  {"id": "1", "article": "A cat sat on a mat. It slept.",
   "highlights": "A cat sat .\nIt slept ."},
  {"id": "2", "article": "Rain fell.", "highlights": "Rain ."},
  {"id": "3", "article": " ", "highlights": "Nothing ."},
]  # fmt: skip


def summed_up(prompt):
  last = prompt.removesuffix("\n\nTL;DR:").rsplit("\n\n", 1)[-1]
  return {"Rain fell.": " Snow"}.get(last, " A cat slept\n\nTL;DR: more")


def test_cnn_dm(tmp_path, monkeypatch, capsys):
  """a cat slept: 3 of 3 words in order, 3 of 5 (a cat sat it slept): 3/4."""
  model = toy_models.Model(summed_up)
  spec = write(tmp_path, "cnn_test.jsonl", lines(NEWS))
  found = run(cnn_dm, model, {"items": spec})
  assert [row["rougeL"] for row in found.samples] == pytest.approx([0.75, 0])
  one = found.metrics["rougeL"]
  assert (one.value, one.n) == (pytest.approx(0.375), 2)
  assert found.counts == {"items without text or summary, left out": 1}
  assert model.asked == [
    "A cat sat on a mat. It slept.\n\nTL;DR:", "Rain fell.\n\nTL;DR:"
  ]  # fmt: skip
  values = scored("summarization", found.samples, tmp_path, monkeypatch, capsys)
  assert values == pytest.approx({"rougeL": 0.375})
  model.asked.clear()
  run(cnn_dm, model, {"items": spec}, shots="1")
  assert model.asked[1] == (
    "A cat sat on a mat. It slept.\n\nTL;DR: A cat sat . It slept .\n\n"
    "Rain fell.\n\nTL;DR:"
  )


def test_stories_of_cnn(tmp_path):
  write(tmp_path, "a.story", "(CNN) A cat sat.\n\nIt slept.\n\n@highlight\n\n"
        "A cat sat\n\n@highlight\n\nIt slept\n")  # fmt: skip
  (one,) = cnn_dm.read(str(tmp_path / "*.story"))
  assert one == summaries.Item(
    "(CNN) A cat sat.\nIt slept.", "A cat sat\nIt slept"
  )
  write(tmp_path, "b.story", "No points.\n")
  with pytest.raises(errors.UserError, match=r"b\.story: no line @highlight"):
    list(cnn_dm.read(str(tmp_path / "*.story")))


def test_tldr(tmp_path):
  rows = [
    {"author": "a", "body": "long", "content": "I sat.", "summary": "sat",
     "subreddit": "b"},
    {"id": "1", "title": "t", "post": "I ran.", "summary": " ran fast "},
  ]  # fmt: skip
  model = toy_models.Model(lambda prompt: " I " + prompt.split()[1])
  spec = write(tmp_path, "tldr_test.jsonl", lines(rows))
  found = run(tldr, model, {"items": spec})
  assert model.asked == ["I sat.\n\nTL;DR:", "I ran.\n\nTL;DR:"]
  # One of two words each, of one and of two.
  assert [x["rougeL"] for x in found.samples] == pytest.approx([2 / 3, 1 / 2])


@pytest.mark.parametrize(
  ("one", "row", "words"),
  [
    (cnn_dm, {"article": "a"}, 'no column "highlights" article'),
    (cnn_dm, {"article": 3, "highlights": "b"}, '"article" text 3'),
    (tldr, {"body": "a", "summary": "b"}, 'no column "post" body'),
    (tldr, {"post": "a"}, 'no column "summary"'),
    (tldr, {"post": "", "summary": ""}, "no item of the set"),
  ],
)
def test_summaries_of_another_shape(tmp_path, one, row, words):
  spec = write(tmp_path, "x.jsonl", lines([row]))
  with pytest.raises(errors.UserError) as caught:
    run(one, toy_models.Model(), {"items": spec})
  said = str(caught.value)
  assert "x.jsonl" in said
  assert [word for word in words.split() if word not in said] == []


def test_a_long_article_loses_its_end(tmp_path):
  model = toy_models.Model(lambda prompt: " A cat", reach=24)
  rows = [{"article": "word " * 30 + "end", "highlights": "A cat ."}]
  spec = write(tmp_path, "x.jsonl", lines(rows))
  found = run(cnn_dm, model, {"items": spec})
  assert model.asked == ["word " * 10 + "word\n\nTL;DR:"]  # 12: half of 24
  assert found.counts == {"passages cut at their end, to fit": 1}
