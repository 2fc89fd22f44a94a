"""Anybody's comparisons of two responses -> rankings, by the keys they name."""

import csv
import gzip
import io
import json
import pathlib

import pytest

from instruct_jax.base import errors
from instruct_jax.data.public import convert, fields, labels
from instruct_jax.data.read import sources, tables

PUBLIC = pathlib.Path(__file__).parents[2] / "shared" / "data"
KEYS = {"prompt": "q", "a": "x", "b": "y", "label": "won"}
DROPPED, MERGED = "dropped: ", "merged: the same two responses "


def row(q, x, y, won, **more):
  return {"q": q, "x": x, "y": y, "won": won, **more}


def write(path, rows):
  """Rows as JSON lines, an array, a document, CSV, TSV or Parquet."""
  ending = path.suffixes[0]
  if ending == ".parquet":
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet'")
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow.Table.from_pylist(rows), path)
    return path
  if ending in (".csv", ".tsv"):
    stream = io.StringIO(newline="")
    delimiter = tables.SEPARATORS[ending]
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    content = stream.getvalue()
  elif ending == ".jsonl":
    content = "".join(json.dumps(x) + "\n" for x in rows)
  else:
    content = json.dumps(rows if path.stem == "array" else {"data": rows})
  pack = gzip.compress if path.name.endswith(".gz") else bytes
  path.write_bytes(pack(content.encode()))
  return path


@pytest.fixture
def run(tmp_path):
  """Converts rows, or a file; what is read back of it, and the counts."""

  def converted(rows, name="a.jsonl", **options):
    path = rows
    if isinstance(rows, list):
      path = write(tmp_path / name, rows)
    out = tmp_path / "out.jsonl"
    counts = convert.convert("pairs", [path], out, overwrite=True, **options)
    found = sources.read(out, "rankings")
    assert counts["written"] == len(found)
    for record in found:
      assert record.pop("source") == "pairs"
    counts = {k: n for k, n in counts.items() if n}
    return found, counts

  return converted


def ranked(found):
  return [(r["prompt"], r["responses"], r["ranks"]) for r in found]


@pytest.mark.parametrize(
  "name",
  [
    "a.jsonl",
    "array.json",
    "a.json",
    "a.csv",
    "a.tsv",
    "a.parquet",
    "a.csv.gz",
  ],
)
def test_every_sort_of_file_gives_the_same(name, run):
  rows = [
    row('one, "1"\n2', " a\tb", "b ", "A", who="w"),
    row("two", "1", "[2]", "tie", who="w"),
    row("two", "3", "4", "model_b", who="é"),
  ]
  found, counts = run(rows, name, **KEYS, labeler="who")
  assert ranked(found) == [
    ('one, "1"\n2', ["a\tb", "b"], [1, 2]),
    ("two", ["1", "[2]"], [1, 1]),
    ("two", ["3", "4"], [2, 1]),
  ]
  assert [r["labeler"] for r in found] == ["w", "w", "é"]
  assert counts == {"read": 3, "written": 3, "of these, ties": 1}


def test_both_orders_become_one_ranking(run):
  rows = [
    row("q", "a", "b", "A", who=1),
    row("q", "b", "a", "B", who=1),  # the same said
    row("q", "a", "b", "a", who=1),
    row("q", "b", "a", "A", who=2),  # somebody else
    row("r", "a", "b", "A", who=1),
    row("r", "b", "a", "A", who=1),  # the contrary
    row("s", "a", "b", "tie", who=1),
    row("s", "b", "a", "tie", who=1),
    row("t", "a", "b", "A", who=1),
    row("t", "b", "a", "tie", who=1),
  ]
  found, counts = run(rows, **KEYS, labeler="who")
  assert [(*x, r["labeler"]) for x, r in zip(ranked(found), found)] == [
    ("q", ["a", "b"], [1, 2], "1"),
    ("q", ["b", "a"], [1, 2], "2"),
    ("s", ["a", "b"], [1, 1], "1"),
  ]
  assert counts == {
    "read": 10,
    "written": 3,
    "of these, ties": 1,
    MERGED + "in the other order": 2,
    MERGED + "again": 1,
    DROPPED + "one labeler said different things of the same two": 4,
  }
  found, counts = run(rows, **KEYS, separate=True)
  assert len(found) == 10
  assert ranked(found)[5] == ("r", ["b", "a"], [1, 2])


