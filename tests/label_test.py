"""The door of people's labels: its commands, and what a stranger does wrong."""

import contextlib
import re
import sqlite3
import subprocess
import sys

import pytest

from instruct_jax import label
from instruct_jax.base import errors
from instruct_jax.collecting import commands, serving, store


@pytest.fixture
def folder(tmp_path):
  store.open_store(tmp_path / "labels").shut()
  return str(tmp_path / "labels")


def _token(printed):
  return re.search(r"/(?:invite|admin/enter)/([\w-]{43})\n", printed)[1]


def _whose(folder, token):
  opened = store.open_store(folder)
  found = opened.labeler_of(token)
  opened.shut()
  return found


def test_invite_prints_a_link_that_works(folder, capsys):
  label.main(["invite", f"--dir={folder}", "ann", "--group=held_out"])
  printed = capsys.readouterr().out
  assert printed.startswith("http://127.0.0.1:8000/invite/")
  found = _whose(folder, _token(printed))
  assert (found.name, found.group) == ("ann", "held_out")
  again = ["invite", f"--dir={folder}", "ann"]
  with pytest.raises(errors.UserError, match="there already"):
    label.main(again)
  label.main([*again, "--renew", "--url=https://labels.example"])
  renewed = capsys.readouterr().out
  assert renewed.startswith("https://labels.example/invite/")
  assert _whose(folder, _token(renewed)).name == "ann"
  assert _whose(folder, _token(printed)) is None


def test_invite_of_the_admin(folder, capsys):
  label.main(["invite", f"--dir={folder}", "--admin"])
  opened = store.open_store(folder)
  assert opened.is_admin(_token(capsys.readouterr().out))
  opened.shut()


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["invit"], "Did you mean 'invite'"),
    ([], "--dir=LABELS is missing"),
    (["--run=x"], "--dir"),
    (["--dri=x"], "--dir"),
    (["invite", "--dir=FOLDER"], "name a labeler"),
    (["invite", "--dir=FOLDER", "ann", "--admin"], "name a labeler"),
    (["invite", "--dir=FOLDER", "ann", "--group=trained"], "'training'"),
    (["invite", "--dir=FOLDER", "an", "--renew"], "unknown labeler 'an'"),
    (["invite", "--dir=FOLDER/none", "ann"], "has no labels.sqlite"),
    (["invite", "--dir=FOLDER", "ann", "--url=foo bar"], "--url=foo bar: http"),
    (["invite", "--dir=FOLDER", "ann", "--url=http://a/b"], "8000 is right"),
    (["backup", "--dir=FOLDER/none", "--out=x"], "has no labels.sqlite"),
    (["backup", "--dir=FOLDER", "--out=FOLDER/labels.sqlite"], "itself"),
    (["backup", "--dir=FOLDER", "--out=FOLDER/settings.toml"], "--overwrite"),
    (["--dir=FOLDER", "--port=99999"], "--port=99999: must be"),
    (["--dir=FOLDER", "--port=http"], "--port=http: must be"),
    (["--dir=FOLDER", "--samples=FOLDER/none.jsonl"], "none.jsonl"),
    (["--dir=FOLDER", "--prompts=FOLDER/none.jsonl"], "none.jsonl"),
    (["--dir=FOLDER", "--run=FOLDER/none", "--port=0"], "none"),
    (["--dir=gs://bucket/labels"], "a folder of this machine"),
    (["simulate", "--dir=FOLDER", "--labelers=0"], "--labelers=0: must be"),
  ],
)
def test_what_a_stranger_does_wrong_is_a_sentence(folder, arguments, said):
  given = [text.replace("FOLDER", folder) for text in arguments]
  with pytest.raises(errors.UserError, match=said):
    label.main(given)


def test_an_address_may_end_with_a_slash(folder, capsys):
  url = "https://labels.example.org/"
  label.main(["invite", f"--dir={folder}", "ann", f"--url={url}"])
  assert capsys.readouterr().out.startswith(f"{url}invite/")


def test_a_runs_folder_is_not_begun_in(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(errors.UserError, match=r"is a run's folder .* --run"):
    label.main([f"--dir={tmp_path}", "--port=0"])
  assert [x.name for x in tmp_path.iterdir()] == ["config.json"]


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.UserError, match="is a file, and must be a folder"):
    label.main([f"--dir={tmp_path / 'file'}"])


def test_a_port_that_is_taken_is_said_before_runs_sample(tmp_path):
  folder = tmp_path / "labels"
  with serving.bind("127.0.0.1", 0) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(errors.UserError, match="another program has it"):
      label.main([f"--dir={folder}", "--run=none", f"--port={port}"])


def test_start_fills_then_serves(folder, tmp_path, monkeypatch, capsys):
  prompts = tmp_path / "prompts.jsonl"
  prompts.write_text('{"prompt": "p"}\n')
  samples = tmp_path / "samples.jsonl"
  samples.write_text('{"prompt": "p", "responses": ["a", "b", "c"]}\n')
  served = []

  def serve(opened, *, host, port):
    labeler = opened.labeler_of(opened.invite("ann")).id
    opened.overrule(labeler, True)
    served.append((opened.progress(labeler).left, host, port))

  monkeypatch.setattr(serving, "serve", serve)
  label.main(
    [
      f"--dir={folder}",
      f"--prompts={prompts}",
      f"--samples={samples}",
      "--host=0.0.0.0",
      "--port=0",
    ]
  )
  assert served == [(2, "0.0.0.0", 0)]
  printed = capsys.readouterr().out
  assert "1 ranking task added" in printed
  assert "1 demonstration task added" in printed


def test_backup_into_a_folder(folder, tmp_path, capsys):
  home = tmp_path / "backups"
  home.mkdir()
  for more in ([], ["--overwrite"]):
    label.main(["backup", f"--dir={folder}", f"--out={home}", *more])
  with contextlib.closing(sqlite3.connect(home / "labels.sqlite")) as file:
    assert file.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
  with pytest.raises(errors.UserError, match="--overwrite"):
    label.main(["backup", f"--dir={folder}", f"--out={home}"])


@pytest.mark.parametrize("name", ["sqlalchemy", "starlette", "uvicorn"])
def test_missing_extra_is_named(folder, name):
  script = (
    f"import sys; sys.modules['{name}'] = None;"
    " from instruct_jax import label;"
    " from instruct_jax.base import command;"
    f" command.run(lambda: label.main(['invite', '--dir={folder}', 'ann']))"
  )
  done = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True
  )
  assert done.returncode == 2
  assert "pip install 'instruct_jax[label]'" in done.stderr
  assert "Traceback" not in done.stderr


def test_help_of_every_command(capsys):
  for name in ("", *label._COMMANDS):
    with pytest.raises(SystemExit) as caught:
      label.main([name, "--help"] if name else ["--help"])
    assert caught.value.code in (0, None)
    assert "--dir" in capsys.readouterr().out or name == "import"
  assert set(label._COMMANDS) >= {
    x for x in ("serve", "invite", "backup", "simulate") if hasattr(commands, x)
  }
