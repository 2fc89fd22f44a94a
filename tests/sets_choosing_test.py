"""Sets that are answered by likelihood: hand-made files, models by hand."""

import dataclasses
import gzip
import json
import math
import pathlib

import jax
import numpy as np
import pytest
from etils import epath

from instruct_jax.base import errors
from instruct_jax.hf import llama2c
from instruct_jax.measuring import (
  asked,
  contract,
  found,
  models,
  preferred,
  questions,
)
from instruct_jax.runs import measured
from instruct_jax.sets import (
  crows_pairs,
  hellaswag,
  lambada,
  rte,
  sst2,
  winogender,
  wsc,
)
from tests import toy_models

DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"


def written(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  return str(path)


def lines(path, *rows):
  return written(path, "\n".join(json.dumps(row) for row in rows))


class Model(toy_models.Model):
  """What it is asked stays in `pairs`; what it says greedily is `greedy`."""

  def __init__(self, likes, greedy=()):
    super().__init__(likes=likes)
    self.pairs, self._greedy = [], greedy

  def likelihoods(self, asked):
    self.pairs += asked
    return [
      dataclasses.replace(one, is_greedy=text in self._greedy)
      for one, (_, text) in zip(super().likelihoods(asked), asked)
    ]


def likes(*words):
  """A model to which one of these words is likelier than another."""
  return Model(lambda _, text: -1.0 - (text.strip() not in words))


# Questions


def some(count, right=lambda n: n % 2):
  return [
    questions.Question(f"Q{n}", (" no", " yes"), int(right(n)), f"g{n // 2}")
    for n in range(count)
  ]


def test_a_prompt_is_an_instruction_examples_and_the_question():
  model = likes("yes")
  bench = toy_models.bench(model, {"items": "x"}, shots="2")
  questions.measure(bench, lambda spec: iter(some(8)), "Do it.")
  for n in range(8):
    prompt, answer = model.pairs[2 * n]
    assert answer == " no"
    first, *examples, last = prompt.split("\n\n")
    assert (first, last, len(examples)) == ("Do it.", f"Q{n}", 2)
    for one in examples:
      name, said = one.split(" ")
      assert int(name[1:]) // 2 != n // 2, "one of its own group"
      assert said == ("yes" if int(name[1:]) % 2 else "no")


def test_examples_come_from_their_own_file_where_there_is_one():
  model = likes("yes")
  files = {"items": "items", "examples": "examples"}

  def read(spec):
    for n in range(5):
      yield questions.Question(f"{spec} {n}", (" no", " yes"), 1, f"{spec}{n}")

  questions.measure(toy_models.bench(model, files, shots="3"), read)
  for prompt, _ in model.pairs:
    parts = [part.split()[0] for part in prompt.split("\n\n")]
    assert parts == ["examples"] * 3 + ["items"]


def test_examples_go_before_the_question_does():
  """Of 9 words that are read an instruction, a question and one example."""
  model = likes("yes")
  model.reach = 8
  bench = toy_models.bench(model, {"items": "x"}, shots="3")
  found = questions.measure(bench, lambda spec: iter(some(8)), "Do it.")
  for n in range(8):
    prompt, _ = model.pairs[2 * n]
    first, *examples, last = prompt.split("\n\n")
    assert (first, last) == ("Do it.", f"Q{n}")
    assert len(examples) == 2, "2 + 2 x 2 + 1 words, and 1 of the answer"
  assert found.counts == {"prompts with fewer examples, to fit": 8}


def test_accuracy_and_that_of_constant_answers():
  rows = some(8, lambda n: n < 2)
  bench = toy_models.bench(likes("no"), {"items": "x"})
  found = questions.measure(bench, lambda spec: iter(rows))
  assert found.metrics["accuracy"].value == 6 / 8
  assert found.metrics["accuracy_balanced"].value == 1 / 2
  assert found.notes == ("always 'no' would be right in 75.0 % of the items",)
  # Residuals of the groups: -3/2 and three times 1/2: sqrt(4/3 · 3) / 8.
  assert found.metrics["accuracy"].stderr == pytest.approx(2 / 8)


# SST-2


def test_sst2_as_lines_as_a_table_and_as_rows(tmp_path):
  bare = written(tmp_path / "dev.tsv", 'a fine " film\t1\nboring\t0\n')
  table = written(
    tmp_path / "glue.tsv", "sentence\tlabel\na fine ` film\t1\nboring\t0\n"
  )
  rows = lines(
    tmp_path / "rows.jsonl",
    {"sentence": "a fine film ", "label": 1, "idx": 0},
    {"sentence": "boring", "label": 0, "idx": 1},
    {"sentence": "unknown", "label": -1, "idx": 2},
  )
  for spec in (bare, table, rows):
    one, other = sst2.read(spec)
    assert one.shown.startswith("Text: a fine")
    assert one.shown.endswith("film\n\nLabel:")
    assert (one.choices[one.answer], other.choices[other.answer]) == (
      " positive",
      " negative",
    )


def test_sst2_is_asked_with_its_instruction(tmp_path):
  spec = written(tmp_path / "dev.tsv", "fine\t1\nboring\t0\n")
  model = likes("positive")
  found = sst2.measure(toy_models.bench(model, {"items": spec}))
  assert found.metrics["accuracy"].value == 0.5
  assert model.pairs[0] == (
    "For each snippet of text, label the sentiment of the text as positive or"
    " negative.\n\nText: fine\n\nLabel:",
    " negative",
  )


@pytest.mark.parametrize(
  ("name", "text", "words"),
  [
    ("dev.tsv", "fine\t1\nboring\n", "dev.tsv:2"),
    ("x.jsonl", '{"sentence": "a", "label": 2}', "label"),
    ("x.jsonl", '{"text": "a", "label": 1}', "sentence"),
    ("x.jsonl", '{"sentence": "a", "label": -1}', "no item"),
  ],
)
def test_sst2_of_another_shape(tmp_path, name, text, words):
  spec = written(tmp_path / name, text)
  with pytest.raises(errors.UserError, match=words):
    sst2.measure(toy_models.bench(likes("positive"), {"items": spec}))


# RTE

XML = """<?xml version="1.0" encoding="UTF-8"?>
<entailment-corpus>
<pair id="1" {}><t>A cat
 sat.</t><h>There was a cat.</h></pair>
<pair id="2" {}><t>It rains.</t><h>It snows.</h></pair>
</entailment-corpus>"""


def zipped(path, text):
  path.write_bytes(gzip.compress(text.encode()))
  return str(path)


def test_rte_in_all_its_forms(tmp_path):
  of_2 = XML.format('entailment="YES"', 'entailment="NO"')
  of_1 = XML.format('value="TRUE"', 'value="FALSE"')
  super_glue = [
    {"premise": "A cat sat.", "hypothesis": "There was a cat.",
     "label": "entailment", "idx": 0},
    {"premise": "It rains.", "hypothesis": "It snows.",
     "label": "not_entailment", "idx": 1},
  ]  # fmt: skip
  glue = (
    "index\tsentence1\tsentence2\tlabel\n"
    "0\tA cat sat.\tThere was a cat.\tentailment\n"
    "1\tIt rains.\tIt snows.\tnot_entailment\n"
  )
  rows = [
    {"sentence1": "A cat sat.", "sentence2": "There was a cat.", "label": 0},
    {"sentence1": "It rains.", "sentence2": "It snows.", "label": 1},
    {"sentence1": "?", "sentence2": "?", "label": -1},
  ]
  specs = [
    written(tmp_path / "rte3_test.xml", of_2),
    written(tmp_path / "rte1_test.xml", of_1),
    zipped(tmp_path / "rte1_test.xml.gz", of_1),
    lines(tmp_path / "val.jsonl", *super_glue),
    written(tmp_path / "dev.tsv", glue),
    lines(tmp_path / "rows.jsonl", *rows),
  ]
  for spec in specs:
    one, other = rte.read(spec)
    assert one.shown == (
      "Passage: A cat sat.\n\nQuestion: From this passage can one infer that"
      " There was a cat?\n\nAnswer:"
    )
    assert (one.choices[one.answer], other.choices[other.answer]) == (
      " yes",
      " no",
    )


@pytest.mark.parametrize(
  ("name", "text", "words"),
  [
    ("rte_test.xml", XML.format("", 'value="NO"'), "pair 1: entailment"),
    ("rte_test.xml", "<pair", "no XML"),
    ("rte_test.xml", "<a><pair value='YES'><t>x</t></pair></a>", "<t> and <h>"),
    ("rte.zip", "PK", "zip"),
    ("x.jsonl", '{"premise": "a", "label": 0}', "hypothesis"),
    ("x.jsonl", '{"premise": "a", "hypothesis": "b", "label": "x"}', "label"),
  ],
)
def test_rte_of_another_shape(tmp_path, name, text, words):
  spec = written(tmp_path / name, text)
  with pytest.raises(errors.UserError, match=words):
    rte.measure(toy_models.bench(likes("yes"), {"items": spec}))


# WSC

TEXT = "Ann told Bea that she won. She smiled."


def wsc_row(noun, pronoun, place, label):
  spans = {"span1_text": noun, "span1_index": 0}
  spans |= {"span2_text": pronoun, "span2_index": place}
  return {"text": TEXT, "target": spans, "idx": 0, "label": label}


def test_wsc_asks_whether_and_which(tmp_path):
  rows = [
    wsc_row("Ann", "she", 4, True),
    wsc_row("Bea", "she", 4, False),
    wsc_row("Ann", "She", 6, False),
  ]
  spec = lines(tmp_path / "val.jsonl", *rows)
  model = likes("no", "Bea")
  found = wsc.measure(toy_models.bench(model, {"items": spec}))
  assert found.metrics["accuracy"].value == pytest.approx(2 / 3)
  assert found.metrics["accuracy_chosen"].value == 0
  assert found.metrics["accuracy_chosen"].n == 1
  assert model.pairs[:2] == [
    (
      "Passage: Ann told Bea that *she* won. She smiled.\nQuestion: In the"
      ' passage above, does the pronoun "*she*" refer to "*Ann*"?\nAnswer:',
      answer,
    )
    for answer in (" no", " yes")
  ]
  assert model.pairs[4][0].startswith(
    "Passage: Ann told Bea that she won. *She*"
  )
  assert [answer for _, answer in model.pairs[6:]] == [" Ann", " Bea"]
  assert model.pairs[6][0].endswith(
    'Question: In the passage above, what does the pronoun "*she*" refer to?'
    "\nAnswer:"
  )


def test_wsc_counts_what_is_cut_of_both_questions(tmp_path):
  rows = [wsc_row("Ann", "she", 4, True), wsc_row("Bea", "she", 4, False)]
  spec = lines(tmp_path / "val.jsonl", *rows)
  model = likes("no", "Bea")
  model.reach = 5
  found = wsc.measure(toy_models.bench(model, {"items": spec}))
  assert found.counts == {"contexts cut on the left": 3}


def test_wsc_as_rows_and_without_two_nouns(tmp_path):
  row = wsc_row("Ann", "she", 0, False)
  flat = {"text": TEXT, **row["target"], "label": 1}
  unknown = {"text": TEXT, **row["target"], "label": -1}
  spec = lines(tmp_path / "rows.jsonl", flat, unknown)
  model = likes("yes")
  found = wsc.measure(toy_models.bench(model, {"items": spec}))
  assert found.metrics["accuracy"].value == 1
  assert "accuracy_chosen" not in found.metrics
  # The nearest word that begins so, though the index is another's.
  assert "that *she* won" in model.pairs[0][0]


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"target": 3}, "target"),
    ({"target": {"span1_text": "a", "span2_text": "b"}}, "span2_index"),
    ({"target": {"span1_text": "a", "span2_text": "zzz", "span2_index": 1}},
     "zzz"),
    ({"label": "perhaps"}, "label"),
  ],
)  # fmt: skip
def test_wsc_of_another_shape(tmp_path, change, words):
  row = wsc_row("Ann", "she", 4, True) | change
  spec = lines(tmp_path / "val.jsonl", row)
  with pytest.raises(errors.UserError, match=words):
    list(wsc.read(spec))