def test_several_files_are_merged_too(run, tmp_path):
  write(tmp_path / "1.jsonl", [row("q", "a", "b", "A")])
  write(tmp_path / "2.csv", [row("q", "b", "a", "B")])
  found, counts = run(f"{tmp_path}/1.jsonl,{tmp_path}/2.csv", **KEYS)
  assert ranked(found) == [("q", ["a", "b"], [1, 2])]
  assert counts["read"] == 2


def test_more_than_two_responses(run):
  def pairs(*judged):
    return [row("q", x, y, won) for x, y, won in judged]

  every = pairs(("a", "b", "A"), ("c", "b", "A"), ("a", "c", "tie"))
  found, counts = run(every, **KEYS)
  assert len(found) == 3
  assert counts["prompts of which one labeler compared several two (--join)"]
  found, counts = run(every, **KEYS, join=True)
  assert ranked(found) == [("q", ["a", "b", "c"], [1, 3, 1])]
  assert counts["joined: rankings of more than two responses"] == 1
  chain = pairs(("a", "b", "A"), ("b", "c", "A"))
  found, counts = run(chain, **KEYS, join=True)  # a over c: nobody said so
  assert [r["pairs"] for r in found] == [[[0, 1], [1, 2]]]
  circle = pairs(("a", "b", "A"), ("b", "c", "A"), ("a", "c", "B"))
  found, counts = run(circle, **KEYS, join=True)
  assert [r["pairs"] for r in found] == [[[0, 1], [1, 2], [2, 0]]]
  assert counts["kept as pairs: the verdicts are no weak order"] == 1
  ties = pairs(("a", "b", "tie"), ("b", "c", "tie"))
  found, _ = run(ties, **KEYS, join=True)
  assert [r["ranks"] for r in found] == [[1, 1], [1, 1]]
  mixed = pairs(("a", "b", "tie"), ("b", "c", "A"))
  found, _ = run(mixed, **KEYS, join=True)
  assert found[0]["pairs"] == [[1, 2]]
  twice = [*pairs(("a", "b", "A"), ("b", "a", "A"), ("a", "c", "A"))]
  found, _ = run(twice, **KEYS, join=True)
  assert ranked(found) == [("q", ["a", "c"], [1, 2])]
  two = [*chain, row("r", "a", "b", "B")]
  found, _ = run(two, **KEYS, join=True)
  assert [r["prompt"] for r in found] == ["q", "r"]


def test_several_labels_are_labelers(run):
  rows = [{"q": "p", "x": "a", "y": "b", "ann": 1, "bob": 2, "eve": None}]
  rows += [{"q": "", "x": "a", "y": "b", "ann": 1, "bob": 2, "eve": 1}]
  found, counts = run(
    rows, prompt="q", a="x", b="y", label=("ann", "bob", "eve")
  )
  assert [(r["labeler"], r["ranks"]) for r in found] == [
    ("ann", [1, 2]),
    ("bob", [2, 1]),
  ]
  assert counts[DROPPED + "no label"] == 1


USUAL = {
  labels.A: (
    *("A", "a", "model_a", "Model A", "response_a", "[[A]]", "first", "left"),
    *("Answer 1", "output_1", "A>B", "A>>B", "Assistant A", "the first one"),
    *("A is better", "response 1 wins"),
  ),
  labels.B: ("B", "model_b", "answer-b", "second", "right", "B>A", "output 2"),
  labels.TIE: ("tie", "Tie", "tie (bothbad)", "both good", "A=B", "equal"),
  None: ("C", "yes", "1", "0", "good", "chosen", "gpt-4", "true", "a lot", ""),
}


