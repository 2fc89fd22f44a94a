"""A cloud in a folder: what tpu_scripts' tests put on PATH as `gcloud`.

  python fake_gcloud.py FOLDER ARGUMENTS...

Every call is a JSON line in FOLDER/calls.jsonl. FOLDER/scenario.json says what
goes wrong, FOLDER/state.json what there is. ssh really runs the command, in a
shell whose home is a folder a host, so that quoting and repetition are tried
and not only noted; the package's own command is played by `trainer.py` there.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

FOLDER = pathlib.Path(sys.argv[1])
ERRORS = {
  "quota": (
    "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sPreemptibleLitepodPerProject' has"
    " been exceeded. Limit: 0 in us-west4-a."
  ),
  "absent": "NOT_FOUND: Resource 'projects/p/queuedResources/x' was not found",
  "exists": "ALREADY_EXISTS: Resource already exists",
  "login": (
    "There was a problem refreshing your current auth tokens: invalid_grant\n"
    "Please run:\n\n  $ gcloud auth login\n\nto obtain new credentials."
  ),
  "internal": "INTERNAL: An internal error has occurred",
}


@contextlib.contextmanager
def state():
  """What there is, for nobody else in the meantime."""
  with open(FOLDER / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    path = FOLDER / "state.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    held = {"slices": {}, "nodes": {}, "counts": {}, "lives": 0} | held
    try:
      yield held
    finally:
      (FOLDER / "state.new").write_text(json.dumps(held))
      (FOLDER / "state.new").rename(path)


def scenario(key, default=None):
  return json.loads((FOLDER / "scenario.json").read_text()).get(key, default)


def refuse(kind):
  print(f"ERROR: (gcloud.fake) {ERRORS[kind]}", file=sys.stderr)
  raise SystemExit(1)


def count(held, what):
  """How often this happened before."""
  before = held["counts"].get(what, 0)
  held["counts"][what] = before + 1
  return before


def nth(what, number, default="ok"):
  """What the scenario's list says of the occurrence of that number."""
  given = scenario(what, [])
  return given[number] if number < len(given) else default


def create(name, flags):
  with state() as held:
    outcome = nth("create", count(held, "create"))
    if outcome == "quota":
      refuse("quota")
    nodes = [flags["node-id"]] if "node-id" in flags else []
    for number in range(int(flags.get("node-count", 0))):
      nodes.append(f"{flags['node-prefix']}-{number}")
    if name in held["slices"] or set(nodes) & set(held["nodes"]):
      refuse("exists")
    held["lives"] += 1
    for node in nodes:
      held["nodes"][node] = {
        "state": "READY",
        "life": held["lives"],
        "label": flags["labels"],
      }
    if outcome != "node only":
      held["slices"][name] = {"nodes": nodes, "looks": 0}
      states = nth("states", held["lives"] - 1, ["ACTIVE"])
      held["slices"][name]["states"] = states
  if outcome == "slow":
    time.sleep(1.5)
  if outcome in ("half", "node only"):
    refuse("internal")


def describe(name, flags):
  if "flatten" in flags:
    with state() as held:
      if name not in held["slices"]:
        refuse("absent")
      print("\n".join(held["slices"][name]["nodes"]))
    return
  with state() as held:
    found = held["slices"].get(name)
    if not found:
      refuse("absent")
    states = found["states"]
    print(states[min(found["looks"], len(states) - 1)] + "||")
    found["looks"] += 1


def delete(name, flags):
  with state() as held:
    if nth("delete", count(held, "delete")) == "fail":
      refuse("internal")
    if name not in held["slices"]:
      refuse("absent")
    assert "force" in flags
    for node in held["slices"].pop(name)["nodes"]:
      take_away(held, node)


