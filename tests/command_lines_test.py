"""Bad command lines: exit code 2, one message, and nothing new on disk."""

import json
import os
import pathlib

import pytest

from tests import doors, run_folders

ROOT = pathlib.Path(__file__).parents[1]
EXPERIMENTS = f"{ROOT}/experiments"

# Files of somebody's own, in the folder where the commands are given.
TEXTS = {
  "syntax.py": "x = 1\ndef get_config(:\n  pass\n",
  "indent.py": "def get_config():\nreturn 1\n",
  "imports.py": "import no_such_module\n",
  "fails.py": "def get_config(variant=''):\n  return 1 / 0\n",
  "leaves.py": "import sys\nsys.exit(3)\n",
  "nothing.py": "def get_config():\n  pass\n",
  "other.py": "def get_config():\n  return {'job': 'train'}\n",
  "empty.py": "",
  "bare.py": "from ml_collections import ConfigDict\n"
  "def get_config():\n  return ConfigDict({'job': 'train'})\n",
  "locked.py": "from experiments import sft\n"
  "def get_config(variant='test'):\n"
  "  config = sft.get_config(variant)\n"
  "  config.no_such_key = 1\n"
  "  return config\n",
  "zeros.py": "\0\0",
  "latin.py": "# \xe9\n",
  "settings.json": "{}",
  "folder.py/x": "",
  "a_file": "text",
  "empty.jsonl": "",
  "broken.jsonl": '{"prompt": "a"}\n{"prompt": \n',
  "keyless.jsonl": '{"colour": "red"}\n',
  "prompts.jsonl": '{"prompt": "a"}\n{"prompt": "b"}\n',
  "numbers.jsonl": '{"prompt": 7}\n',
  "hf/config.json": "{}",
  "not_a_run/readme": "",
  "zip.jsonl.gz": "no gzip",
}

MAIN, SAMPLE, CONVERT, SCORE, EVALUATE = (
  f"instruct_jax.{name}"
  for name in ("main", "sample", "convert", "score", "evaluate")
)
DATA = "instruct_jax.data"
TEST = f"--config={EXPERIMENTS}/sft.py:test"
RUN = "--run=runs/sft-test"