def test_usual_spellings():
  for verdict, names in USUAL.items():
    assert [labels.usual(name) for name in names] == [verdict] * len(names)


@pytest.mark.parametrize(
  ("seen", "said", "ranks"),
  [
    (["1", "2"], "", [[1, 2], [2, 1]]),
    ([2.0, 1.0], "", [[2, 1], [1, 2]]),
    ([1, 0], "1=a,0=b", [[1, 2], [2, 1]]),
    ([True, False], "true=b,false=a", [[2, 1], [1, 2]]),
    ([0, 1, 2], "0=a, 1=b, 2=tie", [[1, 2], [2, 1], [1, 1]]),
    ([0.7, 0.5, 0.2], "0.5=tie,0.5..=a,..0.5=b", [[1, 2], [1, 1], [2, 1]]),
    ([-3, 0.5, 0], "..-1=a,0=tie,0.1..=b", [[1, 2], [2, 1], [1, 1]]),
    (["x, y", "z=1", "w"], "x, y=a,z=1=b,*=tie", [[1, 2], [2, 1], [1, 1]]),
    (["x", "y"], '{"x": "A", "y": "B"}', [[1, 2], [2, 1]]),
    (["bad", "A"], "A=b,bad=drop", [[2, 1]]),
    (["a", "b"], "text", [[1, 2], [2, 1]]),
    (["b", "a"], "", [[2, 1], [1, 2]]),
  ],
)
def test_what_labels_mean(seen, said, ranks, run):
  rows = [row(f"{n}", "a", "b", label) for n, label in enumerate(seen)]
  found, counts = run(rows, **KEYS, labels=said)
  assert [r["ranks"] for r in found] == ranks
  dropped = len(seen) - len(ranks)
  assert counts.get(DROPPED + "by its label", 0) == dropped


def test_a_label_that_is_the_text_of_the_better_one(run):
  rows = [row("q", "no", "yes", "yes"), row("r", "no ", "yes", "no")]
  found, _ = run(rows, **KEYS)
  assert [r["ranks"] for r in found] == [[2, 1], [1, 2]]
  rows = [row("q", "B", "A", "A")]
  with pytest.raises(errors.UserError, match=r"usual name of the other.*=text"):
    run(rows, **KEYS)
  assert run(rows, **KEYS, labels="text")[0][0]["ranks"] == [2, 1]
  assert run(rows, **KEYS, labels="A=a")[0][0]["ranks"] == [1, 2]


@pytest.mark.parametrize(
  ("seen", "said", "message"),
  [
    ([0, 1], "", r":1: --label=won is .0.*several ways.*'1=a,0=b'"),
    ([2, 0, 1], "", r":1: .*0 \(1\).*'1=a,2=b,0=tie' or .*'0=a,1=b,2=tie'"),
    ([1, -1], "", r":1: .*'1=a,-1=b,0=tie'"),
    ([True, False], "", r":1: .*'true=a,false=b'"),
    ([3, 5], "", r":1: .*'4=tie,4..=a,..4=b' or .*'4=tie,4..=b,..4=a'"),
    ([-2, 1.5], "", r":1: .*'0=tie,0\.\.=a,\.\.0=b'"),
    ([0.5, 1, 0], "", r":1: .*'1=a,0=b,0\.5=tie'"),
    ([0.7, 0.123], "", r":1: .*'0\.5=tie,0\.5\.\.=a,\.\.0\.5=b'"),
    ([1, 1], "", r":1: .*'1=a,2=b', .*'1=a,0=b' or .*'0=a,1=b'"),
    (["2"], "", r":1: .*'1=a,2=b,0=tie' or .*'0=a,1=b,2=tie'"),
    (["tie", "1"], "", r":2: .*several ways"),
    ([1], "3..-3=a", r"3\.\.-3 is turned round; -3\.\.3 is right"),
    ([1], "-3..0=a,0..3=b", r"different things of 0;.*'0=tie' beside them"),
    ([1], "..2=a,1..3=b", "different things of 1 to 2;"),
    ([1], "..2=a,1..=b,1=tie", "different things of 1 to 2;"),
    (["A", "good"], "", r":2: --label=won is .good.*not known.*--labels='A=a"),
    (["A", "C"], "A=a", r":2: .*of which --labels says nothing; add 'C=a'"),
    (["A"], "A=left", "'A' is 'left'; a, b, tie or drop"),
    (["A"], "A", "LABEL=a, =b, =tie"),
    (["A"], "A=a,A=b", "'A' stands there twice"),
    (["A"], "{", "not JSON"),
    (["other"], "text", "the text of neither"),
    ([None], "", r"no 'won' \(--label\)"),
  ],
)
def test_labels_that_say_nothing(seen, said, message, run, tmp_path):
  rows = [row(f"{n}", "a", "b", label) for n, label in enumerate(seen)]
  with pytest.raises(errors.UserError, match=message):
    run(rows, **KEYS, labels=said)
  assert not (tmp_path / "out.jsonl").exists()


