"""Conversations: what is remembered, what can be said, what is shown."""

import dataclasses
import io
import json
import sys
import time

import pytest
from absl import flags
from absl.testing import flagsaver

from instruct_jax import sample
from instruct_jax.base import compilation, errors, interrupt
from instruct_jax.runs import (
  answers,
  asked,
  chat,
  commands,
  conversation,
  display,
  introduction,
  speaker,
)
from instruct_jax.tokenizers import templates
from instruct_jax.worlds import interface
from tests import run_folders, terminals

LIMIT = 32  # tokens of a prompt


class Screen(io.StringIO):
  def isatty(self):
    return True


def with_template(folder, template):
  path = folder / "config.json"
  record = json.loads(path.read_text())
  record["config"]["data"]["template"] = template
  path.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  run_folders.dataset(root)
  run_folders.make(root, "sft")
  run_folders.make(root, "rm")
  run_folders.make(root, "ppo_ptx", reward="rm-test")
  for name in ("sft", "ppo_ptx"):
    folder, _ = run_folders.make(
      root, name, name=f"{name}-turns", reward="rm-test"
    )
    with_template(folder, "human_assistant")
  return root


@pytest.fixture(scope="module")
def speakers(root):
  names = "sft-test", "sft-turns", "ppo_ptx-turns"
  return {name: speaker.open_run(root / name) for name in names}


@pytest.fixture
def heard(monkeypatch):
  """What runs were asked; they answer with a number each."""
  seen = []

  def answer_one(one, prompt, settings, *, turn=0, watch=None):
    seen.append((one.folder.name, prompt, turn))
    return [answers.Response(f" said {len(seen)}", True)] * settings.n

  monkeypatch.setattr(answers, "answer_one", answer_one)
  return seen


@pytest.fixture
def talk(speakers, monkeypatch, capsys):
  """A function of lines and runs: (stdout, stderr) of the conversation."""
  monkeypatch.setenv("INSTRUCT_JAX_CACHE", "")

  def run(*lines, runs=("sft-test",), **how):
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(lines)))
    given = conversation.Talk(
      {name: speakers[name] for name in runs}, answers.Settings()
    )
    chat.converse(given, display.Display(several=len(runs) > 1, **how))
    return capsys.readouterr()

  return run


# What was said before.


def test_each_run_reads_its_own_turns(talk, heard):
  runs = "sft-turns", "ppo_ptx-turns", "sft-test"
  _, err = talk("Ann?\n", "Bob?\n", runs=runs)
  assert "turns of one conversation" in err
  assert "turns of one conversation" not in talk("")[1]
  assert heard == [
    ("sft-turns", "ann ?", 0),
    ("ppo_ptx-turns", "ann ?", 0),
    ("sft-test", "ann ?", 0),
    ("sft-turns", "ann ?\n\nAssistant: said 1\n\nHuman: bob ?", 1),
    ("ppo_ptx-turns", "ann ?\n\nAssistant: said 2\n\nHuman: bob ?", 1),
    ("sft-test", "bob ?", 1),
  ]


def test_reset_forgets_and_says_how_much(talk, heard):
  runs = ("sft-turns",)
  _, err = talk("ann\n", "bob\n", "/reset\n", "oslo\n", runs=runs)
  assert heard[-1] == ("sft-turns", "oslo", 2)
  assert "2 turns are forgotten" in err
  assert "Nothing to forget" in talk("/reset\n")[1]


def test_the_oldest_turns_make_room(talk, heard):
  line = "ann is a nurse .\n"
  _, err = talk(*[line] * 4, runs=("sft-turns",))
  turns = [prompt.count("Assistant:") for _, prompt, _ in heard]
  assert turns[0] == 0
  assert turns[1] == 1
  assert max(turns) < 3
  assert f"oldest turn forgotten: its limit is {LIMIT} tokens" in err


def test_a_prompt_that_fills_all_leaves_no_turn(speakers):
  one = speakers["sft-turns"]
  text = "ann " * (LIMIT - one.prompt_tokens(""))
  turns = (("a", "b"), ("c", "d"))
  kept, why = conversation.fitting(one, turns, text.strip())
  assert kept == ()
  assert why.startswith("the 2 oldest turns forgotten")


