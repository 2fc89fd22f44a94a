"""Chatting with runs: every way to give prompts, and to get it wrong."""

import dataclasses
import gzip
import io
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from instruct_jax import sample
from instruct_jax.base import errors
from instruct_jax.models import heads
from instruct_jax.runs import answers, records, speaker
from tests import run_folders

PROMPT = "What job does Ann have?"
LONG = "ann " * 40


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  run_folders.dataset(root)
  run_folders.make(root, "sft", steps=(2, 4))
  run_folders.make(root, "sft", name="going-on", steps=(2, 4), done=False)
  run_folders.make(root, "rm")
  run_folders.make(root, "ppo_ptx", reward="rm-test", seed=5)
  return root


@pytest.fixture
def talk(root, monkeypatch, capsys):
  """A function of flags that returns what was printed, (stdout, stderr)."""
  monkeypatch.setenv("INSTRUCT_JAX_CACHE", "")

  def run(*arguments, run="sft-test", stdin=""):
    if run:
      arguments = (f"--run={root / run}", *arguments)
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    with flagsaver.flagsaver():
      flags.FLAGS(["sample", *map(str, arguments)])
      sample.main(["sample"])
    printed = capsys.readouterr()
    return printed.out, printed.err

  return run


def parsed(out):
  return [json.loads(line) for line in out.splitlines()]


def test_one_prompt(talk):
  out, err = talk(f"--prompt={PROMPT}", "--n=4")
  (record,) = parsed(talk(f"--prompt={PROMPT}", "--n=4", "--json")[0])
  assert out.startswith(f"> {PROMPT}\n")
  for n, response in enumerate(record["responses"], 1):
    assert f"\n[{n}] {response}" in out
  assert err.replace("note: compiling …\n", "") == ""


def test_a_reward_model_of_other_words_gives_no_scores(tmp_path):
  """As many words, but others: its scores would say nothing."""
  run_folders.dataset(tmp_path)
  run_folders.make(tmp_path, "ppo_ptx", reward="rm-test")
  elsewhere = tmp_path / "elsewhere"
  others = [text.replace("ann", "eve") for text in run_folders.SENTENCES]
  run_folders.dataset(elsewhere, others)
  run_folders.make(elsewhere, "rm")
  (elsewhere / "rm-test").rename(tmp_path / "rm-test")
  (elsewhere / "dataset-test").rename(tmp_path / "other")
  path = tmp_path / "rm-test" / "config.json"
  record = json.loads(path.read_text())
  record["needs"]["data"] = "../other"
  path.write_text(json.dumps(record))
  with pytest.raises(errors.UserError, match="have different tokenizers"):
    speaker.open_run(tmp_path / "ppo_ptx-test", scored=True)


def test_a_rule_scores_without_a_model_that_is_there(tmp_path):
  run_folders.dataset(tmp_path)
  folder, _ = run_folders.make(tmp_path, "ppo_ptx", reward="rm-test")
  path = folder / "config.json"
  record = json.loads(path.read_text())
  record["config"]["reward"]["model"]["weight"] = 0.0
  record["config"]["reward"]["length"]["weight"] = 1.0
  path.write_text(json.dumps(record))
  run_folders.make(tmp_path, "rm")
  assert speaker.open_run(folder, scored=True).reward.params is None


def test_json_has_prompt_and_responses_only(talk):
  out, _ = talk(f"--prompt={PROMPT}", "--json", "--n=4")
  (record,) = parsed(out)
  assert list(record) == ["prompt", "responses"]
  assert record["prompt"] == PROMPT
  assert len(record["responses"]) == 4
  assert len(set(record["responses"])) > 1


def test_seeds(talk):
  def responses(*more):
    arguments = [f"--prompt={PROMPT}", "--json", "--n=4", *more]
    return parsed(talk(*arguments)[0])[0]["responses"]

  assert responses() == responses("--seed=0")
  assert responses() != responses("--seed=1")
  greedy = responses("--greedy", "--seed=1")
  assert len(set(greedy)) == 1
  assert greedy == responses("--temperature=0")


