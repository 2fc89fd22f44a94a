"""People's files: rankings of models, and judgments of single answers."""

import collections
import json
import math
import pathlib

import numpy as np
import pytest

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.data.public import convert
from instruct_jax.scoring import comparisons, judgments, rankings

PUBLIC = pathlib.Path(__file__).parents[2] / "shared" / "data"


def ranking(ranks, *, labeler="l1", models=("a", "b", "c"), **more):
  texts = [f"answer of {m}{n}" for n, m in enumerate(models)]
  record = {"prompt": "p", "responses": texts, "labeler": labeler}
  return record | {"models": list(models), "ranks": list(ranks)} | more


def judgment(likert=4, **more):
  record = {"prompt": "p", "response": "r", "model": "a", "labeler": "l1"}
  return record | {"likert": likert} | more


@pytest.fixture
def written(tmp_path):
  def write(records, name="file.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return str(path)

  return write


class TestRankings:
  def test_comparisons_by_hand(self, written):
    """a before b, b as good as c; group and source come along."""
    path = written([ranking([1, 2, 2], group="training", source="gpt")])
    found = rankings.compared(rankings.read(path))
    assert [(x.models, x.won) for x in found] == [
      (("a", "b"), 1.0),
      (("a", "c"), 1.0),
      (("b", "c"), 0.5),
    ]
    assert found[0].labels == {"labelers": "training", "source": "gpt"}
    assert (found[0].prompt, found[0].lengths) == ("p", (12, 12))

  def test_pairs_say_what_was_compared(self, written):
    record = ranking([], models=("a", "b", "c"))
    del record["ranks"]
    found = rankings.compared(
      rankings.read(written([record | {"pairs": [[2, 0]]}]))
    )
    assert [(x.models, x.won) for x in found] == [(("a", "c"), 0.0)]

  def test_two_answers_of_one_model_are_no_comparison(self, written):
    path = written([ranking([1, 2], models=("a", "a"))])
    assert rankings.compared(rankings.read(path)) == []

  def test_our_own_rankings_name_sources(self, written):
    record = ranking([1, 2], models=("a", "b"))
    record["sources"] = record.pop("models")
    (found,) = rankings.compared(rankings.read(written([record])))
    assert found.models == ("a", "b")

  def test_without_models(self, written):
    record = ranking([1, 2, 3])
    del record["models"]
    path = written([ranking([1, 2, 3]), record])
    with pytest.raises(errors.UserError, match='ranking 2 has no "models"'):
      rankings.read(path)

  @pytest.mark.parametrize(
    ("models", "said"),
    [
      (["a", "b"], '"models" has 2 entries, but there are 3 "responses"'),
      (["a", "b", ""], r'"models"\[2\] should be the name of a model'),
      ("abc", '"models" should be a list'),
    ],
  )
  def test_wrong_models(self, written, models, said):
    path = written([ranking([1, 2, 3], models=("a", "b", "c"))])
    record = ranking([1, 2, 3]) | {"models": models}
    path = written([record])
    with pytest.raises(errors.UserError, match=f"file.jsonl:1: .*{said}"):
      rankings.read(path)

  def test_models_of_a_table(self, tmp_path):
    path = tmp_path / "file.csv"
    path.write_text(
      "prompt,responses,ranks,models\n"
      'p,"[""x"", ""y""]","[2, 1]","[""a"", ""b""]"\n'
    )
    (found,) = rankings.compared(rankings.read(str(path)))
    assert (found.models, found.won) == (("a", "b"), 0.0)

  def test_agreement_by_hand(self):
    """Three pairs: they agree on two, differ on one."""
    records = [ranking([1, 2, 3]), ranking([1, 3, 2], labeler="l2")]
    (found,) = rankings.agreeing(records)
    assert (found["pairwise"], found["units"]) == (2 / 3, 3)
    # Both orders: 12 verdicts, 6 of each; 4 of 12 ordered pairs differ.
    np.testing.assert_allclose(found["alpha"], 1 - (12 - 1) * 4 / (2 * 6 * 6))

  def test_agreement_knows_no_first(self):
    """What the texts sort like makes no difference."""
    records = [ranking([1, 2, 3]), ranking([1, 3, 2], labeler="l2")]
    turned = [
      r | {"responses": [f"{9 - n}" for n in range(3)]} for r in records
    ]
    (one,), (other,) = rankings.agreeing(records), rankings.agreeing(turned)
    assert one["alpha"] == pytest.approx(other["alpha"])

  def test_ties_count_for_alpha_alone(self):
    records = [
      ranking([1, 1], models=("a", "b")),
      ranking([1, 2], models=("a", "b"), labeler="l2"),
    ]
    (found,) = rankings.agreeing(records)
    assert found["pairwise"] is None
    assert found["alpha"] < 0

  def test_nobody_shares_a_pair(self):
    records = [ranking([1, 2, 3]), ranking([1, 2, 3], labeler="l2", prompt="q")]
    assert rankings.agreeing(records) == []


@pytest.fixture(scope="module")
def pandalm(tmp_path_factory):
  source = PUBLIC / "pandalm" / "testset-v1.json"
  if not source.exists():
    pytest.skip(f"the public data set is not here: {source}")
  out = tmp_path_factory.mktemp("pandalm") / "rankings.jsonl"
  convert.convert("pandalm", [str(source)], out)
  return rankings.read(str(out))


class TestPandaLM:
  """Real people's: 999 comparisons of five models by three annotators each."""

  def test_agreement_as_published(self, pandalm):
    """Its README has Cohen's kappas of 0.85, 0.86 and 0.88."""
    (found,) = rankings.agreeing(pandalm)
    assert found["labelers"] == 3
    assert round(found["alpha"], 2) == round((0.85 + 0.86 + 0.88) / 3, 2)

  def test_wins_as_published(self, pandalm):
    """LLaMA's (wins, losses, ties) by majority, as PandaLM's README has them;
    rows with a response that is no text, or one text twice, are left out."""
    votes = collections.defaultdict(list)
    for one in rankings.compared(pandalm):
      mine = one if one.models[0] == "llama-7b" else one.turned()
      if mine.models[0] == "llama-7b":
        votes[mine.models[1], one.prompt].append(mine.won)
    counts = collections.Counter()
    for (other, _), of in votes.items():
      for k in range(0, len(of), 3):
        counts[other, float(np.median(of[k : k + 3]))] += 1
    published = {
      "bloom-7b": (72, 28, 11),
      "cerebras-gpt-6.7B": (80, 24, 6),
      "opt-7b": (71, 24, 11),
      "pythia-6.9b": (58, 27, 9),
    }
    lacking = [
      of - counts[other, share]
      for other, of_three in published.items()
      for share, of in zip((1.0, 0.0, 0.5), of_three)
    ]
    assert min(lacking) >= 0
    assert sum(lacking) <= 6

  def test_strengths(self, pandalm):
    found = rankings.compared(pandalm)
    names = comparisons.models_of(found)
    rows, said = comparisons.strengths_table(found, names)
    assert said == ""
    order = [row["model"] for row in rows]
    assert (order[0], order[-1]) == ("llama-7b", "cerebras-gpt-6.7B")
    assert rows[0]["low"] > rows[1]["high"]


class TestJudgments:
  def test_table_by_hand(self, written):
    flags = {"hallucination": True}
    path = written(
      [
        judgment(7, metadata=flags, source="gpt"),
        judgment(4, prompt="q", metadata={"hallucination": False}),
        judgment(1, model="b", prompt="q"),
      ]
    )
    rows = judgments.table(judgments.read(path))
    found = {
      (r["subject"], r["what"], r.get("source")): (r["value"], r["n"])
      for r in rows
    }
    assert found == {
      ("a", "likert", None): (5.5, 2),
      ("a", "likert", "gpt"): (7.0, 1),
      ("b", "likert", None): (1.0, 1),
      ("a", "hallucination", None): (0.5, 2),
      ("a", "hallucination", "gpt"): (1.0, 1),
    }

  def test_all_eleven(self, written):
    flags = dict.fromkeys(reversed(paper.METADATA), True)
    path = written([judgment(metadata=flags | {"mine": False})])
    found = judgments.flags_of(judgments.read(path))
    assert found == [*paper.METADATA, "mine"]
    assert len(paper.METADATA) == 11

  def test_of_rankings(self):
    record = ranking(
      [1, 2],
      models=("a", "b"),
      ratings=[7, 2.5],
      metadata=[{"opinion": True}, {"opinion": False}],
    )
    one, other = judgments.of_rankings([record, ranking([1, 2, 3])])
    assert (one.model, one.likert, one.flags) == ("a", 7, {"opinion": True})
    assert (other.model, other.likert) == ("b", 2.5)
    del record["metadata"]
    assert [x.likert for x in judgments.of_rankings([record])] == [7, 2.5]
    flags = ranking([1, 2], models=("a", "b"), metadata=[{}, {"opinion": True}])
    assert [x.flags for x in judgments.of_rankings([flags])] == [
      {},
      {"opinion": True},
    ]

  def test_agreement_by_hand(self, written):
    """Likert 1 and 3, 5 and 5; a flag that both say alike but once."""
    path = written(
      [
        judgment(1, metadata={"violent": True}),
        judgment(3, metadata={"violent": True}, labeler="l2"),
        judgment(5, metadata={"violent": False}, prompt="q"),
        judgment(5, metadata={"violent": True}, prompt="q", labeler="l2"),
      ]
    )
    likert, violent = judgments.agreeing(judgments.read(path))
    assert (likert["what"], likert["level"]) == ("likert", "ordinal")
    assert (likert["pairwise"], likert["units"]) == (0.5, 2)
    # Midpoints of 1, 3, 5, 5 are 0.5, 1.5, 3: δ² 1 (1, 3), 6.25, 2.25.
    observed, expected = 2 * 1, 2 * (1 + 2 * 6.25 + 2 * 2.25)
    np.testing.assert_allclose(likert["alpha"], 1 - 3 * observed / expected)
    assert (violent["what"], violent["level"]) == ("violent", "nominal")
    np.testing.assert_allclose(violent["alpha"], 1 - 3 * 2 / (2 * 1 * 3))

  def test_prompts_of_one_core_are_one(self, written):
    said = [
      judgment(grade, prompt=prompt, labeler=who, core=core)
      for prompt, core in (("p", "c"), ("q", "c"), ("r", "d"))
      for who, grade in (("l1", 1), ("l2", 2))
    ]
    read = judgments.read(written(said))
    (found,) = judgments.agreeing(read)
    assert (found["units"], found["clusters"]) == (3, 2)
    assert judgments.table(read)[0]["clusters"] == 2
    for record in said:
      del record["core"]
    (found,) = judgments.agreeing(judgments.read(written(said)))
    assert found["clusters"] == 3

  def test_who_says_two_things_says_none(self, written):
    path = written([judgment(1), judgment(2), judgment(3, labeler="l2")])
    assert judgments.agreeing(judgments.read(path)) == []

  def test_a_table(self, tmp_path):
    path = tmp_path / "file.csv"
    path.write_text(
      "prompt,response,model,labeler,likert,metadata\n"
      'p,r,a,l1,6,"{""sexual"": false}"\n'
      "p,r,a,l2,,\n".replace("l2,,", "l2,5,")
    )
    one, other = judgments.read(str(path))
    assert (one.likert, one.flags) == (6.0, {"sexual": False})
    assert (other.likert, other.flags) == (5.0, {})

  @pytest.mark.parametrize(
    ("change", "said"),
    [
      ({"likert": 8}, '"likert" should be a number from 1 to 7, not 8'),
      ({"likert": True}, '"likert" should be a number'),
      ({"likert": math.nan}, '"likert"|NaN'),
      ({"metadata": [1]}, '"metadata" should be {flag'),
      ({"metadata": {"violent": 1}}, '"violent" should be true or false'),
      ({"metadata": {"halucination": True}}, 'did you mean "hallucination"'),
      ({"model": 1.5}, '"model" should be a string'),
    ],
  )
  def test_what_is_no_judgment(self, written, change, said):
    path = written([judgment(), judgment() | change])
    with pytest.raises(errors.UserError, match=f"file.jsonl:2: .*({said})"):
      judgments.read(path)

  def test_what_lacks(self, written):
    record = judgment()
    record["modle"] = record.pop("model")
    with pytest.raises(errors.UserError, match=r'no "model".*mean "modle"'):
      judgments.read(written([record]))
    record = judgment()
    del record["likert"]
    with pytest.raises(errors.UserError, match='neither "likert"'):
      judgments.read(written([record]))
    with pytest.raises(errors.UserError, match="empty"):
      judgments.read(written([]))
