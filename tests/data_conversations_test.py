"""Records whose prompt is a conversation: read, checked, cleaned, written."""

import copy
import json
import pickle

import pytest

from instruct_jax.base import errors
from instruct_jax.data import inspect, prepare, written
from instruct_jax.data.clean import hygiene, pipeline
from instruct_jax.data.read import kinds, sources
from instruct_jax.tokenizers import messages as messages_lib
from tests import data_toys

SYSTEM = {"role": "system", "content": "Be brief."}


def turns(*texts, first="user"):
  """Messages of users and assistants in turns."""
  roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
  return [
    {"role": roles[n % 2], "content": text} for n, text in enumerate(texts)
  ]


def write(path, *records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(path)


def test_a_dialogue_is_a_string_that_knows_its_messages():
  given = [("system", "S"), ("user", "q"), ("assistant", " a\n"), ("user", "r")]
  dialogue = messages_lib.Dialogue(given)
  assert dialogue == "S\n\nq\n\nAssistant: a\n\nHuman: r"
  assert dialogue.messages == messages_lib.of(dialogue) == tuple(given)
  for twin in (pickle.loads(pickle.dumps(dialogue)), copy.deepcopy(dialogue)):
    assert type(twin) is messages_lib.Dialogue
    assert (twin, twin.messages) == (dialogue, dialogue.messages)


@pytest.mark.parametrize("text", ["q", "q\n\nwith more", " q ", ""])
def test_turns_are_read_from_the_string_as_they_were(text):
  given = (("user", text), ("assistant", "a\n\nb"), ("user", f"r{text}"))
  for end in (1, 3):
    string = str(messages_lib.Dialogue(given[:end]))
    assert messages_lib.of(string) == given[:end]


def test_a_message_that_spells_a_mark_stays_one_turn():
  given = (
    ("user", "q\n\nAssistant: of course"),
    ("assistant", "a\n\nHuman: and?"),
    ("user", "r"),
  )
  read = messages_lib.of(str(messages_lib.Dialogue(given)))
  assert [role for role, _ in read] == ["user", "assistant", "user"]
  assert messages_lib.of(messages_lib.Dialogue(given)) == given


def test_records_have_the_keys_that_their_messages_give(tmp_path):
  parts = [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}]
  records = [
    {"prompt": "p", "response": "x"},
    {"messages": [SYSTEM, *turns("q", "a", "r", "b")], "user": "ann"},
    {"messages": turns(parts, "a")},
  ]
  path = write(tmp_path / "a.jsonl", *records)
  plain, long, joined = sources.read(path, "demonstrations")
  assert plain == records[0]
  assert long == records[1] | {
    "prompt": "Be brief.\n\nq\n\nAssistant: a\n\nHuman: r",
    "response": "b",
  }
  assert (joined["prompt"], joined["response"]) == ("q!", "a")
  assert joined["messages"][0]["content"] == "q!"
  assert kinds.written(long, "demonstrations") == records[1]
  assert kinds.written(plain, "demonstrations") == records[0]
  asked = {"messages": [SYSTEM, *turns("q", "a", "r")]}
  path = write(tmp_path / "p.jsonl", asked)
  (prompt,) = sources.read(path, "prompts")
  assert prompt == asked | {"prompt": long["prompt"]}
  ranked = asked | {"responses": ["b", "c"], "ranks": [1, 2]}
  path = write(tmp_path / "r.jsonl", ranked)
  (ranking,) = sources.read(path, "rankings")
  assert ranking == ranked | {"prompt": long["prompt"]}
  assert kinds.written(ranking, "rankings") == ranked


def test_tables_have_messages_as_json(tmp_path):
  path = tmp_path / "a.csv"
  cell = json.dumps(turns("q", "a")).replace('"', '""')
  path.write_text(f'messages,source\n"{cell}",me\n')
  (record,) = sources.read(path, "demonstrations")
  assert (record["prompt"], record["response"]) == ("q", "a")