def test_flags_reach_the_sampler(talk, root, monkeypatch):
  seen = []

  def answer_one(one, prompt, settings, **_):
    seen.append((settings, answers.policy_of(one, settings).sampling))
    return [answers.Response("said", True)]

  monkeypatch.setattr(answers, "answer_one", answer_one)
  flags_given = ["--top_k=5", "--top_p=0.5", "--temperature=0.7"]
  talk("--prompt=ann", "--seed=3", "--n=2", "--max_tokens=4", *flags_given)
  (settings, how) = seen.pop()
  assert (settings.seed, settings.n) == (3, 2)
  assert (how.top_k, how.top_p, how.temperature) == (5, 0.5, 0.7)
  assert how.max_tokens == 4
  talk("--prompt=ann")
  settings, how = seen.pop()
  config = records.read_config(root / "sft-test")
  assert how.max_tokens == config.data.response_length
  assert (how.top_k, how.top_p, how.temperature) == (0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.txt.gz", "p.jsonl.gz"])
def test_prompt_files(talk, tmp_path, name):
  prompts = ["what job does ann have ?", LONG.strip(), "where does bob live ?"]
  lines = prompts
  if "jsonl" in name:
    lines = [json.dumps({"prompt": prompt, "id": 7}) for prompt in prompts]
  content = ("\n\n".join(lines) + "\n").encode()
  content = gzip.compress(content) if name.endswith(".gz") else content
  (tmp_path / name).write_bytes(content)
  out, err = talk(f"--prompts_file={tmp_path / name}", "--json", "--n=2")
  assert [record["prompt"] for record in parsed(out)] == prompts[::2]
  assert "longer than the limit 32" in err
  assert "1 of 3 prompts were left out" in err
  assert f"{tmp_path / name}:" in err


def test_what_a_prompt_gets_does_not_depend_on_those_after_it(
  root, monkeypatch
):
  monkeypatch.setattr(answers, "ROWS", 4)
  one = speaker.open_run(root / "sft-test")
  settings = answers.Settings(n=2)
  prompts = ["ann is a nurse .", "where does bob live ?"]
  whole = answers.answer(one, prompts * 3, settings)
  assert len(whole) == 6
  assert answers.answer(one, prompts, settings) == whole[:2]
  assert answers.answer(one, prompts, settings, turn=1) != whole[:2]


def test_a_prompt_that_is_watched_is_answered_as_among_others(
  root, monkeypatch
):
  monkeypatch.setattr(answers, "ROWS", 4)
  one = speaker.open_run(root / "ppo_ptx-test", scored=True)
  settings, prompt = answers.Settings(n=6), "ann is a nurse ."
  seen = []
  responses = answers.answer_one(
    one, prompt, settings, turn=3, watch=lambda *x: seen.append(x)
  )
  assert len({response.text for response in responses}) > 1
  assert responses == answers.answer(one, [prompt], settings, turn=3)[0]
  texts, ended = seen[-1]
  assert texts == [response.text for response in responses]
  assert ended[4:] == [response.ended for response in responses[4:]]
  # The first four are whole when the others begin.
  assert {len(texts) for texts, _ in seen} == {4, 6}
  assert all(ended[:4] == [True] * 4 for _, ended in seen if len(ended) == 6)


def test_several_runs_side_by_side(talk, root):
  more = f"--run={root / 'ppo_ptx-test'}", f"--prompt={PROMPT}", "--n=4"
  out, _ = talk(*more, "--json")
  first, second = parsed(out)
  assert list(first) == ["run", "prompt", "responses"]
  assert (first["run"], second["run"]) == ("sft-test", "ppo_ptx-test")
  assert first["responses"] != second["responses"]
  out, _ = talk(*more)
  assert out.startswith(f"> {PROMPT}\n")
  for record in (first, second):
    for n, response in enumerate(record["responses"], 1):
      assert f"\n{record['run']} [{n}]: {response}".rstrip() in out


def test_scores(talk):
  ask = f"--prompt={PROMPT}", "--scores", "--n=4"
  (record,) = parsed(talk(*ask, "--json", run="ppo_ptx-test")[0])
  assert len(record["scores"]) == 4
  assert record["terms"] == [{"model": score} for score in record["scores"]]
  out, _ = talk(*ask, run="ppo_ptx-test")
  for score in record["scores"]:
    assert f"({score:+.2f})" in out


def test_the_best_of_n_is_the_best_of_the_n_that_are_sampled(talk, root):
  """--best_of picks by score among what --n says of the same seed."""
  ask = f"--prompt={PROMPT}", "--json", f"--scorer={root / 'rm-test'}"
  (every,) = parsed(talk(*ask, "--n=6", "--seed=2")[0])
  assert len(set(every["scores"])) > 2
  for n in (2, 6):
    out, err = talk(*ask, f"--best_of={n}", "--seed=2")
    (record,) = parsed(out)
    best = max(range(n), key=lambda i: (every["scores"][i], -i))
    assert record["responses"] == [every["responses"][best]]
    assert record["scores"] == pytest.approx([every["scores"][best]], abs=1e-5)
    assert record["best_of"] == n
    assert record["kl"] == pytest.approx(math.log(n) - (n - 1) / n)
    assert f"of {n} the one" in err
    assert f"{math.log(n) - (n - 1) / n:.2f} nats" in err
  (two,) = parsed(talk(*ask, "--best_of=3", "--n=2", "--seed=2")[0])
  expected = []
  for first in (0, 3):
    places = range(first, first + 3)
    best = max(places, key=lambda i: (every["scores"][i], -i))
    expected.append(every["responses"][best])
  assert two["responses"] == expected


def test_the_best_of_n_by_the_run_s_own_reward(root):
  """Of two prompts, and after RL: what has no end counts -1 there."""
  one = speaker.open_run(root / "ppo_ptx-test", scored=True)
  assert one.ctx.config.rl.missing_end == "fixed"
  prompts = ["ann", "bob lives in oslo ."]
  every = answers.answer(one, prompts, answers.Settings(n=8, max_tokens=6))
  how = answers.Settings(best_of=8, max_tokens=6)
  best = answers.answer(one, prompts, how)
  ended = [response.ended for of_prompt in every for response in of_prompt]
  assert 0 < sum(ended) < len(ended)
  for of_prompt, (found,) in zip(every, best):
    worth = [x.score if x.ended else -1.0 for x in of_prompt]
    expected = of_prompt[int(np.argmax(worth))]
    assert found == dataclasses.replace(expected, best_of=8)
  (alone,) = answers.answer_one(one, prompts[0], how)
  assert (alone.text, alone.best_of) == (best[0][0].text, 8)


@pytest.mark.parametrize("how", ["mean", "worst"])
def test_several_scorers_judge_together(talk, root, how):
  run_folders.make(root, "rm", name="rm-other", seed=9)
  scorers = [f"--scorer={root / name}" for name in ("rm-test", "rm-other")]
  ask = f"--prompt={PROMPT}", "--json", "--n=4"
  alone = [parsed(talk(*ask, one)[0])[0]["scores"] for one in scorers]
  together = ",".join(str(root / name) for name in ("rm-test", "rm-other"))
  asked = *ask, f"--scorer={together}", f"--combine={how}"
  both = parsed(talk(*asked)[0])[0]["scores"]
  combined = {"mean": np.mean, "worst": np.min}[how]
  np.testing.assert_allclose(both, combined(alone, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--best_of=0"], "--best_of=0: must be a whole number from 1 to 10000"),
    (["--best_of=200", "--n=100"], "--n x --best_of=20000"),
    (["--best_of=4"], "was built on no reward model.*--scorer=RUN"),
    (["--best_of=4", "--scorer={root}/sft-test"], "hands on a policy"),
    (["--best_of=4", "--scorer={root}/nowhere"], "not a run"),
    (["--best_of=4", "--scorer={root}/rm-test", "--greedy"], "temperature 0"),
    (["--combine=worst", "--scorer={root}/rm-test"], "for several, --scorer"),
    (["--scorer={root}/elsewhere/rm-test"], "have different tokenizers"),
  ],
)
def test_what_cannot_be_chosen_by_is_named(talk, root, arguments, message):
  elsewhere = root / "elsewhere"
  if not elsewhere.exists():
    others = [text.replace("ann", "eve") for text in run_folders.SENTENCES]
    run_folders.dataset(elsewhere, others)
    run_folders.make(elsewhere, "rm")
  arguments = [x.format(root=root) for x in arguments]
  with pytest.raises(errors.UserError, match=message):
    talk(f"--prompt={PROMPT}", *arguments)


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_prompts_file_that_is_a_pipe(talk, name):
  def piped(content):
    before, (end, start) = os.dup(0), os.pipe()
    try:
      os.write(start, content)
      os.close(start)
      os.dup2(end, 0)
      return talk(f"--prompts_file={name}", "--json")[0]
    finally:
      os.dup2(before, 0)
      os.close(before)
      os.close(end)

  for content in (b"ann\nbob\n", b'{"prompt": "ann"}\n{"prompt": "bob"}\n'):
    said = parsed(piped(content))
    assert [record["prompt"] for record in said] == ["ann", "bob"]
  shown = name.replace("-", "stdin")
  with pytest.raises(errors.UserError, match=f"^--prompts_file: {shown}:1: "):
    piped(b'{"promt": "ann"}\n')


def test_chat(talk):
  stdin = f"{PROMPT}\n\n{LONG}\n()\nWhere is Xanadu?\nexit\nnot read\n"
  out, err = talk("--json", "--n=4", stdin=stdin)
  prompts = [record["prompt"] for record in parsed(out)]
  assert prompts == [PROMPT, "Where is Xanadu?"]
  assert "a prompt of 42 tokens is longer than the limit 32" in err
  assert "does not know: is, Xanadu" in err or "does not know: Xanadu" in err
  out, _ = talk(
    "--n=4", stdin="ann\nann"
  )  # ends with the input, not with a line
  assert out.count("> ann") == 2


def test_chat_draws_anew_at_every_turn(talk):
  out, _ = talk("--json", "--n=4", stdin=f"{PROMPT}\n" * 4)
  assert len({record["responses"][0] for record in parsed(out)}) > 1


def test_a_run_that_goes_on_says_so(talk):
  out, err = talk(f"--prompt={PROMPT}", "--n=4", run="going-on")
  assert "going-on has not finished: its step 4 speaks" in err
  assert out


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--temperature=-1"], "--temperature=-1.0: must be 0, or at least"),
    (["--temperature=nan"], "--temperature=nan"),
    (["--top_k=-1"], "--top_k=-1"),
    (["--top_p=0"], "--top_p=0.0"),
    (["--top_p=1.5"], "--top_p=1.5"),
    (["--top_k=100000"], "has a vocabulary of"),
    (["--n=0"], "--n=0: must be a whole number from 1 to 10000"),
    (["--n=1000000"], "--n=1000000"),
    (["--seed=-1"], "--seed=-1"),
    (["--max_tokens=1000000000"], "--max_tokens=1000000000"),
    (["--max_tokens=481"], "which leaves 480"),
    (["--max_tokens=-2"], "--max_tokens=-2"),
    (["--seed=9999999999"], "--seed=9999999999"),
    (["--greedy", "--temperature=0.7"], "--greedy and --temperature"),
    (["--prompt="], "--prompt: is empty"),
    (["--prompt=a", "--prompts_file=b"], "give one of them"),
    (["--prompts_file=/no/such.txt"], "--prompts_file: /no/such.txt"),
    ([f"--prompt={LONG}"], "42 tokens is longer than the limit 32"),
    (["--prompt=()"], "nothing is left"),
    (["--prompt=ann", "--scores"], "--scores"),
  ],
)
def test_bad_flags_are_named(talk, arguments, message):
  with pytest.raises(errors.UserError) as caught:
    talk(*arguments)
  assert message in str(caught.value)


