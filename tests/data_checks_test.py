"""Records that nobody can mean are refused; those that say nothing counted."""

import json

import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.data import __main__ as command
from instruct_jax.data import written
from instruct_jax.data.clean import hygiene, pipeline
from instruct_jax.data.read import kinds, records, sources
from tests import data_toys

RANKING = {"prompt": "Why?", "responses": ["a", "b", "c"], "ranks": [1, 2, 2]}
TWO = {"prompt": "Why?", "responses": ["a", "b"], "ranks": [1, 2]}


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def refused(tmp_path, kind, record, message, k_max=0):
  good = {"rankings": RANKING, "demonstrations": {"prompt": "p"}}.get(kind, {})
  required = dict.fromkeys(kinds.KINDS[kind].required, "x")
  path = write(tmp_path / "a.jsonl", [required | good, record])
  with pytest.raises(errors.UserError) as error:
    sources.read(path, kind, k_max=k_max)
  assert str(error.value).startswith(f"{path}:2: ")
  assert message in str(error.value)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"pairs": [[0, 1], [2, 0]]}, '"pairs"[1] = [2, 0] says that response 2 '),
    ({"pairs": [[1, 2]]}, '"ranks" has 2 for 1, 2 for 2; correct one'),
    ({"pairs": [[0, 1], [1, 0]]}, '"pairs"[1] = [1, 0] is there the other way'),
    ({"pairs": [[0, 1], [0, 1]]}, '"pairs"[1] = [0, 1] is there twice'),
    ({"pairs": [[0, 0]]}, '"pairs"[0] = [0, 0]: a response against itself'),
    ({"pairs": [[0, 3]]}, '"pairs"[0] = [0, 3]: there are only responses 0 to'),
    ({"pairs": [[-1, 0]]}, '"pairs"[0] = [-1, 0]: there are only responses'),
    ({"pairs": [[0, 1, 2]]}, '"pairs"[0] = [0, 1, 2]: [winner, loser]'),
    ({"pairs": [[0, 1.0]]}, '"pairs"[0] = [0, 1.0]: [winner, loser]'),
    ({"pairs": []}, '"pairs" is empty'),
    ({"responses": ["a", "", "c"]}, '"responses"[1] is empty; leave it out'),
    ({"responses": [" \n", "b", "c"]}, '"responses"[0] is empty'),
    ({"responses": ["a", "b", "\u200b\ufeff"]}, '"responses"[2] is empty'),
    (
      {"responses": ["a", "", "c"], "ended": [True, False, True]},
      '"responses"[1] is empty',
    ),
    (
      {"responses": ["a", "b", "a"]},
      '"responses"[0] and [2] are the same text, but "ranks" has 1 and 2',
    ),
    ({"responses": ["a"], "ranks": [1]}, "2 texts or more, not 1; leave"),
    ({"responses": [], "ranks": []}, "2 texts or more, not 0; leave"),
    (
      {"responses": list(map(str, range(1001))), "ranks": [1] * 1001},
      '"responses" should hold 2 to 1000 texts, not 1001; leave the line out',
    ),
    ({"ranks": [1.0, 2.0, 2.0]}, '"ranks"[0] should be an integer'),
    ({"ranks": ["1", "2", "2"]}, '"ranks"[0] should be an integer, 1 for'),
    ({"ranks": [1, None, 2]}, '"ranks"[1] should be an integer, 1 for'),
    ({"ranks": [0, 1, 2]}, '"ranks"[0] should be an integer, 1 for the best'),
    ({"ranks": [1, 2, 2**31]}, '"ranks"[2] should be an integer'),
    ({"ranks": None}, '"ranks" should be a list, not null'),
    ({"ratings": [1, 7]}, '"ratings" has 2 entries, but there are 3'),
    ({"ratings": [1, 7, 8]}, '"ratings"[2] should be a number from 1 to 7'),
    ({"ratings": [1, 7, True]}, '"ratings"[2] should be a number from 1 to 7'),
    ({"ratings": 5}, '"ratings" should be a list, not 5'),
    ({"metadata": [{}]}, '"metadata" has 1 entries, but there are 3'),
    ({"metadata": [{}, {}, 1]}, '"metadata"[2] should be flags such as'),
    ({"metadata": [{}, {"harmful": 1}, {}]}, '"metadata"[1] should be flags'),
    ({"labeler": ""}, '"labeler" is empty; leave it out where nobody is named'),
    ({"group": 3}, '"group" should be a string, not 3'),
    ({"split": "Train"}, '"split" should be one of'),
    ({"prompt": "\u200b \x00"}, '"prompt" is empty'),
  ],
)
def test_a_ranking_that_cannot_be_meant(change, message, tmp_path):
  refused(tmp_path, "rankings", RANKING | change, message)