# LAMBADA


def test_lambada_in_its_forms(tmp_path):
  plain = written(
    tmp_path / "lambada_test_plain_text.txt",
    "he lit the lamp , and read by the lamp\n\nshe said his name\n",
  )
  rows = lines(
    tmp_path / "lambada_test.jsonl",
    {"text": "he lit the lamp , and read by the lamp"},
    {"text": "she said his name "},
  )
  for spec in (plain, rows):
    one, other = lambada.read(spec)
    assert one.shown == "he lit the lamp , and read by the"
    assert (one.choices, other.choices) == ((" lamp",), (" name",))


def test_lambada_counts_what_greedy_decoding_says(tmp_path):
  spec = lines(tmp_path / "x.jsonl", {"text": "a b c"}, {"text": "d e f"})
  nats = {" c": -1.0, " f": -3.0}
  model = Model(lambda _, text: nats[text], greedy=[" c"])
  found = lambada.measure(toy_models.bench(model, {"items": spec}))
  assert model.pairs == [("a b", " c"), ("d e", " f")]
  assert found.metrics["accuracy"].value == 0.5
  assert found.metrics["logprob"].value == -2
  assert found.metrics["perplexity"].value == pytest.approx(math.e**2)
  # The standard error of -1 and -3 is 1.
  assert found.metrics["perplexity"].stderr == pytest.approx(math.e**2)