# The command, and words that its message must have.
LINES = [
  # main: the experiment
  (f"{MAIN}", "--config experiments/ppo_ptx.py"),
  (f"{MAIN} --config=", "file experiments/ppo_ptx.py"),
  (f"{MAIN} --config", "file experiments/ppo_ptx.py"),
  (f"{MAIN} --config=no/such.py", "such.py no"),
  (f"{MAIN} --config=ppo_ptc.py", "ppo_ptc.py experiments/ppo_ptx.py"),
  (f"{MAIN} --config=ppo_ptx.py", "ppo_ptx.py experiments/ppo_ptx.py"),
  (f"{MAIN} --config=a=b.py", "a=b.py"),
  (f"{MAIN} --config=~/ppo.py", "ppo.py ~"),
  (f"{MAIN} --config={EXPERIMENTS}", "folder file"),
  (f"{MAIN} --config=folder.py", "folder file"),
  (f"{MAIN} --config=.", "file"),
  (f"{MAIN} --config=settings.json", "settings.json Python"),
  (f"{MAIN} --config=runs/sft-test", "folder"),
  (f"{MAIN} --config={TEST[9:]}x", "variant testx test"),
  (f"{MAIN} --config=syntax.py", "syntax.py:2 SyntaxError get_config(:"),
  (f"{MAIN} --config=indent.py", "indent.py:2 IndentationError return"),
  (f"{MAIN} --config=zeros.py", "zeros.py null"),
  (f"{MAIN} --config=imports.py", "imports.py:1 no_such_module import"),
  (f"{MAIN} --config=fails.py", "fails.py:2 ZeroDivisionError 1 / 0"),
  (f"{MAIN} --config=leaves.py", "leaves.py:2 SystemExit sys.exit(3)"),
  (f"{MAIN} --config=locked.py", "locked.py:4 no_such_key"),
  (f"{MAIN} --config=empty.py", "empty.py get_config"),
  (f"{MAIN} --config={EXPERIMENTS}/common.py", "common.py get_config"),
  (f"{MAIN} --config=nothing.py", "nothing.py nothing ConfigDict"),
  (f"{MAIN} --config=nothing.py:tiny", "nothing.py variant :tiny"),
  (f"{MAIN} --config=other.py", "other.py dict ConfigDict"),
  (f"{MAIN} --config=bare.py", "bare.py experiment common"),
  # main: flags and keys
  (f"{MAIN} {TEST} --workdri=x", "--workdri --workdir"),
  (f"{MAIN} {TEST} surplus", "surplus --name=value"),
  (f"{MAIN} {TEST} --config.sed=1", "sed seed"),
  (f"{MAIN} {TEST} --config.seed=one", "seed one"),
  (f"{MAIN} {TEST} --config.seed=-1", "seed -1"),
  (f"{MAIN} {TEST} --config.epochs=2.5", "epochs 2.5"),
  (f"{MAIN} {TEST} --config.keep_epochs=perhaps", "keep_epochs perhaps"),
  (f"{MAIN} {TEST} --nowait=perhaps", "nowait perhaps"),
  (f"{MAIN} {TEST} --keep_old=-1", "--keep_old=-1"),
  (f"{MAIN} {TEST} --workdir=", "--workdir"),
  (f"{MAIN} {TEST} --workdir=a_file", "a_file"),
  (f"{MAIN} {TEST} --workdir=a_file/runs", "a_file"),
  (f"{MAIN} {TEST} --workdir=/dev/null/runs", "/dev/null"),
  (f"{MAIN} {TEST} --config.needs.policy=runs/none", "needs.policy runs/none"),
  (f"{MAIN} {TEST} --config.needs.policy=not_a_run", "needs.policy not_a_run"),
  (f"{MAIN} {TEST} --config.needs.policy=hf:none", "none"),
  (f"{MAIN} {TEST} --config.needs.policy=runs/rm-test", "needs.policy reward"),
  (f"{MAIN} {TEST} --config.needs.policy=none.py", "none.py"),
  (f"{MAIN} {TEST} --config.pretrained=hf:hf", "hf"),
  (f"{MAIN} {TEST} --config.algorithm=stf", "stf sft"),
  (f"{MAIN} {TEST} --config.evaluation.suite=all", "suite all"),
  (f"{MAIN} {TEST} --config.model.dtype=float31", "dtype float31"),
  (f"{MAIN} {TEST} --config.data.source=nowhere", "nowhere"),
  (f"{MAIN} {TEST} --config.mesh.data=0", "mesh.data"),
  (f"{MAIN} {TEST} --config.mesh.data=64", "mesh"),
  (f"{MAIN} {TEST} --config.optimizer.policy.learning_rate=nan",
   "learning_rate nan"),
  (f"{MAIN} {TEST} --config.optimizer.policy.learning_rate=-1",
   "learning_rate -1"),
  (f"{MAIN} {TEST} --config.optimizer.policy.b1=2", "b1 2"),
  (f"{MAIN} {TEST} --config.model.dropout=1.5", "dropout 1.5"),
  (f"{MAIN} {TEST} --config.lora.rank=-1", "lora.rank -1"),
  (f"{MAIN} {TEST} --config.lora.rank=9999", "lora.rank 9999 most"),
  (f"{MAIN} {TEST} --config.lora.rank=4 --config.lora.targets=qeury",
   "lora.targets qeury query"),
  (f"{MAIN} {TEST} --config.freeze=nothing_of_it", "freeze nothing_of_it"),
  (f"{MAIN} {TEST} --config.freeze=policy", "freeze policy"),
  (f"{MAIN} --config={EXPERIMENTS}/pretrain.py:test --config.lora.rank=4",
   "lora.rank needs.policy"),
  (f"{MAIN} --config={EXPERIMENTS}/ppo.py:test --config.lora.rank=4"
   " --config.lora.dropout=0.1", "lora.dropout ratio"),
  (f"{MAIN} --config={EXPERIMENTS}/ppo.py:test --config.rl.gae_lambda=-0.5",
   "gae_lambda -0.5"),
  (f"{MAIN} --config={EXPERIMENTS}/sft.py:files", "data.pretraining"),
  (f"{MAIN} --config={EXPERIMENTS}/sft.py:files"
   " --config.data.pretraining=none.jsonl", "none.jsonl"),
  (f"{MAIN} --config={EXPERIMENTS}/sft.py:1.3b", "pretrain"),
  # sample
  (f"{SAMPLE}", "--run runs/ppo_ptx-tiny"),
  (f"{SAMPLE} --run=", "--run"),
  (f"{SAMPLE} --run=none --prompt=a", "none"),
  (f"{SAMPLE} --run=a_file --prompt=a", "a_file"),
  (f"{SAMPLE} --run=not_a_run --prompt=a", "not_a_run"),
  (f"{SAMPLE} --run=hf:none --prompt=a", "none"),
  (f"{SAMPLE} --run=runs/dataset-test --prompt=a", "dataset-test"),
  (f"{SAMPLE} --run=runs/rm-test --prompt=a", "rm-test"),
  (f"{SAMPLE} {RUN} --prompt=", "--prompt empty"),
  (f"{SAMPLE} {RUN} --prompt=a --prompts_file=prompts.jsonl", "one"),
  (f"{SAMPLE} {RUN} --prompts_file=none.txt", "--prompts_file none.txt"),
  (f"{SAMPLE} {RUN} --prompts_file=empty.jsonl", "--prompts_file empty"),
  (f"{SAMPLE} {RUN} --prompts_file=broken.jsonl", "broken.jsonl:2"),
  (f"{SAMPLE} {RUN} --prompts_file=keyless.jsonl", "keyless.jsonl prompt"),
  (f"{SAMPLE} {RUN} --prompts_file=not_a_run", "not_a_run"),
  (f"{SAMPLE} {RUN} --prompt=a --n=0", "--n=0"),
  (f"{SAMPLE} {RUN} --prompt=a --n=two", "--n two"),
  (f"{SAMPLE} {RUN} --prompt=a --temperature=-1", "--temperature=-1"),
  (f"{SAMPLE} {RUN} --prompt=a --temperature=nan", "--temperature=nan"),
  (f"{SAMPLE} {RUN} --prompt=a --top_p=0", "--top_p=0"),
  (f"{SAMPLE} {RUN} --prompt=a --top_k=-3", "--top_k=-3"),
  (f"{SAMPLE} {RUN} --prompt=a --seed=99999999999", "--seed 99999999999"),
  (f"{SAMPLE} {RUN} --prompt=a --max_tokens=-1", "--max_tokens=-1"),
  (f"{SAMPLE} {RUN} --prompt=a --max_tokens=1000000000", "--max_tokens"),
  (f"{SAMPLE} {RUN} --prompt=a --greedy --temperature=1", "--greedy"),
  (f"{SAMPLE} {RUN} --promt=a", "--promt --prompt"),
  (f"{SAMPLE} {RUN} what", "what --name=value"),
  # score
  (f"{SCORE}", "--task"),
  (f"{SCORE} --task=drop", "--samples"),
  (f"{SCORE} --task=drop --samples=", "--samples"),
  (f"{SCORE} --task=drop --samples=none.csv", "none.csv"),
  (f"{SCORE} --task=drop --samples=not_a_run", "not_a_run folder"),
  (f"{SCORE} --task=drop --samples=prompts.jsonl",
   'prompts.jsonl:1 "ref_text" --column prompt'),
  (f"{SCORE} --task=drop --samples=broken.jsonl", "broken.jsonl:1"),
  (f"{SCORE} --task=drop --samples=zip.jsonl.gz", "zip.jsonl.gz"),
  (f"{SCORE} --task=dorp --samples=prompts.jsonl", "dorp drop"),
  (f"{SCORE} --task=drop --samples=prompts.jsonl more", "more"),
  # evaluate
  (f"{EVALUATE}", "--data nothing"),
  (f"{EVALUATE} --data=none --out=x", "none folder"),
  (f"{EVALUATE} --data=not_a_run --out=x", "nothing there"),
  (f"{EVALUATE} --sets=squadv3 --out=x", "squadv3 squadv2"),
  (f"{EVALUATE} --file=squadv2=none.json --out=x", "none.json"),
  (f"{EVALUATE} --file=squadv2 --out=x", "SET.NAME=VALUE"),
  (f"{EVALUATE} --file=squadv2.train=a_file --out=x", "train items"),
  (f"{EVALUATE} --set_option=squadv2.shoots=1 --out=x", "shoots shots"),
  (f"{EVALUATE} --sets=squadv2 --file=squadv2=a_file", "--out"),
  (f"{EVALUATE} --sets=squadv2 --file=squadv2=a_file --out=x", "--run"),
  (f"{EVALUATE} --sets=squadv2 --file=squadv2=a_file --out=x --run=none",
   "none run"),
  (f"{EVALUATE} --sets=squadv2 --file=squadv2=a_file --out=x --run=hf:none",
   "none"),
  (f"{EVALUATE} --limit=-1", "--limit=-1"),
  (f"{EVALUATE} --data=a_file --out=x", "--data=a_file folder"),
  (f"{EVALUATE} --sets=squadv2 --set_option=sst2.shots=1", "sst2 squadv2"),
  (f"{EVALUATE} --set_option=squadv2.shots=x", "squadv2.shots=x number"),
  (f"{EVALUATE} --sets=squadv2 --file=squadv2=a_file --out=x {RUN}"
   " --scorer=runs/rm-test", "--scorer --best_of"),
  (f"{EVALUATE} --sets=squadv2 --file=squadv2=a_file --out=x {RUN}"
   " --combine=worst", "--combine --scorer"),
  (f"{EVALUATE} --template=chat --sets=squadv2 --file=squadv2=a_file --out=x"
   f" {RUN}", "chat own none"),
  (f"{EVALUATE} --sets=squadv2 --file=squadv2=a_file --out=x {RUN}"
   " --best_of=2 --scorer=runs/sft-test", "--scorer policy reward"),
  (f"{EVALUATE} --sets=squadv2 --file=squadv2=a_file --out=x {RUN}"
   " --best_of=2 --scorer=none", "--scorer none"),
  (f"{EVALUATE} --set_option=preference.jugde=world --out=x", "jugde judge"),
  (f"{EVALUATE} what", "what --name=value"),
  # convert
  (f"{CONVERT}", "SOURCE TARGET"),
  (f"{CONVERT} runs/sft-test", "TARGET"),
  (f"{CONVERT} runs/sft-test hf:out more", "more"),
  (f"{CONVERT} runs/sft-test runs/other", "hf:/path"),
  (f"{CONVERT} hf:hf hf:out", "hf:/path"),
  (f"{CONVERT} runs/none hf:out", "runs/none"),
  (f"{CONVERT} hf:none runs/out", "none"),
  (f"{CONVERT} hf:hf runs/out", "hf safetensors"),
  (f"{CONVERT} runs/sft-test hf:out --dtype=int8", "dtype int8 bfloat16"),
  (f"{CONVERT} runs/sft-test hf:out --role=king", "role king"),
  (f"{CONVERT} runs/sft-test hf:out --adapters", "sft-test no adapters"),
  (f"{CONVERT} runs/sft-test hf:out --adapters --base=", "--base"),
  (f"{CONVERT} runs/sft-test hf:out --shard_gb=0", "--shard_gb=0"),
  (f"{CONVERT} runs/sft-test hf:a_file", "a_file"),
  (f"{CONVERT} runs/sft-test hf:a_file/out", "a_file"),
  (f"{CONVERT} runs/dataset-test hf:out", "dataset-test"),
  (f"{CONVERT} llama2c:a_file hf:out", "llama2c:MODEL.bin,TOKENIZER.bin"),
  (f"{CONVERT} llama2c:a_file,a_file hf:out", "a_file"),
  (f"{CONVERT} llama2c:none,a_file hf:out", "none"),
  # data
  (f"{DATA}", "inputs"),
  (f"{DATA} none.jsonl", "none.jsonl"),
  (f"{DATA} no*.jsonl", "no*.jsonl"),
  (f"{DATA} not_a_run", "not_a_run"),
  (f"{DATA} empty.jsonl", "empty.jsonl"),
  (f"{DATA} broken.jsonl", "broken.jsonl:2"),
  (f"{DATA} keyless.jsonl", "keyless.jsonl:1 colour --kind"),
  (f"{DATA} numbers.jsonl", "numbers.jsonl:1 prompt"),
  (f"{DATA} zip.jsonl.gz", "zip.jsonl.gz"),
  (f"{DATA} prompts.jsonl --kind=prompt", "--kind prompt prompts"),
  (f"{DATA} prompts.jsonl --kind=rankings", "prompts.jsonl:1 responses"),
  (f"{DATA} prompts.jsonl --samples=-1", "--samples=-1"),
  (f"{DATA} prompts.jsonl --samples=x", "--samples x"),
  (f"{DATA} prompts.jsonl --prompt_length=-1", "--prompt_length=-1"),
  (f"{DATA} prompts.jsonl --test_fraction=2 --out=out", "test_fraction"),
  (f"{DATA} prompts.jsonl --per_user=-1 --out=out", "per_user"),
  (f"{DATA} prompts.jsonl --tokenizer=none", "none"),
  (f"{DATA} prompts.jsonl --template=none", "template none"),
  (f"{DATA} prompts.jsonl --out=a_file", "a_file"),
  (f"{DATA} prompts.jsonl --uot=x", "--uot"),
  (f"{DATA} tfds:no_such_set", "no_such_set"),
  # data convert
  (f"{DATA} convert", "format"),
  (f"{DATA} convert hh prompts.jsonl", "--out"),
  (f"{DATA} convrt", "convrt convert"),
  (f"{DATA} convert pairs prompts.jsonl --out=x.jsonl", "--a=KEY --b=KEY"),
  (f"{DATA} convert hhh prompts.jsonl --out=x.jsonl", "hhh hh"),
  (f"{DATA} convert no.such prompts.jsonl --out=x.jsonl", "no.such"),
  (f"{DATA} convert hh none.jsonl --out=x.jsonl", "none.jsonl"),
  (f"{DATA} convert hh broken.jsonl --out=x.jsonl", "broken.jsonl"),
  (f"{DATA} convert hh keyless.jsonl --out=x.jsonl", "keyless.jsonl:1"),
  (f"{DATA} convert hh prompts.jsonl --out=x.xz", "x.xz .jsonl.gz"),
  (f"{DATA} convert alpaca prompts.jsonl --out=x.jsonl --kind=rankings",
   "rankings prompts"),
  (f"{DATA} convert alpaca prompts.jsonl --out=x.jsonl --pairs", "--pairs"),
  (f"{DATA} convert jsonl prompts.jsonl --out=prompts.jsonl",
   "prompts.jsonl"),
  (f"{DATA} convert jsonl prompts.jsonl --out=./prompts.jsonl",
   "prompts.jsonl"),
  (f"{DATA} convert jsonl prompts.jsonl --out=a_file", "a_file .jsonl"),
  (f"{DATA} convert jsonl prompts.jsonl --out=a_file/x.jsonl", "a_file"),
  (f"{DATA} convert jsonl prompts.jsonl --out=not_a_run", "not_a_run"),
  # figures
  ("instruct_jax.figures clams", "clams claims"),
  ("instruct_jax.figures --runs=none --out=o", "none folder"),
  ("instruct_jax.figures --runs=not_a_run --out=o", "not_a_run results.json"),
  ("instruct_jax.figures --runs=a_file --out=o", "a_file folder"),
  ("instruct_jax.figures --out=o", "--runs"),
  ("instruct_jax.figures notebooks --out=a_file", "a_file folder"),
  ("instruct_jax.figures claims --format=jsn", "--format jsn json"),
  ("instruct_jax.figures claims --runs=none", "none"),
  ("instruct_jax.figures claims --readme=none.md", "--readme=none.md"),
  ("instruct_jax.figures claims --readme=a_file", "--readme=a_file table"),
  ("instruct_jax.figures expected --run=none", "--run=none"),
  ("instruct_jax.figures expected --run=runs/sft-test", "runs/sft-test"),
  ("instruct_jax.figures expected --format=json", "--format"),
  # plan
  ("instruct_jax.plan", "--config --topology"),
  (f"instruct_jax.plan {TEST}", "--topology v5e:4x4"),
  (f"instruct_jax.plan {TEST} --topology=v5e:4x5", "v5e:4x5 v5e:4x4"),
  (f"instruct_jax.plan {TEST} --topology=h100", "h100:8"),
  (f"instruct_jax.plan {TEST} --topology=h100:8 --slices=2", "--slices=2"),
  (f"instruct_jax.plan {TEST} --topology=v5e:2x2 --slices=0", "--slices=0"),
  (f"instruct_jax.plan {TEST} --topology=h100:4 --only=rm_updat", "sft_update"),
  (f"instruct_jax.plan {TEST} --topology=h100:4 --config.mesh.fsdp=3",
   "--config.mesh.fsdp=4"),
  (f"instruct_jax.plan --config={EXPERIMENTS}/dataset.py:test"
   " --topology=h100:4", "dataset.py"),
  # experiments and benchmarks
  ("experiments.story_prompts --help_me", "--help_me"),
  ("experiments.differences surplus", "surplus"),
  ("benchmarks.results --run=x", "--run=x"),
  ("benchmarks.results --runs=none", "--runs=none"),
  ("benchmarks.importing --gigabytes=much", "--gigabytes much"),
  ("benchmarks.importing --gigabytes=-1", "--gigabytes=-1"),
  ("benchmarks.importing --rounds=0", "--rounds=0"),
  ("benchmarks.importing --once=theirs", "--once theirs"),
  ("benchmarks.memory --target=v6", "--target v6"),
  ("benchmarks.memory --only=scorin_g", "scorin_g scoring"),
  ("benchmarks.memory --code=none", "--code=none"),
  ("benchmarks.memory --rows=0", "--rows=0"),
  ("benchmarks.tokenization", "--tokenizer=FOLDER"),
  ("benchmarks.tokenization --tokenizer=none", "none"),
  ("benchmarks.tokenization --tokenizer=runs/dataset-test"
   " --text=none", "--text=none"),
  ("benchmarks.tokenization --repeats=0", "--repeats=0 must be"),
  ("benchmarks.data_pipeline", "--demonstrations=FILE"),
  ("benchmarks.data_pipeline --demonstrations=none.jsonl", "none.jsonl"),
  ("benchmarks.data_pipeline --batch=0", "--batch=0"),
  ("benchmarks.data_pipeline --demonstrations=prompts.jsonl",
   "prompts.jsonl:1 response"),
  ("benchmarks.run --suite=genration", "genration generation"),
  ("benchmarks.run --peers=trll", "trll trl"),
  ("benchmarks.run --repeats=0", "--repeats=0 must be"),
  ("benchmarks.run --suite=smoke --out=a_file/x.json", "a_file"),
  ("benchmarks.generation", "--parent"),
  ("benchmarks.generation --parent=none", "--parent=none checkout"),
  ("benchmarks.generation --parent=. --repeats=0", "--repeats=0 must be"),
  ("benchmarks.chain --run=none", "none"),
  ("benchmarks.chain --run=runs/sft-test", "--run=runs/sft-test PPO"),
  ("benchmarks.chain --repeats=x", "--repeats x"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  home = tmp_path_factory.mktemp("somebody")
  for name, text in TEXTS.items():
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(text, encoding="latin-1")
  run_folders.dataset(home / "runs")
  run_folders.make(home / "runs", "sft")
  run_folders.make(home / "runs", "rm")
  return home


@pytest.fixture(scope="module")
def house(tmp_path_factory):
  with doors.opened(tmp_path_factory.mktemp("outputs")) as opened:
    yield opened


def there(folder):
  """Everything in a folder: its path, size and time."""
  return {
    str(path): (info.st_size, info.st_mtime_ns)
    for path in (folder, *folder.rglob("*"))
    if (info := os.lstat(path))
  }


@pytest.mark.parametrize(("line", "words"), LINES, ids=[x for x, _ in LINES])
def test_a_bad_command_line(line, words, folder, house):
  before = there(folder)
  done = house.run(folder, *line.split(" "))
  assert done.code == 2, done
  assert done.out == ""
  assert "Traceback" not in done.err
  message = done.err[done.err.index("error: ") :]
  assert done.err.count("error: ") == 1
  for word in words.split():
    assert word in message, (word, message)
  assert there(folder) == before


def test_people_s_files_need_no_model(tmp_path, house):
  """Two sets at once, by what their files may be called."""
  ranked = {
    "prompt": "p",
    "responses": ["one", "two"],
    "models": ["a", "b"],
    "ranks": [1, 2],
    "ratings": [7, 3],
  }
  for name in ("preference_rankings.jsonl", "likert.jsonl"):
    (tmp_path / name).write_text(json.dumps(ranked) + "\n")
  line = f"{EVALUATE} --data=. --out=out --sets=preference,likert"
  done = house.run(tmp_path, *line.split(" "))
  assert done.code == 0, done.err
  for part in ("preference: Strengths", "likert: Overall quality"):
    assert part in done.out
  results = json.loads((tmp_path / "out" / "results.json").read_text())
  assert results["models"] == {}
  rows = results["sets"]["preference"]["tables"]["win_rates"]
  assert (rows[0]["subject"], rows[0]["value"]) == ("b", 0.0)
  page = (tmp_path / "out" / "report.html").read_text()
  assert "Evaluation of preference, likert" in page
