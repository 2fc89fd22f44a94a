"""Files become tasks: once, checked, each with what its line had."""

import json

import pytest
import sqlalchemy

from instruct_jax.base import errors
from instruct_jax.collecting import filling, kinds, store, tables


@pytest.fixture
def project(tmp_path):
  opened = store.open_store(tmp_path / "labels")
  yield opened
  opened.shut()


def _tasks(project, *columns):
  with project.reading() as connection:
    chosen = [tables.TASKS.c[name] for name in columns]
    rows = connection.execute(sqlalchemy.select(*chosen).order_by("id"))
    return [tuple(row) for row in rows]


def _contents(project):
  return [json.loads(text) for (text,) in _tasks(project, "content")]


def _file(tmp_path, *lines, name="given.jsonl"):
  path = tmp_path / name
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return str(path)


def test_lists_become_rankings_and_pairs_comparisons(project, tmp_path):
  spec = _file(
    tmp_path,
    {
      "prompt": "p",
      "responses": ["a", "b", "c"],
      "models": ["x", "y", "x"],
      "use_case": "chat",
      "mine": {"id": 7},
    },
    {"prompt": "p", "responses": ["a", "b"]},
  )
  found = filling.from_samples(project, spec)
  assert found.added == {"ranking": 1, "comparison": 1}
  assert _contents(project) == [
    {
      "prompt": "p",
      "responses": ["a", "b", "c"],
      "models": ["x", "y", "x"],
      "record": {"use_case": "chat", "mine": {"id": 7}},
    },
    {"prompt": "p", "responses": ["a", "b"]},
  ]
  assert _tasks(project, "kind") == [("ranking",), ("comparison",)]


def test_same_file_twice_adds_nothing_and_says_so(project, tmp_path):
  spec = _file(tmp_path, {"prompt": "p", "responses": ["a", "b", "c"]})
  assert filling.from_samples(project, spec).lines() == [
    f"{spec}: 1 ranking task added"
  ]
  assert filling.from_samples(project, spec).lines() == [
    f"{spec}: no task added",
    f"{spec}: 1 already tasks before",
  ]


def test_twins_count_once_and_one_text_orders_nothing(project, tmp_path):
  spec = _file(
    tmp_path,
    {
      "prompt": "p",
      "responses": ["a", "b", "a", "c"],
      "models": ["1", "2", "3", "4"],
      "ended": [True, False, True, True],
    },
    {"prompt": "q", "responses": ["a", "a"]},
  )
  found = filling.from_samples(project, spec)
  assert (found.twins, found.left_out) == (2, 1)
  assert _contents(project) == [
    {
      "prompt": "p",
      "responses": ["a", "b", "c"],
      "models": ["1", "2", "4"],
      "ended": [True, False, True],
    }
  ]


def test_more_lists_than_are_added_at_once(project, tmp_path):
  lines = [{"prompt": f"p{i}", "responses": ["a", "b"]} for i in range(2345)]
  found = filling.from_samples(project, _file(tmp_path, *lines))
  assert found.added["comparison"] == 2345
  assert len(_tasks(project, "id")) == 2345


def test_messages_and_tables_are_read_as_everywhere(project, tmp_path):
  messages = [{"role": "user", "content": "hello"}]
  spec = _file(tmp_path, {"messages": messages, "responses": ["a", "b"]})
  filling.from_samples(project, spec)
  (content,) = _contents(project)
  assert "hello" in content["prompt"]
  assert content["record"] == {"messages": messages}
  table = tmp_path / "given.csv"
  table.write_text('prompt,responses\nq,"[""a"", ""b""]"\n')
  filling.from_samples(project, str(table))
  assert _contents(project)[1] == {"prompt": "q", "responses": ["a", "b"]}


def test_a_model_that_says_nothing_is_ranked(project, tmp_path):
  line = {"prompt": "p", "responses": ["", "b"], "ended": [True, True]}
  filling.from_samples(project, _file(tmp_path, line))
  assert _contents(project)[0]["responses"] == ["", "b"]


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ({"responses": ["a", "b"]}, 'no "prompt"'),
    ({"prompt": "p"}, '"responses" must be a list of texts; .* --prompts'),
    ({"prompt": "p", "responses": "a"}, "must be a list of texts"),
    ({"prompt": "p", "responses": ["a", 3]}, r"responses\[1\]: must be text"),
    ({"prompt": "p", "responses": ["a", ""]}, r"responses\[1\]: must be text"),
    ({"prompt": "p", "responses": ["a", "\u200b"]}, r"responses\[1\]"),
    ({"prompt": "p", "responses": list("abcdefghij")}, "10 of them.*2 to 9"),
    (
      {"prompt": "p", "responses": ["a", "b"], "models": ["x"]},
      "models: must be a list of 2, a name",
    ),
    (
      {"prompt": "p", "responses": ["a", "b"], "ended": [1, 0]},
      "ended: must be a list of 2, true or false",
    ),
    ({"prompt": " ", "responses": ["a", "b"]}, '"prompt" is empty'),
  ],
)
def test_wrong_line_is_named_and_nothing_added(project, tmp_path, line, said):
  good = {"prompt": "p", "responses": ["x", "y"]}
  spec = _file(tmp_path, good, line)
  with pytest.raises(errors.UserError, match=said) as caught:
    filling.from_samples(project, spec)
  assert str(caught.value).startswith(f"{spec}:2")
  assert _tasks(project, "id") == []