def test_scores_and_columns_that_always_win(run):
  rows = [
    {"q": "p", "x": "a", "y": "b", "s": {"a": one, "b": other}}
    for one, other in ((1, 0), (0.5, 2), (3, 3.0), (None, 1))
  ]
  keys = {"prompt": "q", "a": "x", "b": "y"}
  scores = {"score_a": "s.a", "score_b": "s.b"}
  found, counts = run(rows, **keys, **scores, separate=True)
  assert [r["ranks"] for r in found] == [[1, 2], [2, 1], [1, 1]]
  assert counts[DROPPED + "no label"] == 1
  flat = [{"q": "p", "x": "a", "y": "b", "s.a": "True", "s.b": "False"}]
  assert run(flat, "a.csv", **keys, **scores)[0][0]["ranks"] == [1, 2]
  found, _ = run(rows[:1], **keys, better="b")
  assert found[0]["ranks"] == [2, 1]
  flat[0]["s.a"] = "high"
  with pytest.raises(errors.UserError, match=r':2: "s.a" should be a number'):
    run(flat, "a.csv", **keys, **scores)


def test_a_label_that_is_the_name_of_one(run):
  rows = [
    {"q": f"{n}", "x": "a", "y": "b", "m": one, "n": other, "won": won}
    for n, (one, other, won) in enumerate(
      [("gpt", "opt", "gpt"), ("gpt", "opt", "opt"), ("opt", "gpt", "tie")]
    )
  ]
  names = {"name_a": "m", "name_b": "n"}
  found, _ = run(rows, **KEYS, **names)
  assert [r["ranks"] for r in found] == [[1, 2], [2, 1], [1, 1]]
  assert [r["models"] for r in found] == [
    ["gpt", "opt"],
    ["gpt", "opt"],
    ["opt", "gpt"],
  ]
  with pytest.raises(errors.UserError, match=r":4: --label=won is .z.*known"):
    run([*rows, {**rows[0], "m": "z", "n": "z", "won": "z"}], **(KEYS | names))
  found, _ = run([row("q", "a", "b", "y")], **KEYS)  # the key itself
  assert found[0]["ranks"] == [2, 1]


def test_models_come_along(run):
  """As of Chatbot Arena; where rankings are joined, too."""
  rows = [
    {"q": "q", "x": "a", "y": "b", "m": "gpt", "n": "opt", "won": "model_a"},
    {"q": "q", "x": "c", "y": "a", "m": "t5", "n": "gpt", "won": "model_b"},
    {"q": "q", "x": "c", "y": "b", "m": "t5", "n": "opt", "won": "tie"},
  ]
  keys = KEYS | {"name_a": "m", "name_b": "n"}
  labels = "model_a=a,model_b=b,tie=tie"
  found, _ = run(rows, **keys, labels=labels)
  assert [(r["responses"], r["models"]) for r in found] == [
    (["a", "b"], ["gpt", "opt"]),
    (["c", "a"], ["t5", "gpt"]),
    (["c", "b"], ["t5", "opt"]),
  ]
  (joined,), _ = run(rows, **keys, labels=labels, join=True)
  assert joined["responses"] == ["a", "b", "c"]
  assert joined["ranks"] == [1, 2, 2]
  assert joined["models"] == ["gpt", "opt", "t5"]
  del rows[0]["m"]
  found, _ = run(rows, **keys, labels=labels)
  assert ["models" in r for r in found] == [False, True, True]