def test_a_template_that_takes_no_turns_gets_none(speakers, monkeypatch):
  def fits(self, text):
    if "Assistant" in text:
      raise errors.UserError("it leaves a turn out")
    return True

  monkeypatch.setattr(speaker.Speaker, "fits", fits)
  kept, why = conversation.fitting(speakers["sft-turns"], (("a", "b"),), "ann")
  assert kept == ()
  assert why == "the oldest turn forgotten: it leaves a turn out"


def test_a_dialogue_is_read_as_the_turns_that_it_was():
  turns = (("one", " two\n"), ("three", "four\n\nHuman: five"))
  text = templates.dialogue(turns, "six")
  said = ["one", "two", "three", "four\nHuman: five", "six"]
  assert [m["content"] for m in templates.messages(str(text))] == said
  said[3] = "four\n\nHuman: five"  # a template that has messages needs no mark
  assert [m["content"] for m in templates.messages(text)] == said
  assert templates.dialogue((), "six") == "six"


@pytest.mark.parametrize(
  ("template", "has"),
  [
    ("plain", False),
    ("{prompt} \n", False),
    ("human_assistant", True),
    ("chatml", True),
    ("chat_template", True),
    ("Be kind.\n\nHuman: {prompt}\n\nAssistant:", True),
  ],
)
def test_which_templates_have_turns(template, has):
  assert templates.has_turns(template) is has


def test_what_is_stopped_is_not_remembered(speakers, monkeypatch, capsys):
  """Ctrl-C in a terminal; elsewhere, and SIGTERM anywhere, end it all."""
  seen = []

  def answer_one(one, prompt, settings, *, turn=0, watch=None):
    seen.append((prompt, turn))
    if prompt.startswith("bob"):
      raise error
    return [answers.Response("said", True)]

  monkeypatch.setenv("INSTRUCT_JAX_CACHE", "")
  monkeypatch.setattr(answers, "answer_one", answer_one)
  given = conversation.Talk(
    {"sft-turns": speakers["sft-turns"]}, answers.Settings()
  )
  error = KeyboardInterrupt()
  lines = "bob\n", "ann\n", "oslo\n"
  monkeypatch.setattr(sys, "stdin", Screen("".join(lines)))
  chat.converse(given, display.Display())
  assert seen == [
    ("bob", 0),
    ("ann", 1),
    ("ann\n\nAssistant: said\n\nHuman: oslo", 2),
  ]
  assert "stopped; this answer is not remembered" in capsys.readouterr().err
  alone = {"sft-test": speakers["sft-test"]}
  monkeypatch.setattr(sys, "stdin", Screen("bob\n"))
  chat.converse(dataclasses.replace(given, speakers=alone), display.Display())
  assert "note: stopped.\n" in capsys.readouterr().err
  for error, stdin in (
    (KeyboardInterrupt(), io.StringIO("bob\n")),
    (interrupt.Stopped(), Screen("bob\n")),
  ):
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(type(error)):
      chat.converse(given, display.Display())


# Commands.


def test_help_lists_every_command(talk):
  out, err = talk("/help\n")
  assert out == ""
  for name, command in commands.COMMANDS.items():
    assert f"/{name} {command.form}".rstrip() in err
    assert command.meaning in err
  assert talk("/\n")[1] == talk("/?\n")[1] == err


@pytest.mark.parametrize("name", commands.SETTINGS)
def test_a_setting_shows_itself_and_is_set(speakers, name):
  given = conversation.Talk(
    {"sft-test": speakers["sft-test"]}, answers.Settings()
  )
  for line in (f"/{name} 1", f"/{name}=1", f"/{name.upper()}   1 "):
    changed, shown = commands.run(given, line)
    assert getattr(changed.settings, name) == 1
    assert shown == [f"{name} 1"]
    assert commands.run(changed, f"/{name}") == (changed, [f"{name} 1"])