def test_lambada_with_examples_is_a_cloze(tmp_path):
  spec = lines(tmp_path / "x.jsonl", {"text": "a b c"}, {"text": "d e f"})
  model = Model(lambda _, text: -1.0)
  lambada.measure(toy_models.bench(model, {"items": spec}, shots="1"))
  assert model.pairs[0] == (
    "Fill in blank:\n\nd e ____. -> f\n\na b ____. ->",
    " c",
  )


def test_lambada_of_another_shape(tmp_path):
  spec = written(tmp_path / "lambada_test.txt", "one\n")
  with pytest.raises(errors.UserError, match="several words"):
    list(lambada.read(spec))
  spec = lines(tmp_path / "x.jsonl", {"txt": "a b"})
  with pytest.raises(errors.UserError, match="text"):
    list(lambada.read(spec))


# Which sentence is preferred


def test_entropy_in_bits_by_hand():
  thirds = preferred.shares(np.full(3, -7.0))
  assert preferred.entropy(thirds) == pytest.approx(math.log2(3))
  # Chances of 1 : 3: 1/4 · 2 + 3/4 · log2(4/3).
  shares = preferred.shares(np.asarray([-800.0, -800.0 + math.log(3)]))
  assert shares == pytest.approx([0.25, 0.75])
  expected = 0.25 * 2 + 0.75 * math.log2(4 / 3)
  assert preferred.entropy(shares) == pytest.approx(expected)
  assert preferred.entropy(preferred.shares(np.asarray([0, -2000.0]))) == 0


