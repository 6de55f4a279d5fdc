"""A small training that is run, interrupted and taken up again in processes of their own:
`python resuming.py begin|finish|slow FOLDER OPTIMIZER...`. `begin` stops within the second epoch;
`slow` waits to be killed."""

import sys
import time

import numpy as np

import autodiff as ad
from autodiff import losses, nn, optim
from autodiff.checkpoints import save
from autodiff.learn import Calls, EarlyStopping, Learner, SaveCheckpoints

SCHEDULE = optim.schedules.cosine(0.01, 30)
OPTIMIZERS = {
    "SGD": lambda: optim.SGD(SCHEDULE, momentum=0.9, nesterov=True),
    "Adam": lambda: optim.Adam(SCHEDULE),
    "AdamW": lambda: optim.AdamW(0.01),
    "RMSprop": lambda: optim.RMSprop(0.01),
    "Adagrad": lambda: optim.Adagrad(0.01),
    "Adadelta": lambda: optim.Adadelta(1.0),
    "Lion": lambda: optim.Lion(0.001),
    "Muon": lambda: optim.Muon(0.01),
    "LBFGS": lambda: optim.LBFGS(0.1),
    "Accumulate": lambda: optim.Accumulate(optim.Adam(SCHEDULE), 2),
    "MixedPrecision": lambda: optim.MixedPrecision(optim.Adam(0.01), scale=4.0, interval=3),
}


def learner(name):
    dtype = "float16" if name == "MixedPrecision" else "float32"
    ad.random.seed(5)
    rng = ad.random.Generator(3)
    model = nn.Sequential(
        nn.Linear(6, 8, dtype=dtype),
        nn.BatchNorm(8, dtype=dtype),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Dropout(0.2, rng=rng),
        nn.Linear(8, 3, dtype=dtype),
    )
    return Learner(model, losses.cross_entropy, OPTIMIZERS[name](), metrics=["accuracy", "f1"], seed=7)


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)).astype("float32")
    return x, (x @ rng.standard_normal((6, 3))).argmax(axis=1)


def train(made, saver, calls=(), resume=False):
    x, y = data()
    stop = EarlyStopping(patience=50)
    return made.fit(x, y, epochs=4, batch_size=7, validation=0.2, callbacks=[stop, *calls], progress=False, checkpoint=saver, resume=resume)


def result(made):
    """Everything that training left, as one dictionary of arrays."""
    found = {name: np.asarray(x.numpy()) for name, x in made.model.arrays().items()}
    found |= {f"state/{k}": np.asarray(v.numpy()) for k, v in made.optimizer.state_arrays(made.state).items()}
    found |= {f"history/{name}": np.asarray(made.history[name]) for name in made.history.names}
    found["random"] = np.asarray([*ad.random.default.state, *made.model.layers[4].rng.state])
    return found


def stop(made):
    if made.step == 8:
        made.stop()


CALLS = {"begin": [Calls(on_batch_end=stop)], "finish": [Calls()], "slow": [Calls(on_batch_end=lambda made: time.sleep(0.03))]}


def main(what, folder, *names):
    for name in names:
        made, where = learner(name), f"{folder}/{name}"
        train(made, SaveCheckpoints(where, steps=1 if what == "slow" else 4), CALLS[what], resume=True)
        if what != "begin":
            save(f"{folder}/{name}.safetensors", result(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