def test_keys_that_are_called_the_other_way_round(run):
  rows = [{"q": "q", "out_1": "a", "output_2": "b", "won": 1}]
  keys = {"prompt": "q", "a": "output_2", "b": "out_1", "label": "won"}
  with pytest.raises(errors.UserError, match="as its name does"):
    run(rows, **keys)
  found, _ = run(rows, **keys, labels="1=b,2=a")
  assert ranked(found) == [("q", ["b", "a"], [2, 1])]


def messages(*texts, names=("role", "content"), roles=("user", "assistant")):
  return [
    dict(zip(names, (roles[n % 2], text))) for n, text in enumerate(texts)
  ]


def test_conversations_bring_their_prompt(run):
  keys = {"a": "x", "b": "y", "label": "won"}
  ours, theirs = messages("p", "a"), messages("p", "b")
  long = [messages("p", "c", "and?", end) for end in ("a", "b")]
  forms = {"names": ("from", "value"), "roles": ("human", "gpt")}
  rows = [
    {"x": ours, "y": theirs, "won": "model_a"},
    {"x": long[0], "y": long[1], "won": "model_b"},
    {"x": messages("p", "c", **forms), "y": theirs, "won": "tie"},
    {"x": messages("p", "a", "r", "a"), "y": theirs, "won": "model_a"},
  ]
  found, counts = run(rows, **keys)
  assert ranked(found) == [
    ("p", ["a", "b"], [1, 2]),
    ("p\n\nAssistant: c\n\nHuman: and?", ["a", "b"], [2, 1]),
    ("p", ["c", "b"], [1, 1]),
  ]
  assert counts[DROPPED + "the two dialogues differ before the last turn"] == 1
  # A message alone, beside its prompt: a text, or messages.
  rows = [
    {"p": "p", "x": messages("a", roles=["assistant"]), "y": {"text": "b"}},
    {"p": messages("p", "c", "and?"), "x": "a", "y": "b"},
  ]
  for one, prompt in zip(rows, ("p", "p\n\nAssistant: c\n\nHuman: and?")):
    found, _ = run([one], prompt="p", a="x", b="y", better="a")
    assert ranked(found) == [(prompt, ["a", "b"], [1, 2])]


def test_turns_as_lists(run):
  rows = [
    {"p": ["p"], "x": ["a"], "y": ["b"]},
    {"p": ["p", "and?"], "x": ["c", "a"], "y": ["c", "b"]},
    {"p": ["p", "and?"], "x": ["a", "a"], "y": ["c", "b"]},
    {"p": ["p"], "x": ["a", "b"], "y": ["b", "c"]},
  ]
  keys = {"prompt": "p", "a": "x", "b": "y", "better": "a"}
  wanted = [
    ("p", ["a", "b"], [1, 2]),
    ("p\n\nAssistant: c\n\nHuman: and?", ["a", "b"], [1, 2]),
  ]
  found, counts = run(rows, **keys)
  assert ranked(found) == wanted
  assert counts[DROPPED + "a response that is no text"] == 1
  cells = [{name: json.dumps(x) for name, x in row.items()} for row in rows]
  assert ranked(run(cells, "a.csv", **keys, turns=True)[0]) == wanted
  assert ranked(run(cells, "a.csv", **keys)[0])[0][1] == ['["a"]', '["b"]']