def take_away(held, node):
  """Ends what runs on the hosts of a node, and their disks."""
  if node not in held["nodes"]:
    return
  life = held["nodes"].pop(node)["life"]
  for home in FOLDER.glob(f"hosts/{node}-*-life{life}"):
    for process in home.glob(".instruct_jax/*/process"):
      with contextlib.suppress(ProcessLookupError):
        os.killpg(int(process.read_text().split()[0]), signal.SIGKILL)
    (home / "gone").touch()


def home_of(name, flags):
  """The folder of a host; what preempts and what is silent happens here."""
  with state() as held:
    if name not in held["slices"]:
      refuse("absent")
    node = held["slices"][name]["nodes"][int(flags["node"])]
    life = held["nodes"][node]["life"]
  label = f"{node}-{flags['worker']}-life{life}"
  if label in scenario("silent", []):
    time.sleep(60)
    raise SystemExit(255)
  home = FOLDER / "hosts" / label
  home.mkdir(parents=True, exist_ok=True)
  return home


def ssh(name, flags):
  home = home_of(name, flags)
  if "on_host.sh report" in flags["command"]:
    with state() as held:
      number = count(held, "report")
      if number == scenario("preempt at report"):
        held["slices"][name]["states"] = ["SUSPENDED"]
        for node in held["slices"][name]["nodes"]:
          take_away(held, node)
  path = f"{FOLDER}/bin_of_hosts:/usr/bin:/bin"
  done = subprocess.run(
    ["bash", "-c", flags["command"]],
    cwd=home,
    env={"HOME": str(home), "PATH": path, "FAKE": str(FOLDER)},
    check=False,
  )
  raise SystemExit(done.returncode)


def scp(sources, flags):
  *files, target = sources
  home = home_of(target.rstrip(":"), flags)
  for file in files:
    shutil.copy(file, home)


def rsync(source, target, flags):
  del flags
  bucket = FOLDER / "buckets" / source.removeprefix("gs://")
  shutil.copytree(
    bucket,
    target,
    dirs_exist_ok=True,
    ignore=shutil.ignore_patterns("checkpoints"),
  )


def nodes(what, rest, flags):
  with state() as held:
    if what == "list":
      wanted = flags.get("filter", "labels.").removeprefix("labels.")
      found = [
        n for n, x in held["nodes"].items() if wanted in ("", x["label"])
      ]
      print("\n".join(found))
    elif rest[0] not in held["nodes"]:
      refuse("absent")
    elif what == "delete":
      take_away(held, rest[0])
    elif "networkEndpoints" in flags["format"]:
      print(scenario("hosts", 1))
    else:
      print(held["nodes"][rest[0]]["state"])


def main():
  words = [w for w in sys.argv[2:] if not w.startswith("--")]
  flags = dict(
    w[2:].partition("=")[::2] for w in sys.argv[2:] if w.startswith("--")
  )
  with state(), open(FOLDER / "calls.jsonl", "a") as calls:
    calls.write(json.dumps(sys.argv[2:]) + "\n")
  if (FOLDER / "logged_out").exists():
    refuse("login")
  match words:
    case ["compute", "tpus", "queued-resources", "create", name]:
      create(name, flags)
    case ["compute", "tpus", "queued-resources", "describe", name]:
      describe(name, flags)
    case ["compute", "tpus", "queued-resources", "delete", name]:
      delete(name, flags)
    case ["compute", "tpus", "queued-resources", "list"]:
      with state() as held:
        print("\n".join(f"{s},ACTIVE" for s in held["slices"]))
    case ["compute", "tpus", "queued-resources", "ssh", name]:
      ssh(name, flags)
    case ["compute", "tpus", "queued-resources", "scp", *sources]:
      scp(sources, flags)
    case ["compute", "tpus", "tpu-vm", what, *rest]:
      nodes(what, rest, flags)
    case ["storage", "rsync", source, target]:
      rsync(source, target, flags)
    case _:
      print(f"ERROR: unrecognized arguments: {words}", file=sys.stderr)
      raise SystemExit(2)


main()
