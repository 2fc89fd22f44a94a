"""Checkpoints into runs and back, by the functions and the command line."""

import errno
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from instruct_jax import convert
from instruct_jax.base import claims, errors, storage
from instruct_jax.hf import export as hf_export
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import llama2c
from instruct_jax.inference import choice, context, generate, respond
from instruct_jax.runs import exchange, reading, records, speaker
from tests import hf_fuzz_test as hf
from tests import pretrained_tokenizers_test as tokens

ROOT = pathlib.Path(__file__).parents[1]
PUBLIC = ROOT.parent / "shared" / "data" / "stories260K"
SIZE = 262  # 256 bytes, 5 merges and the end of text


def checkpoint(folder, *, dtype=np.float32, reward=False):
  """A Llama with GPT-2's sort of tokenizer, in two files."""
  rng = np.random.default_rng(1)
  folder.mkdir()
  tokens.gpt2_files(folder, ("vocab.json", "merges.txt"))
  shapes = {
    name: (SIZE, *shape[1:]) if shape[0] == 11 else shape
    for name, shape in hf.SHAPES.items()
  }
  if reward:
    del shapes["lm_head.weight"]
    shapes["score.weight"] = (1, 8)
  tensors = {
    name: rng.standard_normal(shape).astype(dtype)
    for name, shape in shapes.items()
  }
  names, index = list(tensors), {}
  for n, part in enumerate((names[:5], names[5:]), 1):
    file = f"model-{n:05d}-of-00002.safetensors"
    found = {name: tensors[name] for name in part}
    safetensors.numpy.save_file(found, folder / file)
    index |= dict.fromkeys(part, file)
  (folder / hf_folder.INDEX).write_text(json.dumps({"weight_map": index}))
  name = str(np.dtype(dtype))
  config = hf.CONFIG | {"vocab_size": SIZE, "torch_dtype": name}
  config |= {"eos_token_id": SIZE - 1, "max_position_embeddings": 128}
  if reward:
    config["architectures"] = ["LlamaForSequenceClassification"]
    config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
  (folder / "config.json").write_text(json.dumps(config))
  return f"hf:{folder}"


def same_tensors(one, other):
  before, after = hf_folder.Folder(one), hf_folder.Folder(other)
  assert sorted(before.names) == sorted(after.names)
  for name in before.names:
    a, b = before.read(name), after.read(name)
    assert a.dtype == b.dtype
    assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("reward", [False, True], ids=["policy", "reward"])
def test_there_and_back_is_bit_exact(dtype, reward, tmp_path):
  reference = checkpoint(tmp_path / "in", dtype=dtype, reward=reward)
  exchange.bring_in(reference, tmp_path / "run")
  found = records.product(tmp_path / "run")
  assert found.item == ("params.reward" if reward else "params.policy")
  exchange.send_out(tmp_path / "run", tmp_path / "out", shard_bytes=4400)
  same_tensors(tmp_path / "in", tmp_path / "out")
  assert len(hf_folder.Folder(tmp_path / "out").files()) > 1
  before, after = (
    json.loads((tmp_path / name / "config.json").read_text())
    for name in ("in", "out")
  )
  assert after == before
  for name in ("vocab.json", "merges.txt"):
    file = (tmp_path / "out" / name).read_bytes()
    assert file == (tmp_path / "in" / name).read_bytes()


def test_another_dtype_is_cast(tmp_path):
  reference = checkpoint(tmp_path / "in")
  exchange.send_out(reference, tmp_path / "out", dtype="bfloat16")
  there = hf_folder.Folder(tmp_path / "out")
  assert {str(there.dtype(name)) for name in there.names} == {"bfloat16"}
  assert json.loads((tmp_path / "out" / "config.json").read_text())[
    "torch_dtype"
  ] == "bfloat16"  # fmt: skip
  with pytest.raises(errors.UserError, match="unknown dtype"):
    exchange.send_out(reference, tmp_path / "x", dtype="float8")