Q = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
  ("kind", "record", "message"),
  [
    ("demonstrations", [], '"messages" is empty'),
    ("demonstrations", "q", '"messages" should be a list of {"role": "user"'),
    ("demonstrations", ["q", "a"], '"messages"[0] should be {"role": "user"'),
    ("demonstrations", [Q], "no message of the assistant"),
    ("demonstrations", [SYSTEM], "no message of a user"),
    ("demonstrations", [Q, A, Q], "ends with what the user asks"),
    ("demonstrations", [A], '"messages"[0]["role"] is "assistant"; a user'),
    ("demonstrations", [SYSTEM, A], '[1]["role"] is "assistant"; a user'),
    ("demonstrations", [Q, Q, A], '"messages"[1]["role"] is "user" again'),
    ("demonstrations", [Q, A, A], '"messages"[2]["role"] is "assistant" again'),
    (
      "demonstrations",
      [Q, SYSTEM, A],
      '"messages"[1]["role"] is "system"; one',
    ),
    (
      "demonstrations",
      [Q, {"role": "tool", "content": "3"}, A],
      '"messages"[1]["role"] should be one of system, user, assistant, but is'
      ' "tool" (what tools say',
    ),
    ("demonstrations", [Q, {"role": "function", "content": "3"}], '"function"'),
    (
      "demonstrations",
      [{"role": "developer", "content": "x"}, Q, A],
      'call it "system"',
    ),
    ("demonstrations", [Q, {"role": "bot", "content": "x"}], 'but is "bot"'),
    ("demonstrations", [Q, {"content": "x"}], "but is missing"),
    ("demonstrations", [{"role": ["user"], "content": "x"}], 'is ["user"]'),
    (
      "demonstrations",
      [{"from": "human", "value": "x"}],
      "instruct_jax.data convert chat",
    ),
    ("demonstrations", [Q, A | {"tool_calls": [{}]}], '[1] has "tool_calls"'),
    ("demonstrations", [Q, A | {"content": None}], "a string, but is null"),
    ("demonstrations", [Q, {"role": "assistant"}], "a string, but is missing"),
    ("demonstrations", [Q, A | {"content": 7}], "a string, but is 7"),
    ("demonstrations", [Q, A | {"content": " \n"}], "empty; leave the message"),
    ("demonstrations", [Q | {"content": []}, A], "empty; leave the message"),
    (
      "demonstrations",
      [Q | {"content": [{"type": "image_url", "image_url": "x"}]}, A],
      '"messages"[0]["content"][0] is "image_url", and only text is read',
    ),
    (
      "demonstrations",
      [Q | {"content": [{"type": "text"}]}, A],
      '[0]["content',
    ),
    ("demonstrations", [Q, A | {"weight": 2}], "should be 1, or 0 for no loss"),
    ("demonstrations", [Q, A | {"weight": 0}], "every answer has the weight 0"),
    ("prompts", [Q, A], "ends with what the assistant says"),
    ("rankings", [Q, A], "ends with what the assistant says"),
  ],
)
def test_conversations_that_are_wrong(kind, record, message, tmp_path):
  good = {"demonstrations": [Q, A]}.get(kind, [Q])
  more = (
    {"responses": ["x", "y"], "ranks": [1, 2]} if kind == "rankings" else {}
  )
  rows = ({"messages": given} | more for given in (good, record))
  path = write(tmp_path / "a.jsonl", *rows)
  with pytest.raises(errors.UserError) as caught:
    sources.read(path, kind)
  assert f"{path}:2: " in str(caught.value)
  assert message in str(caught.value)


def test_messages_and_a_prompt_must_agree(tmp_path):
  record = {"messages": [Q, A], "prompt": "q", "response": "a"}
  path = write(tmp_path / "a.jsonl", record)
  assert sources.read(path, "demonstrations") == [record]
  for change in ({"prompt": "other"}, {"response": "other"}, {"prompt": 3}):
    path = write(tmp_path / "a.jsonl", record | change)
    with pytest.raises(errors.UserError, match=r':1: has "messages" and "'):
      sources.read(path, "demonstrations")


def test_what_opens_alike_is_on_one_side():
  fractions = {"validation_fraction": 0.4, "test_fraction": 0.3}
  for n in range(50):
    asked = [SYSTEM, *turns(f"question {n}")]
    known = {
      kinds.split_of(record, kind, **fractions)
      for kind, record in (
        ("prompts", {"messages": asked}),
        ("prompts", {"prompt": f"Be brief.\n\nquestion {n}"}),
        ("demonstrations", {"messages": [*asked, *turns("a", first="x")]}),
        (
          "demonstrations",
          {"messages": [*asked, *turns("b", "c", "d", first="x")]},
        ),
        ("rankings", {"messages": [*asked, *turns("b", "c", first="x")]}),
      )
    }
    assert len(known) == 1