@pytest.mark.parametrize(
  ("run", "message"),
  [
    ("", "--run: name a run's folder"),
    (".", "It holds the runs"),
    ("sft-tst", "Did you mean"),
    ("rm-test", "cannot speak"),
    ("dataset-test", "hands on no parameters"),
  ],
)
def test_what_is_no_policy_is_refused(talk, run, message):
  with pytest.raises(errors.UserError) as caught:
    talk("--prompt=ann", run=run)
  assert message in str(caught.value)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    (
      "a.jsonl",
      b'{"prompt": "ann"}\n{"promt": "x"}\n',
      'a.jsonl:2: no "prompt"',
    ),
    ("a.jsonl", b'{"prompt": "ann"\n', "a.jsonl:1: not JSON"),
    ("a.jsonl", b"", "empty"),
    ("a.txt", b"\n \n", "empty"),
    ("a.txt", b"ann \xff\n", "not UTF-8"),
    ("a.txt", b"\x1f\x8b\x08\x00", "a.txt"),
    ("a.txt", LONG.encode() + b"\n" + LONG.encode(), "not one prompt"),
  ],
)
def test_bad_prompt_files_are_named(talk, tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(errors.UserError) as caught:
    talk(f"--prompts_file={tmp_path / name}")
  assert "--prompts_file" in str(caught.value)
  assert message in str(caught.value)


def test_learned_positions_limit_max_tokens(root):
  one = speaker.open_run(root / "sft-test")
  decoder = dataclasses.replace(one.ctx.policy.config, positions="learned")
  ctx = dataclasses.replace(one.ctx, policy=heads.LanguageModel(decoder))
  one = dataclasses.replace(one, ctx=ctx)
  room = decoder.context_length - ctx.config.data.prompt_length
  fits = answers.Settings(max_tokens=room)
  assert answers.policy_of(one, fits).sampling.max_tokens == room
  with pytest.raises(errors.UserError, match=f"--max_tokens.* leaves {room}"):
    answers.policy_of(one, dataclasses.replace(fits, max_tokens=room + 1))


@pytest.mark.slow
def test_command_line(root, tmp_path):
  environment = os.environ | {
    "INSTRUCT_JAX_CACHE": str(tmp_path),
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "JAX_PLATFORMS": "cpu",
  }

  def command(*arguments):
    return subprocess.run(
      [sys.executable, "-m", "instruct_jax.sample", *arguments],
      env=environment,
      capture_output=True,
      text=True,
      input="ann\n",
    )

  done = command(f"--run={root / 'sft-test'}", "--json")
  assert done.returncode == 0
  assert parsed(done.stdout)[0]["prompt"] == "ann"
  assert "Traceback" not in done.stderr
  for arguments in (["--run=nowhere"], ["--tempo=1"], ["--n=x"]):
    done = command(*arguments)
    assert done.returncode == 2
    assert arguments[0].strip("-").split("=")[0] in done.stderr
    assert "Traceback" not in done.stderr