def test_keys_that_go_deep(run):
  inner = {"answers": [{"text": "a"}, {"text": "b"}], "x.y": "p"}
  rows = [{"in": inner, "meta": {"who": 7}, "v.w": "B"}]
  keys = {
    "prompt": 'in["x.y"]',
    "a": "in.answers[0].text",
    "b": "in.answers[-1].text",
    "label": "v.w",
    "labeler": "meta.who",
  }
  found, _ = run(rows, **keys)
  assert ranked(found) == [("p", ["a", "b"], [2, 1])]
  assert found[0]["labeler"] == "7"
  cells = [{name: json.dumps(x) for name, x in rows[0].items()}]
  cells[0]["v.w"] = "B"
  assert run(cells, "a.csv", **keys)[0] == found
  for key in ("a[", "a]", ".a", "a[x]", "[]"):
    with pytest.raises(errors.UserError, match="no key; name"):
      fields.steps(key)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"a": "z"}, r"a\.csv:2: no 'z' \(--a\) .*the rows have q, x, y, won"),
    ({"label": "wonn"}, r"did you mean --label=won\?"),
    ({"prompt": "quest"}, r"\(--prompt\)"),
    ({"a": "q"}, "--a and --prompt name the same key, q"),
    ({"b": "x"}, "--a and --b name the same key, x"),
    ({"prompt": ("q", "q")}, "--prompt name the same key, q"),
    ({"label": "", "score_a": "x", "score_b": "x"}, "two keys are right"),
    ({"b": ""}, "--a=KEY and --b=KEY"),
    ({"label": ""}, "who won should be said in one way"),
    ({"better": "a"}, "who won should be said in one way"),
    ({"score_a": "x"}, "--score_a and --score_b go together"),
    ({"label": "", "better": "c"}, "--better=c: a or b"),
    ({"join": True, "separate": True}, "--join merges"),
    ({"label": ("won", "x"), "labeler": "y"}, "leave --labeler out"),
    ({"lang": "en"}, "--lang: not an option of 'pairs'"),
    ({"response": "x"}, "--response: not an option of 'pairs'"),
  ],
)
def test_wrong_keys(change, message, run, tmp_path):
  rows = [row("q", "a", "b", "A"), row("r", "a", "b", "A")]
  with pytest.raises(errors.UserError, match=message):
    run(rows, "a.csv", **(KEYS | change))
  assert not (tmp_path / "out.jsonl").exists()


def test_scores_between_quotes_are_scores(run):
  rows = [
    row("q", "a", "b", "", s="1.5", t=1),
    row("r", "a", "b", "", s="", t=1),
  ]
  keys = {**KEYS, "label": "", "score_a": "s", "score_b": "t"}
  found, counts = run(rows, **keys)
  assert [r["ranks"] for r in found] == [[1, 2]]
  assert counts[DROPPED + "no label"] == 1
  for score in ("good", "NaN", "1e999"):
    with pytest.raises(errors.UserError, match='"s" should be a number'):
      run([row("q", "a", "b", "", s=score, t=1)], **keys)


@pytest.mark.parametrize(
  ("rows", "key", "message"),
  [
    ([{"m": {"q.q": "x"}}] * 3, "m.q.q", r""":1: no 'm.q.q'.*=m\["q.q"\]"""),
    ([{"m": {"q": None}}] * 3, "m.q", r":1: no 'm\.q' [^?]*$"),
    ([{"q": "x"}] * 3, "p", r":1: no 'p' "),
  ],
)
def test_a_key_that_is_lacking(rows, key, message, tmp_path):
  path, out = write(tmp_path / "a.jsonl", rows), tmp_path / "out.jsonl"
  with pytest.raises(errors.UserError, match=message):
    convert.convert("columns", [path], out, kind="prompts", prompt=key)
  with pytest.raises(errors.UserError, match="--response and --prompt name"):
    convert.convert("columns", [path], out, prompt=key, response=key)


def test_people_without_a_name_are_not_one_who_contradicts_herself(run):
  rows = [row("q", "a", "b", "A", who="v"), row("q", "a", "b", "B", who="w")]
  rows.append(row("r", "a", "b", "A", who="v"))
  found, counts = run(rows, **KEYS)
  assert len(found) == 1
  (reason,) = (x for x in counts if x.startswith(DROPPED))
  assert "--labeler=KEY" in reason
  assert "--separate" in reason
  with pytest.raises(errors.UserError, match=r"nothing.*--labeler.*--separate"):
    run(rows[:2], **KEYS)
  assert len(run(rows, **KEYS, labeler="who")[0]) == 3
  assert len(run(rows, **KEYS, separate=True)[0]) == 3