def test_settings_reach_the_answers(talk, monkeypatch):
  seen = []

  def answer_one(one, prompt, settings, *, turn=0, watch=None):
    seen.append((settings, turn))
    return [answers.Response("said", True)]

  monkeypatch.setattr(answers, "answer_one", answer_one)
  talk("ann\n", "/greedy\n", "/top-k 3\n", "ann\n", "/seed 4\n", "ann\n")
  greedy = answers.Settings(temperature=0.0, top_k=3)
  assert seen == [
    (answers.Settings(), 0),
    (greedy, 1),
    (dataclasses.replace(greedy, seed=4), 0),
  ]


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("/temprature 1", "Did you mean '/temperature'?"),
    ("/usr/bin/env python", "said with //"),
    ("/temperature warm", "/temperature warm: must be 0, or at least"),
    ("/temperature nan", "/temperature nan: must be"),
    ("/temperature -1", "/temperature -1: must be"),
    ("/temperature 1e400", "/temperature 1e400: must be"),
    ("/top_p 2", "/top_p 2: must be"),
    ("/n 3 4", "/n 3 4: takes one value, a whole number from 1"),
    ("/n 0", "/n 0: must be a whole number from 1"),
    ("/n 1.5", "/n 1.5: must be a whole number from 1"),
    ("/max_tokens 999999", "/max_tokens 999999: "),
    ("/seed x", "/seed x: must be"),
    ("/scores maybe", "/scores maybe: must be on or off"),
    ("/scores on", "/scores: "),
    ("/help me", "/help takes no value"),
  ],
)
def test_a_wrong_line_is_one_message_and_changes_nothing(
  talk, heard, line, message
):
  out, err = talk(f"{line}\n", "ann\n")
  assert message in err
  assert err.count("note: ") == 1
  assert "Traceback" not in err
  assert heard == [("sft-test", "ann", 0)]
  assert "said 1" in out


def test_a_prompt_may_begin_with_a_slash(talk, heard):
  talk("//help ann\n", "// ann\n")
  # The microworld writes a slash as a space.
  assert [prompt for _, prompt, _ in heard] == ["help ann", "ann"]
  assert commands.prompt_of("//etc is") == "/etc is"


@pytest.mark.parametrize("line", ["/exit", "/quit", "exit", "quit", " exit "])
def test_ends(talk, heard, line):
  talk("ann\n", f"{line}\n", "bob\n")
  assert len(heard) == 1


def test_scores_on_and_off(talk):
  runs = ("ppo_ptx-turns",)
  lines = "ann\n", "/scores on\n", "ann\n", "/scores off\n", "/scores\n"
  out, err = talk(*lines, runs=runs, json=True)
  first, second = map(json.loads, out.splitlines())
  assert "scores" not in first
  assert len(second["scores"]) == 1
  shown = [line for line in err.splitlines() if line.startswith("scores")]
  assert shown == ["scores on", "scores off", "scores off"]


def test_the_best_of_n_needs_a_reward_and_keeps_it(talk):
  lines = "/best_of 3\n", "ann\n", "/scores on\n", "/best_of 3\n", "ann\n"
  out, err = talk(
    *lines, "/scores off\n", "ann\n", runs=("ppo_ptx-turns",), json=True
  )
  plain, *chosen = map(json.loads, out.splitlines())
  assert "best_of" not in plain
  assert "note: /best_of 3: " in err
  assert "has no reward to choose by" in err
  assert "best_of 3 (0.43 nats from the run's own)\n" in err
  assert "note: /scores off: /best_of 3 chooses by them" in err
  assert [record["best_of"] for record in chosen] == [3, 3]
  assert all(len(record["scores"]) == 1 for record in chosen)


def test_scores_of_those_that_have_a_reward(talk):
  lines = "/scores on\n", "ann\n"
  out, err = talk(*lines, runs=("sft-test", "ppo_ptx-turns"), json=True)
  plain, scored = map(json.loads, out.splitlines())
  assert "scores" not in plain
  assert "scores" in scored
  assert "scores on for ppo_ptx-turns\n" in err
  assert "/scores: " in err