def test_a_number_that_a_dtype_cannot_hold_is_named(tmp_path):
  reference = checkpoint(tmp_path / "in")
  folder = tmp_path / "in"
  file = hf_folder.Folder(folder).file_of("model.norm.weight")
  found = safetensors.numpy.load_file(file)
  found["model.norm.weight"][3] = 1e30
  safetensors.numpy.save_file(found, file)
  with pytest.raises(errors.UserError, match=r"model\.norm\.weight: not every"):
    exchange.send_out(reference, tmp_path / "out", dtype="float16")


def greedy(one, prompts, max_tokens):
  """What an opened run says at temperature 0."""
  policy = respond.policy_of(
    one.ctx, one.params, temperature=0.0, max_tokens=max_tokens
  )
  return respond.respond(policy, prompts, jax.random.key(0)).texts


def test_a_checkpoint_speaks_as_a_run_does(tmp_path):
  reference = checkpoint(tmp_path / "in")
  exchange.bring_in(reference, tmp_path / "run")
  said = []
  for name in (reference, str(tmp_path / "run")):
    one = speaker.open_run(epath.Path(name))
    said.append(greedy(one, ["and the", "x"], max_tokens=9))
  assert said[0] == said[1]


def test_a_checkpoint_may_be_named_from_here(tmp_path, monkeypatch):
  checkpoint(tmp_path / "in")
  monkeypatch.chdir(tmp_path)
  one = speaker.open_run(epath.Path("hf:in"))
  assert one.ctx.tokenizer.vocab_size == SIZE
  exchange.send_out("hf:in", "out")
  same_tensors(tmp_path / "in", tmp_path / "out")


def test_a_reward_cannot_speak_and_a_policy_cannot_score(tmp_path):
  policy = checkpoint(tmp_path / "policy")
  reward = checkpoint(tmp_path / "reward", reward=True)
  with pytest.raises(errors.UserError, match="cannot speak"):
    speaker.open_run(epath.Path(reward))
  ctx = reading.open_context(epath.Path(policy))
  with pytest.raises(errors.UserError, match="a policy is what this run hands"):
    reading.load_parameters(epath.Path(policy), ctx, "reward")
  with pytest.raises(errors.UserError, match="unknown role"):
    exchange.send_out(reward, tmp_path / "x", role="valu")


def test_a_bias_without_a_place_is_refused_or_noted(tmp_path):
  reference = checkpoint(tmp_path / "in", reward=True)
  ctx = reading.open_context(epath.Path(reference))
  params = reading.load_parameters(epath.Path(reference), ctx, "reward")
  head = params["head"] | {"bias": np.full(1, 0.25, np.float32)}
  arguments = params | {"head": head}, ctx.scalar.config, "reward"
  with pytest.raises(errors.UserError, match=r"bias 0\.25 has no place in a"):
    hf_export.export(*arguments, ctx.tokenizer, tmp_path / "a")
  hf_export.export(*arguments, ctx.tokenizer, tmp_path / "b", drop_bias=True)
  again = epath.Path(f"hf:{tmp_path / 'b'}")
  ctx = reading.open_context(again)
  found = reading.load_parameters(again, ctx, "reward")
  assert float(found["head"]["bias"][0]) == 0.25


def test_stacked_layers_go_out_and_come_in(tmp_path):
  reference = epath.Path(checkpoint(tmp_path / "in"))
  config = records.read_config(reference).unlock()
  config.model.scan = True
  ctx = context.make(config.lock(), records.read_needs(reference))
  params = reading.load_parameters(reference, ctx, "policy")
  assert "blocks" in params["decoder"]
  hf_export.export(
    params, ctx.policy.config, "policy", ctx.tokenizer, tmp_path / "out"
  )
  same_tensors(tmp_path / "in", tmp_path / "out")


def test_parameters_are_split_over_a_mesh(tmp_path):
  reference = epath.Path(checkpoint(tmp_path / "in"))
  config = records.read_config(reference).unlock()
  config.mesh.fsdp, config.mesh.tensor = 2, 2
  ctx = context.make(config.lock(), records.read_needs(reference))
  params = reading.load_parameters(reference, ctx, "policy")
  kernel = params["decoder"]["block_0"]["up"]["kernel"]
  assert len(kernel.sharding.device_set) == 4
  assert kernel.addressable_shards[0].data.shape == (4, 6)
  alone = reading.open_context(reference)
  whole = reading.load_parameters(reference, alone, "policy")
  jax.tree.map(np.testing.assert_array_equal, params, whole)