CROWS = (
  ",sent_more,sent_less,stereo_antistereo,bias_type,annotations\n"
  '0,"They, said more","They, said less",stereo,age,[]\n'
  "1,b more,b less,antistereo,age,[]\n"
  "2,c more,c less,stereo,gender,[]\n"
  "3,d more,d less,stereo,gender,[]\n"
)


def test_crows_pairs_by_hand(tmp_path):
  """More is likelier 3 : 1 in a and b, as likely in c, less likely in d."""
  spec = written(tmp_path / "crows_pairs_anonymized.csv", CROWS)
  odds = {"T": 3.0, "b": 3.0, "c": 1.0, "d": 1 / 3}

  def nats(context, text):
    if context:
      return -5.0
    return -9.0 + math.log(odds[text[0]]) * text.endswith("more")

  model = Model(nats)
  found = crows_pairs.measure(toy_models.bench(model, {"items": spec}))
  quarter = 0.25 * 2 + 0.75 * math.log2(4 / 3)
  values = {name: one.value for name, one in found.metrics.items()}
  assert values == pytest.approx(
    {
      "entropy": (3 * quarter + 1) / 4,
      "entropy_respectful": 1,
      "entropy_biased": 1,
      "stereotype": 2 / 4,
      "stereotype_respectful": 0,
      "stereotype_biased": 0,
      "stereotype/stereo": 1 / 3,
      "stereotype/antistereo": 1,
      "stereotype/age": 1,
      "stereotype/gender": 0,
    }
  )
  assert found.samples[0]["sent_more"] == "They, said more"
  assert found.samples[0]["share_more_none"] == 0.75
  contexts = list(dict.fromkeys(context for context, _ in model.pairs))
  assert contexts == list(preferred.PROMPTS.values())
  assert "polite, respectful, and unbiased manner:" in contexts[1]
  assert "maximally biased and offensive language:" in contexts[2]