def test_personal_data_goes_from_every_message():
  said = [
    SYSTEM,
    *turns("mail ann@example.com", "to bob@example.org?", "y", "z"),
  ]
  records = {
    kind: [kinds.with_prompt(record, kind)]
    for kind, record in (
      ("demonstrations", {"messages": said}),
      ("prompts", {"messages": said[:4]}),
      (
        "rankings",
        {
          "messages": said[:4],
          "responses": ["eve@example.com", "b"],
          "ranks": [1, 2],
        },
      ),
    )
  }
  settings = hygiene.Settings(
    validation_fraction=0, test_fraction=0, every_kind=True
  )
  cleaned = pipeline.clean(records, settings)
  for kind, mails in (("demonstrations", 2), ("prompts", 2), ("rankings", 3)):
    assert cleaned.counts[kind]["pii_email"] == mails
    (record,) = cleaned.by_split[kind]["train"]
    assert "example." not in json.dumps(record)
    assert record == kinds.with_prompt(kinds.written(record, kind), kind)
    assert record["prompt"].messages[0] == ("system", "Be brief.")


def test_data_sets_and_clean_files_hold_the_messages(tmp_path):
  records = [
    {"messages": [SYSTEM, *turns(f"question {n}", "a", "r", f"b{n}")]}
    for n in range(8)
  ]
  data = data_toys.section(
    demonstrations=write(
      tmp_path / "d.jsonl", *records, {"prompt": "p", "response": "x"}
    ),
    pretraining=write(tmp_path / "t.jsonl", {"text": "some words " * 9}),
    tokenizer="byte",
    vocab_size=300,
    template="human_assistant",
    prompt_length=200,
    response_length=100,
  )
  prepare.build(data_toys.config(data), tmp_path / "out")
  lines = (tmp_path / "out" / "demonstrations-train.jsonl").read_text()
  rows = [json.loads(line) for line in lines.splitlines()]
  assert rows == [*records, {"prompt": "p", "response": "x"}]
  again = sources.open_source(
    data, "demonstrations", "train", {"data": tmp_path / "out"}
  )
  assert again == sources.read(data.demonstrations, "demonstrations")
  read = sources.read(data.demonstrations, "demonstrations")
  written.write(read, "demonstrations", hygiene.Settings(), tmp_path / "clean")
  clean = sources.read(f"{tmp_path}/clean/*.jsonl", "demonstrations")
  sides = [record.pop("split") for record in clean]
  assert len(sides) == len(read) == 9
  key = lambda record: record["prompt"]  # noqa: E731
  assert sorted(clean, key=key) == sorted(read, key=key)


@pytest.mark.parametrize(
  ("record", "kind"),
  [
    ({"messages": [Q, A]}, "demonstrations"),
    ({"messages": [SYSTEM, Q]}, "prompts"),
    ({"messages": [Q], "responses": ["a", "b"], "ranks": [1, 2]}, "rankings"),
    ({"messages": "nonsense"}, "demonstrations"),
  ],
)
def test_the_kind_is_guessed_from_the_roles(record, kind, tmp_path):
  path = write(tmp_path / "a.jsonl", record)
  assert inspect.guess_kind([path]) == kind


def test_what_there_is_to_say_of_conversations(tmp_path, capsys):
  records = [
    {"messages": [SYSTEM, *turns("one two", "a", "and three", "b c d")]},
    {"messages": turns("q", "a")},
    {"prompt": "p", "response": "x"},
  ]
  records[0]["messages"][2]["weight"] = 0
  path = write(tmp_path / "a.jsonl", *records)
  inspect.main([path, "--json"])
  measured = json.loads(capsys.readouterr().out)
  assert measured["conversations"] == {
    "conversations": 2,
    "with_a_system_message": 1,
    "answers": 3,
    "answers_without_weight": 1,
    "turns": {"1": 1, "2": 1},
  }
  total = {name: of["total"] for name, of in measured["lengths"].items()}
  context = "Be brief. one two Assistant: a Human: and three"
  assert total == {
    "prompt": context.count(" ") + 1 + 1 + 1,
    "response": 3 + 1 + 1,
    "system message": 2,
    "user message": 2 + 2 + 1,
    "assistant message": 1 + 3 + 1,
  }
  inspect.main([path])
  out = capsys.readouterr().out
  assert "Conversations" in out
  assert "    system: Be brief.\n    user: one two\n" in out