def run_command(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "instruct_jax.convert", *map(str, arguments)],
    capture_output=True,
    text=True,
    check=False,
    cwd=ROOT,
  )


def test_the_command_line(tmp_path):
  reference = checkpoint(tmp_path / "in")
  found = run_command(reference, tmp_path / "run")
  assert found.returncode == 0, found.stderr
  assert "a run now" in found.stdout
  found = run_command(tmp_path / "run", f"hf:{tmp_path / 'out'}")
  assert found.returncode == 0, found.stderr
  same_tensors(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("a", "b"), "one of the two should be hf:/path"),
    (("hf:a", "hf:b"), "one of the two should be hf:/path"),
    (("hf:{0}/none", "{0}/run"), "none: no such folder"),
    (("{0}/none", "hf:{0}/out"), "not a run"),
    (("{0}/in", "hf:{0}/out"), "name it hf:"),
    (("hf:{0}/in", "{0}/in"), "in, which is read"),
    (("hf:{0}/in", "{0}/in/run"), "run: lies in .*in, which is read"),
    (("hf:{0}/in", "{0}"), "holds .*in, which is read"),
    (("hf:{0}/in", "{0}/link"), "link: is .*in, which is read"),
    (("hf:{0}/in", "{0}/mine"), "mine: is there already.*--overwrite"),
    (("hf:{0}/in", "{0}/mine/notes"), "is a file, where a folder is due"),
    (("hf:{0}/in", "{0}/mine/notes/x"), "is a file, where a folder is due"),
    (("llama2c:x", "hf:{0}/out"), "llama2c:MODEL.bin,TOKENIZER.bin hf:/path"),
    (("llama2c:x,y", "hf:{0}/out"), "x: cannot be read"),
  ],
)
def test_bad_input_is_a_message(arguments, message, tmp_path):
  checkpoint(tmp_path / "in")
  (tmp_path / "link").symlink_to("in")
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "notes").write_text("mine")
  before = contents(tmp_path)
  given = [text.format(tmp_path) for text in arguments]
  if not convert.flags.FLAGS.is_parsed():
    convert.flags.FLAGS(["convert"])
  with pytest.raises(errors.UserError, match=message):
    convert.main(["convert", *given])
  assert contents(tmp_path) == before


def contents(root):
  """{name: bytes} of all files below a folder, and its empty folders."""
  return {
    str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
    for path in root.rglob("*")
  }


def test_a_conversion_may_be_given_again_but_spares_what_is_not_its_own(
  tmp_path,
):
  reference = checkpoint(tmp_path / "in")
  run, out = tmp_path / "run", tmp_path / "more" / "out"
  out.mkdir(parents=True)  # A disk of its own may be empty, and there.
  for _ in range(2):
    exchange.bring_in(reference, run)
    exchange.send_out(run, out, shard_bytes=4400)
  exchange.send_out(run, out)  # in other files than before
  same_tensors(tmp_path / "in", out)
  assert len(list(out.glob("*.safetensors*"))) == 1
  for path in (out, run):
    (path / "mine").write_text("mine")
  with pytest.raises(errors.UserError, match="is there already"):
    exchange.bring_in(reference, run)
  with pytest.raises(errors.UserError, match="is there already"):
    exchange.send_out(run, out)
  exchange.bring_in(reference, run, overwrite=True)
  exchange.send_out(run, out, overwrite=True)
  assert (tmp_path / "more" / "out.old1" / "mine").read_text() == "mine"
  assert (tmp_path / "run.old1" / "mine").read_text() == "mine"
  same_tensors(tmp_path / "in", out)
  hidden = {p.name for p in tmp_path.rglob(".*")}
  assert hidden == {claims.LEDGER}