def test_runs_say_who_they_are(talk, root):
  _, err = talk("/runs\n", runs=("ppo_ptx-turns", "sft-test"))
  assert f"ppo_ptx-turns: {root / 'ppo_ptx-turns'}" in err
  assert "ppo_ptx:test, step 3" in err
  assert "reward rm-test" in err
  assert "template 'human_assistant' (turns)" in err
  assert "template '{prompt} \\n' (no turns)" in err
  assert "data: microworld" in err


def test_unknown_words_are_named_as_they_were_typed(talk):
  assert "does not know: Zyx, qúx\n" in talk("Zyx, ann (qúx)?\n")[1]


# What can be asked.


def test_the_microworld_has_examples_that_fit(speakers):
  one = speakers["sft-test"]
  found = introduction.examples(one)
  assert len(found) == introduction.EXAMPLES
  assert all(one.fits(one.normalize(text)) for text in found)
  assert any("?" in text for text in found)


def world(examples=None, records=None):
  def none(*_):
    raise errors.UserError("no prompts")

  return interface.World(
    name="",
    check=none,
    build=none,
    digests=none,
    records=records or none,
    weights=none,
    holds=none,
    normalize=none,
    prompted_template="",
    examples=examples,
  )


def test_examples_of_worlds():
  rows = [{"prompt": "one"}, {"prompt": "two"}]

  def records(data, kind, split, folders):
    assert (kind, split) == ("prompts", "validation")
    return rows

  def of(one):
    return interface.examples(one, None, {})

  assert of(world()) == []
  assert of(world(records=records)) == ["one", "two"]
  assert of(world(lambda *_: ["three"], records)) == ["three"]
  assert of(world(lambda *_: [], records)) == ["one", "two"]


def test_examples_of_files(tmp_path):
  from instruct_jax.worlds import files

  rows = [{"prompt": f"p{n}"} for n in range(interface.MOST_EXAMPLES + 9)]
  path = tmp_path / "prompts-validation.jsonl"
  path.write_text("\n".join(map(json.dumps, rows)))
  found = interface.examples(files.WORLD, {}, {"data": tmp_path})
  assert found == [row["prompt"] for row in rows[: interface.MOST_EXAMPLES]]
  # As of a checkpoint, which names no data at all.
  assert interface.examples(files.WORLD, {}, {"data": tmp_path / "x"}) == []


def test_a_greeting_says_what_is_remembered(speakers):
  def greeting(*names):
    return "\n".join(
      introduction.greeting({name: speakers[name] for name in names})
    )

  assert "stands alone" in greeting("sft-test")
  assert "is remembered" in greeting("sft-turns", "ppo_ptx-turns")
  assert "Only sft-turns remembers" in greeting("sft-test", "sft-turns")
  assert all("/help" in greeting(name) for name in speakers)


# Prompts of files.


def answer_file(root, tmp_path, capsys, monkeypatch, records, *more):
  monkeypatch.setenv("INSTRUCT_JAX_CACHE", "")
  path = tmp_path / "p.jsonl"
  path.write_text("\n".join(map(json.dumps, records)))
  with flagsaver.flagsaver():
    arguments = [f"--prompts_file={path}", *more]
    flags.FLAGS(["sample", f"--run={root / 'sft-turns'}", *arguments])
    sample.main(["sample"])
  out, err = capsys.readouterr()
  return out, err


def test_keys_of_records_stand_in_the_output(
  root, tmp_path, capsys, monkeypatch
):
  records = [
    {"id": "x", "prompt": "Ann?", "user": "u", "meta": {"a": [1, None]}},
    {"id": 2, "prompt": "ann " * LIMIT},
    {"prompt": "Bob?", "responses": ["mine"], "run": 1, "given_run": 2},
  ]
  given = root, tmp_path, capsys, monkeypatch, records
  out, err = answer_file(*given, "--json", "--n=2")
  first, last = map(json.loads, out.splitlines())
  said = first.pop("responses")
  assert len(said) == 2
  assert first == records[0]
  assert last["given_responses"] == ["mine"]
  assert (last["run"], last["given_run"]) == (1, 2)
  assert last["prompt"] == "Bob?"
  assert last["responses"] != ["mine"]
  assert "p.jsonl:2 (id 2): a prompt of" in err
  assert '1 of 3 prompts have a "responses" of their own' in err
  assert '"run"' not in err


