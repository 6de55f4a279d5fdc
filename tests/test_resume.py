"""Training that is taken up again in another process goes on bit for bit as if never interrupted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import autodiff as ad
import resuming
from autodiff import losses, nn, optim
from autodiff.checkpoints import CheckpointError, Checkpoints, load, save
from autodiff.learn import Calls, EarlyStopping, Learner, SaveCheckpoints
from resuming import OPTIMIZERS

HERE = Path(__file__).parent


def start(*arguments):
    code = f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]!r}; import resuming; resuming.main(*sys.argv[1:])"
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=os.environ | {"AUTODIFF_BACKEND": "numpy"})


def finish(process):
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def uninterrupted(name):
    made = resuming.learner(name)
    resuming.train(made, None, [resuming.Calls()])
    return resuming.result(made)


def same(path, expected):
    found = load(path)[0]
    assert list(found) == list(expected)
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x, err_msg=f"{path.name}: {name}")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """All optimizers, stopped within an epoch in one process, finished in another."""
    folder = tmp_path_factory.mktemp("resumed")
    finish(start("begin", folder, *OPTIMIZERS))
    for name in OPTIMIZERS:
        meta = Checkpoints(folder / name).latest()[1]
        assert (meta["epoch"], meta["batch"], meta["step"], meta["data"]["position"]) == (1, 3, 8, 3)
        assert meta["random"]["default"][1] > 0 and len(meta["random"]) == 2
    finish(start("finish", folder, *OPTIMIZERS))
    return folder


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_in_a_new_process(resumed, name):
    expected = uninterrupted(name)
    assert len(expected["history/loss"]) == 4
    same(resumed / f"{name}.safetensors", expected)


def test_a_later_stage_goes_on_too(tmp_path):
    """What was frozen in the stage before has counts of steps of its own."""
    x = np.random.default_rng(0).standard_normal((40, 3)).astype("float32")

    def stages(folder, stop):
        ad.random.seed(0)
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)).freeze("layers[0]")
        made = Learner(model, losses.mse, optim.Adam(0.1))
        made.fit(x, x[:, :1], batch_size=8, progress=False)
        model.unfreeze()
        made.fit(x, x[:, :1], epochs=2, batch_size=8, progress=False, callbacks=stop, checkpoint=folder)
        return made

    saver = SaveCheckpoints(tmp_path / "stopped", steps=1)
    stages(saver, Calls(on_batch_end=lambda made: made.step == 8 and made.stop()))
    whole = stages(tmp_path / "whole", ())
    made = Learner(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)), losses.mse, optim.Adam(0.1))
    made.fit(x, x[:, :1], epochs=2, batch_size=8, progress=False, checkpoint=tmp_path / "stopped", resume=True)
    assert made.step == whole.step == 15
    for name, w in whole.model.arrays().items():
        np.testing.assert_array_equal(made.model.arrays()[name].numpy(), w.numpy(), err_msg=name)


def test_killed_at_any_moment(tmp_path):
    """kill -9, again and again, until it is through."""
    files, kills = Checkpoints(tmp_path / "Adam"), 0
    for rest in (3, 9, None):
        process = start("slow", tmp_path, "Adam")
        reached = files.steps()[-1] if files.steps() else 0
        limit = time.monotonic() + 60
        while rest and process.poll() is None and not (files.steps() and files.steps()[-1] >= reached + rest):
            assert time.monotonic() < limit
            time.sleep(0.003)
        if rest and process.poll() is None:
            process.kill()
            process.communicate()
            kills += 1
        else:
            finish(process)
    assert kills == 2
    same(tmp_path / "Adam.safetensors", uninterrupted("Adam"))


def test_resuming_what_is_over_changes_nothing(tmp_path):
    made = resuming.learner("Adam")
    resuming.train(made, tmp_path)
    again = resuming.learner("Adam")
    resuming.train(again, tmp_path, resume=True)
    for name, x in resuming.result(made).items():
        np.testing.assert_array_equal(resuming.result(again)[name], x, err_msg=name)
    assert again.step == made.step == 20


def test_early_stopping_is_remembered(tmp_path):
    x, y = resuming.data()
    stop = {"epochs": 9, "batch_size": 20, "progress": False, "checkpoint": tmp_path}
    made, again = resuming.learner("SGD"), resuming.learner("SGD")
    stopped = made.fit(x, y, callbacks=EarlyStopping(monitor="accuracy", larger=False, patience=1), **stop).stopped
    assert 1 < made.epoch < 9
    more = again.fit(x, y, callbacks=EarlyStopping(monitor="accuracy", larger=False, patience=1), resume=True, **stop)
    assert again.step == made.step and more.stopped == stopped and more.rows == made.history.rows
    for name, a in made.model.arrays().items():
        np.testing.assert_array_equal(a.numpy(), again.model.arrays()[name].numpy(), err_msg=name)


def test_resuming_at_the_last_batch_of_an_epoch(tmp_path):
    made = resuming.learner("SGD")
    resuming.train(made, resuming.SaveCheckpoints(tmp_path, epochs=None, steps=5), [resuming.Calls(on_batch_end=lambda made: made.stop() if made.step == 9 else None)])
    assert Checkpoints(tmp_path).latest()[1]["batch"] == 5
    again = resuming.learner("SGD")
    resuming.train(again, resuming.SaveCheckpoints(tmp_path, epochs=None, steps=5), [resuming.Calls()], resume=True)
    for name, x in uninterrupted("SGD").items():
        np.testing.assert_array_equal(resuming.result(again)[name], x, err_msg=name)


def test_what_does_not_fit_is_said_and_nothing_is_changed(tmp_path):
    made = resuming.learner("Adam")
    resuming.train(made, tmp_path / "run")
    x, y = resuming.data()
    fresh = resuming.learner("Adam")
    before = resuming.result(fresh)
    with pytest.raises(ValueError, match="has checkpoints of step 20 already: pass resume=True"):
        resuming.train(fresh, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"not the data of .*rows was 32 and is 40, batch_size was 7 and is 8"):
        fresh.fit(x, y, batch_size=8, progress=False, checkpoint=tmp_path / "run", resume=True)
    other = resuming.learner("SGD")
    with pytest.raises(CheckpointError, match=r"SGD.*missing: 'slots/layers.*/velocity'.*unknown: .*/m'"):
        resuming.train(other, tmp_path / "run", resume=True)
    wide = Learner(nn.Sequential(nn.Linear(6, 9)), losses.cross_entropy, optim.Adam(0.1))
    made.save(tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"one: .*arrays of the model are not those.*layers\[0\].weight is float32 \(.*\), not float32 \(6, 9\)"):
        wide.load(tmp_path / "one")
    save(tmp_path / "foreign", {"a": np.zeros(3)})
    with pytest.raises(CheckpointError, match="foreign is not of a Learner"):
        fresh.load(tmp_path / "foreign")
    for name, a in resuming.result(fresh).items():
        assert name == "random" or (a == before[name]).all(), name
    assert fresh.step == 0 and not fresh.history.rows
    loaded = resuming.learner("Adam").load(tmp_path / "one")
    for name, a in resuming.result(made).items():
        np.testing.assert_array_equal(resuming.result(loaded)[name], a, err_msg=name)
    assert ad.random.default.state == tuple(load(tmp_path / "one")[1]["random"]["default"])