def test_what_is_dropped_is_counted(run):
  rows = [
    row("q", "a", "b", "A"),
    row("", "a", "b", "A"),
    row("q", " a", "a ", "A"),
    row("q", True, "b", "A"),
    row("q", None, "b", "A"),
    row("q", "a", "b", ""),
  ]
  _, counts = run(rows, **KEYS)
  assert counts == {
    "read": 6,
    "written": 1,
    DROPPED + "no prompt": 1,
    DROPPED + "the same response twice": 1,
    DROPPED + "a response that is no text": 2,
    DROPPED + "no label": 1,
  }


def test_any_answers_prompts_and_documents(tmp_path):
  rows = [
    {"q": " p ", "c": "ctx", "a": {"text": "r"}, "body": "long\n\ntext"},
    {"q": "", "c": "", "a": {"text": "r"}, "body": " "},
  ]
  path, out = write(tmp_path / "a.jsonl", rows), tmp_path / "out.jsonl"
  keys = {"prompt": ("q", "c"), "response": "a.text"}
  counts = convert.convert("columns", [path], out, **keys)
  assert counts[DROPPED + "no prompt"] == 1
  record = {"prompt": "p\n\nctx", "response": "r", "source": "columns"}
  assert sources.read(out, "demonstrations") == [record]
  for kind, keys, wanted in (
    ("prompts", {"prompt": "q"}, {"prompt": "p", "source": "columns"}),
    ("pretraining", {"text": "body"}, {"text": "long\n\ntext"}),
  ):
    convert.convert("columns", [path], out, kind=kind, **keys)
    assert sources.read(out, kind) == [wanted]
  for keys, message in (
    ({"prompt": "q"}, "--prompt=KEY and --response=KEY and no other"),
    ({"prompt": "q", "response": "b"}, r"no 'b' \(--response\).*a\.text"),
  ):
    with pytest.raises(errors.UserError, match=message):
      convert.convert("columns", [path], tmp_path / "no.jsonl", **keys)


def public(name):
  path = PUBLIC / name
  if not path.exists():
    pytest.skip(f"the public data set is not here: {path}")
  return path


def test_pandalm_as_a_table_gives_what_its_own_format_gives(run, tmp_path):
  rows = json.loads(public("pandalm/testset-v1.json").read_text())
  names = ("response1", "response2")
  rows = [x for x in rows if all(isinstance(x[n], str) for n in names)]
  out = tmp_path / "pandalm.jsonl"
  convert.convert("pandalm", [write(tmp_path / "array.json", rows)], out)
  wanted = sources.read(out, "rankings")
  for record in wanted:
    del record["source"], record["models"]
  keys = {
    "prompt": ("instruction", "input"),
    "a": "response1",
    "b": "response2",
    "label": ("annotator1", "annotator2", "annotator3"),
    "labels": "1=a,2=b,0=tie",
  }
  for name in ("a.csv", "a.tsv", "a.parquet"):
    found, _ = run(rows, name, **keys, separate=True)
    assert found == wanted
  merged, counts = run(rows, "a.csv", **keys)
  assert len(merged) == 2581
  gone = [n for x, n in counts.items() if x.startswith(("merged", "dropped"))]
  assert counts["written"] + sum(gone) == len(wanted)


def test_hh_as_dialogues_gives_what_its_own_format_gives(run, tmp_path):
  path = public("hh_rlhf/harmless-base_test.jsonl.gz")
  out = tmp_path / "hh.jsonl"
  convert.convert("hh", [path], out)
  wanted = sources.read(out, "rankings")
  for record in wanted:
    del record["source"]
  keys = {"a": "chosen", "b": "rejected", "better": "a", "separate": True}
  assert run(path, **keys)[0] == wanted