def test_keys_that_are_ours_get_names_that_are_free():
  record = {"given_run": 2, "run": 1, "scores": 3}
  for order in (record, dict(reversed(record.items()))):
    out = display.kept(order, {"run", "responses"})
    assert sorted(out.values()) == [1, 2, 3]
    assert set(out) == {"given_run", "given_given_run", "scores"}


def test_dialogues_of_records(tmp_path):
  messages = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
  ]
  old = [{"from": "human", "value": "one"}]
  path = tmp_path / "p.jsonl"
  records = {"messages": messages}, {"prompt": messages}, {"messages": old}
  path.write_text("\n".join(map(json.dumps, records)))
  first, second, third = asked.read(str(path))
  assert first.prompt == second.prompt == "three"
  assert first.turns == second.turns == (("one", "two"),)
  assert first.system == second.system == "Be kind."
  assert first.text == "Be kind.\n\none\n\nAssistant: two\n\nHuman: three"
  assert (third.prompt, third.turns) == ("one", ())
  assert first.record == records[0]


@pytest.mark.parametrize(
  ("record", "message"),
  [
    ({"messages": []}, "ends with no user's message"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, '"assistant"'),
    ({"messages": [{"role": "user"}]}, '"messages"[0]'),
    ({"messages": ["ann"]}, '"messages"[0]'),
    ({"prompt": [{"role": "user", "content": 7}]}, '"prompt"[0]'),
    ({"prompt": 7}, '"prompt" should be a string'),
    ({"prompt": " "}, '"prompt" is empty'),
    ({"promt": "x"}, 'no "prompt"'),
  ],
)
def test_records_that_are_no_prompts(tmp_path, record, message):
  path = tmp_path / "p.jsonl"
  path.write_text('{"prompt": "ann"}\n' + json.dumps(record))
  with pytest.raises(errors.UserError) as caught:
    list(asked.read(str(path)))
  assert message in str(caught.value)
  assert f"{path}:2" in str(caught.value)


def test_a_dialogue_needs_turns(speakers, capsys):
  given = [
    asked.Asked("here", "bob", (("ann", "oslo"),)),
    asked.Asked("there", "ann"),
  ]
  runs = {"sft-test": speakers["sft-test"], "sft-turns": speakers["sft-turns"]}
  given_talk = conversation.Talk(runs, answers.Settings())
  chat.answer_all(given_talk, given, display.Display(several=True, json=True))
  out, err = capsys.readouterr()
  shown = [json.loads(line) for line in out.splitlines()]
  assert [(one["run"], one["prompt"]) for one in shown] == [
    ("sft-turns", "ann\n\nAssistant: oslo\n\nHuman: bob"),
    ("sft-test", "ann"),
    ("sft-turns", "ann"),
  ]
  assert "here: a dialogue, but no turns in the template" in err


# What is shown.


def test_help_in_a_narrow_window_hangs_its_descriptions(speakers, monkeypatch):
  screen = Screen()
  monkeypatch.setattr(sys, "stderr", screen)
  monkeypatch.setenv("COLUMNS", "40")
  given = conversation.Talk(
    {"sft-test": speakers["sft-test"]}, answers.Settings()
  )
  _, lines = commands.run(given, "/help")
  display.say(lines)
  shown = screen.getvalue().split("\n")
  assert max(map(len, shown)) <= 40
  column = lines[0].index("this list")
  table = shown[: next(n for n, x in enumerate(shown) if x.startswith("A "))]
  assert len(table) > len(commands.COMMANDS)
  assert all(x[column - 1] == " " != x[column] for x in table)