@pytest.mark.parametrize(
  ("before", "after", "words"),
  [
    ("sent_less", "sent_fewer", "sent_less"),
    ("antistereo,", "sideways,", "stereo_antistereo"),
    ("gender,", "shoes,", "bias_type"),
  ],
)
def test_crows_pairs_of_another_shape(tmp_path, before, after, words):
  spec = written(tmp_path / "x.csv", CROWS.replace(before, after))
  with pytest.raises(errors.UserError, match=words):
    list(crows_pairs.read(spec))


def test_crows_pairs_with_numbers_for_labels(tmp_path):
  row = {"sent_more": "a", "sent_less": "b"}
  row |= {"stereo_antistereo": 1, "bias_type": 2}
  (one,) = crows_pairs.read(lines(tmp_path / "rows.jsonl", row))
  assert (one.direction, one.kind) == ("antistereo", "gender")


PRONOUNS = {"male": "he", "female": "she", "neutral": "they"}


def winogender_rows(*occupations):
  for occupation in occupations:
    for answer in (0, 1):
      for gender, pronoun in PRONOUNS.items():
        name = f"{occupation}.guest.{answer}.{gender}.txt"
        yield f"{name}\tThe {occupation} said to the guest {answer} {pronoun}."


def winogender_files(tmp_path):
  rows = ["sentid\tsentence", *winogender_rows("nurse", "smith", "clerk")]
  facts = (
    "occupation\tbergsma_pct_female\tbls_pct_female\tbls_year\n"
    "nurse\t10\t90\t2015\nsmith\t90\t10\t2015\nclerk\t50\t50\t2015\n"
  )
  return {
    "items": written(tmp_path / "all_sentences.tsv", "\n".join(rows)),
    "statistics": written(tmp_path / "occupations-stats.tsv", facts),
  }


def test_winogender_by_hand(tmp_path):
  """Where it means the occupation she is 3 : 1, 1 : 3 and 1 : 1; never they."""
  odds = {"nurse": 3.0, "smith": 1 / 3, "clerk": 1.0}

  def nats(context, text):
    if "they" in text:
      return -3000.0
    factor = odds[text.split()[1]] if " 0 " in text and not context else 1
    return -4.0 + math.log(factor) * ("she" in text)

  model = Model(nats)
  files = winogender_files(tmp_path)
  found = winogender.measure(toy_models.bench(model, files))
  quarter = 0.25 * 2 + 0.75 * math.log2(4 / 3)
  values = {name: one.value for name, one in found.metrics.items()}
  assert values == pytest.approx(
    {
      "entropy": (2 * quarter + 4) / 6,
      "entropy_respectful": 1,
      "entropy_biased": 1,
      "entropy_three": (2 * quarter + 4) / 6,
      "entropy_three_respectful": 1,
      "entropy_three_biased": 1,
      "she": (0.75 + 0.25 + 4 * 0.5) / 6,
      "she/nurse": 0.75,
      "she/smith": 0.25,
      "she/clerk": 0.5,
      "correlation_bls": 1,
      "correlation_bergsma": -1,
    }
  )
  first = found.samples[0]
  assert (first["occupation"], first["means"]) == ("nurse", "occupation")
  assert first["shares_none"] == [0.25, 0.75, 0]
  assert [s.split()[-1] for s in first["sentences"]] == ["he.", "she.", "they."]


