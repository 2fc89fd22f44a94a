"""BLEU and ROUGE-L against their definitions."""

import math

import pytest
import sacrebleu

from instruct_jax.scoring import texts

SAMPLES = ["the cat sat on the mat", "it rains in the north of spain today"]
REFERENCES = [["the cat sat on a mat"], ["today it rains in the north", "rain"]]


def test_bleu_by_hand():
  """4-grams 1 of 3, 3-grams 2 of 4, 2-grams 3 of 5, words 5 of 6."""
  value, error, signature = texts.bleu(SAMPLES[:1], REFERENCES[:1])
  expected = 100 * math.exp(
    sum(map(math.log, (5 / 6, 3 / 5, 2 / 4, 1 / 3))) / 4
  )
  assert value == pytest.approx(expected)
  assert error is None
  assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")


def test_bleu_is_sacrebleus():
  value, error, signature = texts.bleu(SAMPLES, REFERENCES)
  streams = [[x[0] for x in REFERENCES], [None, "rain"]]
  assert value == pytest.approx(sacrebleu.corpus_bleu(SAMPLES, streams).score)
  assert "nrefs:var" in signature
  assert 0 < (error or 0) < 100


def test_a_sample_with_fewer_references_is_held_to_its_own():
  """The shorter of two is nearer to the first: it would not be penalised."""
  alone, _, _ = texts.bleu(["a b c d"], [["a b c d e f"]])
  assert alone == pytest.approx(100 * math.exp(1 - 6 / 4))
  both = texts.bleu(["a b c d", "x"], [["a b c d e f"], ["x", "y"]])[0]
  assert both == pytest.approx(100 * math.exp(1 - 7 / 5))


def test_the_error_of_bleu_is_that_of_draws():
  """As sacrebleu's own, up to the draws; halved by four times as many."""
  samples = [f"{a} {b} cat sat" for a in "xyz" for b in "uvw"] * 6
  known = [["x u cat sat"], ["y v dog sat"]] * 27
  _, error, _ = texts.bleu(samples, known)
  score = sacrebleu.BLEU().corpus_score(
    samples, [[x[0] for x in known]], n_bootstrap=1000
  )
  half = float(str(score).split("±")[1].split()[0].rstrip(")"))
  assert error == pytest.approx(half / 1.96, rel=0.15)
  _, more, _ = texts.bleu(samples * 4, known * 4)
  assert more == pytest.approx(error / 2, rel=0.15)


def test_errors_are_the_same_each_time():
  assert texts.bleu(SAMPLES, REFERENCES) == texts.bleu(SAMPLES, REFERENCES)


@pytest.mark.parametrize(
  ("sample", "known", "expected"),
  [
    ("a b c d", ["a b c d"], 1),
    ("a b c d", ["a c d"], 6 / 7),  # precision 3/4, recall 1
    ("d c b a", ["a b c d"], 1 / 4),  # one in order
    ("a x b", ["a b y"], 2 / 3),
    ("A B.", ["a, b"], 1),  # case and punctuation do not count
    ("running", ["runs"], 0),  # no stems
    ("", ["a"], 0),
    ("a b", ["c", "a b"], 1),
  ],
)
def test_rouge_l_by_hand(sample, known, expected):
  assert texts.rouge_l(sample, known) == pytest.approx(expected)