def test_a_pair_of_one_text(tmp_path):
  record = {"prompt": "p", "responses": ["a", "b", "a"], "pairs": [[0, 2]]}
  message = '"pairs"[0] = [0, 2]: these two responses are the same text'
  refused(tmp_path, "rankings", record, message)


@pytest.mark.parametrize(
  ("kind", "record", "message"),
  [
    ("demonstrations", {"prompt": "p", "response": " "}, '"response" is empty'),
    ("demonstrations", {"prompt": "", "response": "r"}, '"prompt" is empty'),
    ("prompts", {"prompt": "\u200b"}, '"prompt" is empty'),
    ("prompts", {"prompt": "p", "user": " "}, '"user" is empty; leave it out'),
    ("pretraining", {"text": "\x0c\x01"}, '"text" is empty'),
  ],
)
def test_other_kinds_that_cannot_be_meant(kind, record, message, tmp_path):
  refused(tmp_path, kind, record, message)


@pytest.mark.parametrize(
  "change",
  [
    {"pairs": [[0, 1], [0, 2]]},  # as the ranks have it
    {"ranks": [3, 7, 7]},  # only their order counts
    {"responses": ["a", "b", "b"]},  # one text, one rank
    {"responses": ["a", "", "c"], "ended": [True] * 3},  # nothing was said
    {"responses": ["a", "a", "c"], "ended": [True, False, True]},
    {"ratings": [6, 2.5, 1], "metadata": [{"harmful": True}, {}, {}]},
    {"metadata": {"of": "somebody's own"}, "seconds": 8},
    {"ranks": [1, 1, 1]},  # nothing is ordered: counted, below
  ],
)
def test_what_can_be_meant_is_read(change, tmp_path):
  record = RANKING | change
  assert sources.read(write(tmp_path / "a.jsonl", [record]), "rankings") == [
    record
  ]


def test_people_may_prefer_in_circles(tmp_path):
  record = {"prompt": "p", "responses": list("abc")}
  record["pairs"] = [[0, 1], [1, 2], [2, 0]]
  path = write(tmp_path / "a.jsonl", [record])
  assert sources.read(path, "rankings") == [record]


def test_what_a_stage_has_written_may_be_nonsense(tmp_path):
  """Policies say nothing, and labelers of one's own may be noisy."""
  records_ = [
    RANKING | {"responses": ["a", "", "a"], "ended": [True, False, True]},
    TWO | {"responses": ["x", "x"]},
  ]
  write(tmp_path / "train.jsonl", records_)
  data = data_toys.section(k_max=0)
  folders = {"rankings": tmp_path}
  assert sources.open_source(data, "rankings", "train", folders) == records_


def test_k_max_is_a_limit_where_it_is_given(tmp_path):
  message = (
    '"responses" should hold 2 to 2 texts (data.k_max), not 3;'
    " --config.data.k_max=3 or more takes them, 0 as many as there are"
  )
  path = write(tmp_path / "a.jsonl", [TWO, RANKING])
  with pytest.raises(errors.UserError) as error:
    sources.read(path, "rankings", k_max=2)
  assert str(error.value) == f"{path}:2: {message}"
  assert len(sources.read(path, "rankings")) == 2
  for wrong in (1, -1):
    with pytest.raises(errors.UserError, match=r"data\.k_max=.*0 \(as many"):
      sources.check(data_toys.section(k_max=wrong, tokenizer="hf:x"))


def test_rankings_that_order_nothing_are_left_out_and_counted():
  tied = TWO | {"ranks": [2, 2]}
  twins = TWO | {"responses": ["a", "a"], "ranks": [1, 1]}
  paired = {"prompt": "p", "responses": ["a", "b"], "pairs": [[1, 0]]}
  given = [TWO, tied, twins, paired]
  settings = hygiene.Settings(validation_fraction=0, test_fraction=0)
  cleaned = pipeline.clean({"rankings": given}, settings)
  assert cleaned.by_split["rankings"]["train"] == [TWO, paired]
  counts = cleaned.counts["rankings"]
  assert (counts["read"], counts["says_nothing"], counts["kept"]) == (4, 2, 2)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3164", "\xad", "\x7f"])