def test_winogender_without_the_statistics(tmp_path):
  files = {"items": winogender_files(tmp_path)["items"]}
  found = winogender.measure(toy_models.bench(likes(), files))
  assert not any(name.startswith("correlation") for name in found.metrics)


def test_winogender_by_template(tmp_path):
  """Two sentences of each template: errors are those of the templates."""
  rows = ["sentid\tsentence", *winogender_rows("nurse", "smith")]
  rows += [x.replace(".guest.", ".someone.") for x in rows[1:]]
  spec = written(tmp_path / "all_sentences.tsv", "\n".join(rows))
  model = Model(lambda _, text: math.log(3) * (" 1 she" in text))
  found = winogender.measure(toy_models.bench(model, {"items": spec}))
  # Shares of she by template: 0.5 twice, 0.75 twice; each of two sentences.
  expected = math.sqrt(4 / 3 * 4 * 0.25**2) / 8
  assert found.metrics["she"].stderr == pytest.approx(expected)


@pytest.mark.parametrize(
  ("before", "after", "words"),
  [
    ("sentence\n", "text\n", "sentence"),
    ("nurse.guest.0.male", "nurse.guest.male", "all_sentences.tsv:2"),
    ("nurse.guest.0.male", "nurse.guest.0.female", "twice"),
    ("clerk.guest.1.neutral", "clerk.other.1.neutral", "no neutral sentence"),
  ],
)
def test_winogender_of_another_shape(tmp_path, before, after, words):
  spec = winogender_files(tmp_path)["items"]
  path = pathlib.Path(spec)
  path.write_text(path.read_text().replace(before, after))
  with pytest.raises(errors.UserError, match=words):
    list(winogender.read(spec))


def test_a_correlation_by_hand():
  found = winogender.correlation([0, 1, 2, 3], [0, 1, 2, 1])
  # Deviations -1.5, -0.5, 0.5, 1.5 and -1, 0, 1, 0: 2 / sqrt(5 · 2).
  r = 2 / math.sqrt(10)
  assert found.value == pytest.approx(r)
  assert found.stderr == pytest.approx(math.sqrt((1 - r * r) / 2))
  assert found.n == 4


# HellaSwag


def hellaswag_row(label=1):
  return {
    "activity_label": "Sailing",
    "ctx": "A boat [header] goes [title] on. it",
    "endings": ["sinks.", "goes  on.", "flies.", "eats."],
    "label": label,
  }


def test_hellaswag_plain_and_as_the_paper_asks(tmp_path):
  spec = lines(tmp_path / "hellaswag_val.jsonl", hellaswag_row())
  context = "Sailing: A boat goes.  on. it"
  instruction = "Complete each independent paragraph using common-sense"
  for settings, before in (
    ({}, ""),
    ({"prompt": "paper"}, f"{instruction} reasoning.\n\n"),
  ):
    model = likes("goes on.")
    bench = toy_models.bench(model, {"items": spec}, **settings)
    found = hellaswag.measure(bench)
    assert found.metrics["accuracy"].value == 1
    assert model.pairs[1] == (
      before + context.replace(".  ", ". "),
      " goes on.",
    )


def test_hellaswag_s_prompt_is_one_of_two(tmp_path):
  spec = lines(tmp_path / "hellaswag_val.jsonl", hellaswag_row())
  bench = toy_models.bench(likes(), {"items": spec}, prompt="papers")
  with pytest.raises(errors.UserError, match="paper"):
    hellaswag.measure(bench)


def test_hellaswag_of_another_shape(tmp_path):
  for row, words in (
    (hellaswag_row(label=4), "label"),
    (hellaswag_row() | {"endings": ["a"]}, "4 texts"),
  ):
    spec = lines(tmp_path / "hellaswag_val.jsonl", row)
    with pytest.raises(errors.UserError, match=words):
      list(hellaswag.read(spec))
  spec = written(tmp_path / "hellaswag_val_full.txt", "A: b\n1\nc\nd\ne\n")
  with pytest.raises(errors.UserError, match="six lines"):
    list(hellaswag.read(spec))


# The real files


DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize(
  ("one", "name", "count"),
  [
    (hellaswag, "hellaswag/hellaswag_val_full.txt.bz2", 10_042),
    (rte, "rte/rte.zip", 2_400),
    (sst2, "sst2/dev.tsv", 872),
    (sst2, "sst2/test.tsv", 1_821),
    (wsc, "superglue_wsc/val.jsonl", 104),
    (wsc, "superglue_wsc/train.jsonl", 554),
    (wsc, "superglue_wsc/test.jsonl", 0),
    (winogender, "winogender/all_sentences.tsv", 240),
    (crows_pairs, "crows_pairs/crows_pairs_anonymized.csv", 1_508),
  ],
)
def test_the_published_files_have_as_many_items(one, name, count):
  path = DATA / name
  if not path.exists():
    pytest.skip(f"{path} is not there")
  assert sum(1 for _ in one.read(str(path))) == count


@pytest.mark.parametrize(
  ("one", "files"),
  [
    (hellaswag, {"items": "hellaswag/hellaswag_val_full.txt.bz2"}),
    (rte, {"items": "rte/rte.zip"}),
    (sst2, {"items": "sst2/dev.tsv"}),
    (wsc, {"items": "superglue_wsc/val.jsonl",
           "examples": "superglue_wsc/train.jsonl"}),
    (winogender, {"items": "winogender/all_sentences.tsv",
                  "statistics": "winogender/occupations-stats.tsv"}),
    (crows_pairs, {"items": "crows_pairs/crows_pairs_anonymized.csv"}),
  ],
)  # fmt: skip
def test_the_published_files_are_found(tmp_path, one, files):
  for name in ("x.csv", "dev.tsv", "train.jsonl", *files.values()):
    written(tmp_path / name, "")
  expected = {role: str(tmp_path / name) for role, name in files.items()}
  assert found.of_set(one.SET, str(tmp_path), {}).files == expected


def test_winogender_s_occupations_all_have_statistics():
  path = DATA / "winogender"
  if not path.exists():
    pytest.skip(f"{path} is not there")
  known = winogender.statistics_of(str(path / "occupations-stats.tsv"))
  groups = winogender.read(str(path / "all_sentences.tsv"))
  assert {one.occupation for one in groups} == set(known)
  assert len(known) == 60


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
  """A story-teller, and the same network with weights of chance."""
  stories = DATA / "stories260K"
  if not stories.exists():
    pytest.skip(f"the public checkpoint is not here: {stories}")
  folder = tmp_path_factory.mktemp("stories")
  llama2c.to_hf(stories / "stories260K.bin", stories / "tok512.bin", folder)
  (given,) = measured.models([f"hf:{folder}"], template="none")
  told = given.open()
  leaves, tree = jax.tree.flatten(told.params)
  keys = jax.random.split(jax.random.key(0), len(leaves))
  chance = [
    0.02 * jax.random.normal(key, x.shape) if x.ndim > 1 else x
    for key, x in zip(keys, leaves)
  ]
  params = jax.tree.unflatten(tree, chance)
  return {"stories": told, "chance": dataclasses.replace(told, params=params)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stories", "chance"])
@pytest.mark.parametrize(
  ("one", "file", "metric", "chance"),
  [
    (hellaswag, "hellaswag/hellaswag_val_full.txt.bz2", "accuracy", 1 / 4),
    (rte, "rte/rte.zip", "accuracy_balanced", 1 / 2),
    (sst2, "sst2/dev.tsv", "accuracy_balanced", 1 / 2),
    (wsc, "superglue_wsc/val.jsonl", "accuracy_balanced", 1 / 2),
  ],
)
def test_who_knows_nothing_is_at_chance(
  readers, tmp_path, name, one, file, metric, chance
):
  answers = asked.Answers(tmp_path / "asked.jsonl", {})
  model = models.Model(name, readers[name], answers)
  settings = contract.Settings(limit=100)
  files = {"items": str(DATA / file)}
  bench = contract.Bench(
    "set", files, settings, (name,), lambda _: model, epath.Path(tmp_path)
  )
  estimate = one.measure(bench).metrics[metric]
  assert abs(estimate.value - chance) <= 3 * estimate.stderr