def test_a_conversion_that_fails_leaves_nothing(tmp_path, monkeypatch):
  reference = checkpoint(tmp_path / "in")
  exchange.bring_in(reference, tmp_path / "run")
  exchange.send_out(reference, tmp_path / "out")
  before = contents(tmp_path)

  def fail(path, content):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))

  monkeypatch.setattr(storage, "write", fail)
  for function, source in (
    (exchange.bring_in, reference),
    (exchange.send_out, tmp_path / "run"),
  ):
    for name in ("run", "out", "new/er/place"):
      if tmp_path / name != source:
        with pytest.raises((OSError, errors.UserError)):
          function(source, tmp_path / name, overwrite=True)
        assert contents(tmp_path) == before
  model, tokenizer = little(tmp_path)
  before = contents(tmp_path)
  with pytest.raises(OSError, match="No space left"):
    llama2c.to_hf(model, tokenizer, tmp_path / "new")
  assert contents(tmp_path) == before


def little(tmp_path):
  """A llama2.c checkpoint and its tokenizer, of random numbers."""
  rng = np.random.default_rng(0)
  header = np.asarray([8, 12, 1, 2, 1, 300, 32], np.int32)
  count = 300 * 8 + 8 + 64 + 32 + 32 + 64 + 8 + 96 + 96 + 96 + 8 + 2 * 32 * 2
  numbers = rng.standard_normal(count).astype(np.float32)
  (tmp_path / "m.bin").write_bytes(header.tobytes() + numbers.tobytes())
  pieces = ["<unk>", "\n<s>\n", "\n</s>\n"]
  pieces += [f"<0x{byte:02X}>" for byte in range(256)]
  pieces += [chr(97 + i % 26) * (1 + i // 26) for i in range(41)]
  parts = [np.int32(99).tobytes()]
  for i, piece in enumerate(pieces):
    text = piece.encode()
    score, size = np.float32(-i), np.int32(len(text))
    parts.append(score.tobytes() + size.tobytes() + text)
  (tmp_path / "t.bin").write_bytes(b"".join(parts))
  return tmp_path / "m.bin", tmp_path / "t.bin"


def test_a_little_llama_becomes_a_checkpoint(tmp_path):
  llama2c.to_hf(*little(tmp_path), tmp_path / "hf")
  one = speaker.open_run(epath.Path(f"hf:{tmp_path / 'hf'}"))
  assert one.ctx.policy.config.vocab_size == 300
  assert len(greedy(one, ["aa b"], max_tokens=5)) == 1


@pytest.mark.parametrize("cut", [0, 20, 28, 100, -4, 4])
def test_a_broken_little_llama_is_named(cut, tmp_path):
  model, tokenizer = little(tmp_path)
  for path in (model, tokenizer):
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] if cut <= 0 or cut > 4 else whole + b"xxxx")
    with pytest.raises(errors.UserError, match=path.name):
      llama2c.to_hf(model, tokenizer, tmp_path / "hf")
    path.write_bytes(whole)
  assert not (tmp_path / "hf").exists()


def test_stories260k_tells_the_story_that_is_published(tmp_path):
  """More than 200 greedy steps, token for token."""
  if not PUBLIC.exists():
    pytest.skip(f"the public checkpoint is not here: {PUBLIC}")
  llama2c.to_hf(
    PUBLIC / "stories260K.bin", PUBLIC / "tok512.bin", tmp_path / "hf"
  )
  reference = epath.Path(f"hf:{tmp_path / 'hf'}")
  ctx = reading.open_context(reference)
  params = reading.load_parameters(reference, ctx, "policy")
  start = np.asarray([ctx.tokenizer.start_ids], np.int32)
  found = generate.generate(
    ctx.policy,
    params,
    start,
    np.ones(start.shape, bool),
    np.zeros(1, np.int32),
    jax.random.key(0),
    choice.Sampling(
      max_tokens=256,
      stop_ids=ctx.stop_ids,
      pad_id=ctx.tokenizer.pad_id,
      temperature=0.0,
    ),
  )
  said = ctx.tokenizer.decode(np.asarray(found.tokens)[0])
  told = (PUBLIC / "stories260K.md").read_text()
  told = told.split("-t 0.0\n")[1].split("\n```")[0]
  assert said.strip() == told.strip()
