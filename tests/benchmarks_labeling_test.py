"""The load on the labelling server: what it finds, and a short one."""

import json
import random

import pytest

pytest.importorskip("uvicorn")
from benchmarks import label_clients, labeling
from instruct_jax.collecting import kinds, store

SECONDS = 20


def test_a_ranking_of_a_load_is_an_answer():
  rng = random.Random(0)
  for count in (4, 9):
    answer = label_clients.ranking(rng, count)
    content = {"prompt": "p", "responses": [str(n) for n in range(count)]}
    assert kinds.check("ranking", content, answer) == answer


def test_what_is_lost_doubled_or_changed_is_found(tmp_path):
  """Three labelers, one answer each: one of it is lost, one was changed."""
  folder = tmp_path / "labels"
  tokens = labeling.fill(folder, 3, 3)
  opened, told = store.open_store(folder), []
  rng = random.Random(1)
  for number, token in enumerate(tokens):
    one, labeler = label_clients.Told(), opened.labeler_of(token)
    given = opened.next_assignment(labeler.id)
    answer = label_clients.ranking(rng, labeling.K)
    one.saved[f"submission-{number}"] = answer
    if number:
      opened.save(
        labeler.id,
        given.id,
        f"submission-{number}",
        kinds.unshuffle(answer, given.display),
        1.0,
      )
    told.append(one)
  found = labeling.compare(folder, told)
  assert found == {
    "lost": 1, "doubled": 0, "unseen": 0, "handed_out_too_often": 0
  }  # fmt: skip
  told[1].saved["submission-1"]["ratings"][0] %= 7
  told[1].saved["submission-1"]["ratings"][0] += 1
  told[2].saved.clear()
  found = labeling.compare(folder, told)
  assert (found["lost"], found["unseen"]) == (2, 1)
  with opened.writing() as connection:
    connection.exec_driver_sql(
      "INSERT INTO answers SELECT 9, assignment_id, 'submission-9', answer,"
      " seconds, sensitive, saved_at, undone_at FROM answers LIMIT 1"
    )
  assert labeling.compare(folder, told)["doubled"] == 1
  opened.shut()


@pytest.mark.slow
def test_forty_labelers_at_once_and_a_kill(tmp_path):
  found = labeling.measure(
    tmp_path / "labels", tasks=3000, labelers=40, seconds=SECONDS, think=1.0
  )
  print(json.dumps(found))
  assert found["answers_saved"] > 10 * SECONDS
  assert (found["lost"], found["doubled"], found["unseen"]) == (0, 0, 0)
  assert found["handed_out_too_often"] == found["refused"] == 0
  assert found["sent_again"] > 0  # the server was away
  assert found["tracebacks"] == 0
  assert found["page_median_ms"] < 100