def test_empty_and_missing_files_are_sentences(project, tmp_path):
  for name, said in (("none.jsonl", "no such file"), ("empty.jsonl", "empty")):
    path = tmp_path / name
    if "empty" in name:
      path.write_text("")
    for read in (filling.from_samples, filling.from_prompts):
      with pytest.raises(errors.UserError, match=said):
        read(project, str(path))


def test_prompts_become_demonstrations_once(project, tmp_path):
  spec = _file(
    tmp_path,
    {"prompt": "p", "user": "u1"},
    {"prompt": "q"},
    {"prompt": "p", "user": "u2"},
  )
  found = filling.from_prompts(project, spec)
  assert found.added == {"demonstration": 2}
  assert _contents(project) == [
    {"prompt": "p", "record": {"user": "u1"}},
    {"prompt": "q"},
  ]
  assert filling.from_prompts(project, spec).repeated == 2


def test_start_copies_the_screening_and_asks_for_prompts(tmp_path):
  (tmp_path / "settings.toml").write_text(
    "[writing]\nplain = 2\nfew_shot = 1\nuser_based = 12\n"
  )
  project = store.open_store(tmp_path)
  filling.begin(project)
  filling.begin(project)  # the next start adds nothing
  rows = _tasks(project, "kind", "is_screening")
  written = [json.loads(x) for k, x in _tasks(project, "kind", "content")
             if k == "writing"]  # fmt: skip
  project.shut()
  assert rows.count(("writing", 0)) == 15
  assert [x["form"] for x in written] == (
    ["plain"] * 2 + ["few_shot"] + ["user_based"] * 12
  )
  hints = [x["hint"] for x in written[3:]]
  assert hints[:2] == ["generation", "open qa"]
  assert hints[10:] == hints[:2]  # table 1 has ten
  assert (tmp_path / "screening.jsonl").exists()
  assert {kind for kind, of in rows if of} == {
    *("ranking", "comparison", "demonstration")
  }


def test_gold_of_the_default_screening_passes_it(project):
  """Who answers as gold does, and gets a 7, has full marks."""
  filling.begin(project)
  golds = {
    task: json.loads(gold)
    for task, gold in _tasks(project, "id", "gold")
    if gold
  }
  labeler = project.labeler_of(project.invite("ann")).id
  demonstrations = []
  while (given := project.next_assignment(labeler)) is not None:
    gold = golds[given.task_id]
    if given.kind == "ranking":
      flags = [{"violent": x} for x in gold["sensitive"]]
      answer = {"ranks": gold["ranks"], "metadata": flags}
      answer["ratings"] = [4] * len(flags)
    else:
      answer = gold
    if given.kind == "demonstration":
      demonstrations.append(given.id)
    kinds.check(given.kind, given.content, answer)
    project.save(labeler, given.id, f"answer-{given.id}", answer, 1.0)
  marks = project.marks(labeler)
  assert (marks.agreement, marks.sensitive, marks.ungraded) == (1, 1, 1)
  project.grade(demonstrations[0], 7)
  assert project.progress(labeler).screening == "passed"


def test_edited_screening_adds_closes_and_opens(project):
  filling.begin(project)
  path = project.folder / "screening.jsonl"
  every = path.read_text().splitlines(keepends=True)
  path.write_text(every[0])
  filling.begin(project)
  closed = _tasks(project, "closed")
  assert closed == [(0,)] + [(1,)] * (len(every) - 1)
  path.write_text("".join(every))
  filling.begin(project)
  assert set(_tasks(project, "closed")) == {(0,)}
  path.write_text("")
  filling.begin(project)
  assert set(_tasks(project, "closed")) == {(1,)}
  labeler = project.labeler_of(project.invite("ann")).id
  assert project.progress(labeler).screening == "none"


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ({"kind": "rankin"}, "Did you mean 'ranking'"),
    ({"kind": "writing", "form": "plain"}, "cannot have a gold answer"),
    ({"kind": "demonstration", "prompt": "p"}, "gold: must be an object"),
    (
      {"kind": "comparison", "prompt": "p", "responses": ["a", "b"],
       "gold": {"ranks": [1]}},
      "gold.ranks: must be 2 ranks",
    ),
    ({"kind": "ranking", "prompt": "p", "respones": []}, "'responses'"),
  ],
)  # fmt: skip
def test_wrong_screening_is_named(project, line, said):
  filling.begin(project)
  path = project.folder / "screening.jsonl"
  before = _tasks(project, "digest", "closed")
  path.write_text(path.read_text().splitlines()[0] + "\n" + json.dumps(line))
  with pytest.raises(errors.UserError, match=said) as caught:
    filling.begin(project)
  assert str(caught.value).startswith(f"{path}:2")
  assert _tasks(project, "digest", "closed") == before