def test_what_grows_in_a_terminal_is_what_is_printed_elsewhere(
  speakers, monkeypatch, capsys
):
  one = speakers["sft-test"]
  given = conversation.Talk({"sft-test": one}, answers.Settings(n=3))
  chat.answer_all(given, [asked.Asked("", "ann")], display.Display())
  printed = capsys.readouterr().out.removeprefix("> ann\n")
  screen = Screen()
  monkeypatch.setattr(sys, "stdout", screen)
  monkeypatch.setenv("COLUMNS", "500")
  chat.answer_all(given, [asked.Asked("", "ann")], display.Display(echo=True))
  shown = screen.getvalue().removeprefix("> ann\n")

  def lines(text):
    return [line.rstrip() for line in text.split("\n")]

  assert lines(shown) == lines(printed)
  assert [f"[{n}]" in printed for n in (1, 2, 3, 4)] == [True] * 3 + [False]


def test_answers_come_one_after_another(monkeypatch):
  screen = Screen()
  monkeypatch.setattr(sys, "stdout", screen)
  monkeypatch.setenv("COLUMNS", "80")
  growing = display.Growing("sft", 2, lambda: None)

  def shown():
    return screen.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")

  growing.watch(["one", "uno"], [False, False])
  assert shown() == ""
  growing.watch(["one two", "uno due"], [False, True])
  assert shown() == "sft\n[1] one"
  growing.watch(["one two", "uno due"], [True, True])
  assert shown() == "sft\n[1] one two\n[2] uno"
  growing.finish(
    [answers.Response("one two", True), answers.Response("uno due", False)]
  )
  assert shown() == "sft\n[1] one two\n[2] uno due …\n"


def test_scores_stand_behind_the_whole_answer(monkeypatch):
  screen = Screen()
  monkeypatch.setattr(sys, "stdout", screen)
  growing = display.Growing("", 2, lambda: None, has_remarks=True)
  growing.watch(["one two", "uno due"], [True, True])
  assert screen.getvalue() == "[1] one"
  growing.finish(
    [answers.Response(x, True, 0.5) for x in ("one two", "uno due")]
  )
  assert screen.getvalue() == ("[1] one two  (+0.50)\n[2] uno due  (+0.50)\n")


@pytest.mark.parametrize("compiles", [True, False])
def test_a_word_while_it_compiles(monkeypatch, capsys, compiles):
  monkeypatch.setattr(compilation, "is_compiling", lambda: compiles)
  with display.waiting(patience=0.0) as come:
    time.sleep(0.3)
    come()
    come()
  expected = "note: compiling …\n" if compiles else ""
  assert capsys.readouterr().err == expected
  with display.waiting(patience=60.0):
    pass
  assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_in_a_terminal(root, tmp_path):
  """Keys as a person presses them, and both ways out."""
  command = sys.executable, "-m", "instruct_jax.sample"
  run = f"--run={root / 'sft-turns'}"
  environment = {"INSTRUCT_JAX_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"}
  terminal = terminals.Terminal(*command, run, columns=40, **environment)
  try:
    terminal.wait_for("/reset forgets it.")
    terminal.wait_for("> ")
    terminal.press(b"/sed 3" + terminals.LEFT * 3 + b"e\r")
    terminal.wait_for("seed 3")
    terminal.wait_for("> ")
    terminal.press("What job does Ann have?\r")
    terminal.wait_for("> ")
    terminal.press(b"/seed 3\r")
    terminal.wait_for("> ")
    terminal.press(terminals.UP * 2 + b"\r")
    terminal.wait_for("What job does Ann have?")
    terminal.wait_for("> ")
    terminal.press(terminals.CTRL_D)
    assert terminal.process.wait(30) == 0
    assert "Traceback" not in terminal.seen
  finally:
    terminal.close()
  kept = (tmp_path / chat.HISTORY).read_text().splitlines()
  assert list(map(json.loads, kept)) == [
    "/seed 3",
    "What job does Ann have?",
    "/seed 3",
    "What job does Ann have?",
  ]
  terminal = terminals.Terminal(*command, run, **environment)
  try:
    terminal.wait_for("> ")
    terminal.press(terminals.CTRL_C)
    assert terminal.wait_for_end(30) == 130
    assert "error" not in terminal.seen
  finally:
    terminal.close()