def test_blank(text):
  assert records.is_blank(text)
  assert not records.is_blank(f"{text}.{text}")


def rows(given, **changes):
  return data_toys.rows_of("rankings", given, **changes)


def test_pairs_that_are_the_same_tokens_say_nothing():
  cut = {"prompt": "a", "responses": ["same text 1", "same text 2", "x"]}
  some = rows([cut | {"ranks": [1, 2, 3]}])
  beats = some.take([0])["beats"][0]
  assert [list(pair) for pair in zip(*beats.nonzero())] == [[0, 2], [1, 2]]
  assert some.counts["pairs_alike"] == 1
  only = cut | {"pairs": [[0, 1]]}
  both = rows([only, TWO])
  assert both.index.tolist() == [1]
  assert both.counts["too_few_completions"] == 1
  assert both.counts["pairs_alike"] == 1


def test_a_tie_of_different_texts_stays_a_row():
  """As it was: what policies said, and a labeler found equally good."""
  assert len(rows([TWO | {"ranks": [1, 1]}])) == 1


def test_demonstrations_without_a_token_are_counted(monkeypatch):
  given = [{"prompt": "a", "response": r} for r in ("yes", "gone", "no")]
  encode = data_toys.BYTES.encode_batch
  monkeypatch.setattr(
    type(data_toys.BYTES),
    "encode_batch",
    lambda self, texts: encode([t.replace("gone", "") for t in texts]),
  )
  for packed in (False, True):
    changes = {"row_length": 20} if packed else {}
    some = data_toys.rows_of("demonstrations", given, packed=packed, **changes)
    assert some.counts["responses_empty"] == 1
    masks = "segments" if packed else "is_response"
    assert (some.take(slice(None))[masks] > 0).any()
    assert some.counts["documents" if packed else "rows"] == 2


def test_k_is_the_rankings():
  three = rows([TWO, RANKING], k_max=0)
  assert three.take([0])["response"].shape == (1, 3, 6)
  nine = rows([TWO, RANKING], k_max=9)
  for name, array in three.take(slice(None)).items():
    np.testing.assert_array_equal(array, nine.take(slice(None))[name])


def test_out_spares_what_is_read_and_what_others_wrote(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  rows_ = [TWO | {"prompt": f"prompt {n}"} for n in range(30)]
  write(tmp_path / "r.jsonl", rows_)

  def run(*arguments):
    command.main([*arguments, "--json"])
    return capsys.readouterr().out

  def refuses(message, *arguments):
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(errors.UserError) as error:
      command.main([*arguments])
    assert message in str(error.value)
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert before == after

  run("r.jsonl", "--out=out")
  run("r.jsonl", "--out=out")  # its own
  for name in ("out/rankings-train.jsonl", "./out/rankings-*.jsonl"):
    refuses("which is read", name, "--out=out")
    refuses("which is read", name, "--out=out", "--overwrite")
  (tmp_path / "link.jsonl").symlink_to("out/rankings-test.jsonl")
  refuses("which is read", "link.jsonl", "--out=out", "--overwrite")
  with (tmp_path / "out" / "rankings-test.jsonl").open("a") as file:
    file.write('{"prompt": "mine"}\n')
  refuses("replace it with --overwrite", "r.jsonl", "--out=out")
  run("r.jsonl", "--out=out", "--overwrite")
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "summary.json").write_text("{}")
  refuses("replace it with --overwrite", "r.jsonl", "--out=mine")


def test_nothing_half_written_stays(tmp_path):
  calls = []

  class Full(dict):
    def __or__(self, other):
      calls.append(1)
      if len(calls) == 20:
        raise OSError(28, "No space left on device")
      return dict(self) | other

  given = [Full(TWO | {"prompt": f"p{n}"}) for n in range(30)]
  with pytest.raises(errors.UserError, match="No space left"):
    written.write(given, "rankings", hygiene.Settings(), tmp_path / "out")
  names = [path.name for path in (tmp_path / "out").iterdir()]
  assert not [name for name in names if "rankings" in name or "json" in name]
