"""Modules: used as objects on the plain tape and as values of transforms, jit and trees."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

import autodiff as ad
from autodiff import nn, optim, tree
from autodiff.nn.module import Buffer, LayerError, Module, parameter, watch


class Dense(Module):
    def __init__(self, inputs, outputs, seed=0):
        self.weight = parameter(np.random.default_rng(seed).standard_normal((inputs, outputs)))
        self.bias = parameter(np.zeros(outputs))

    def forward(self, x):
        if x.shape[-1] != self.weight.shape[0]:
            raise LayerError(f"x has {x.shape[-1]} columns, weight has shape {self.weight.shape}")
        return x @ self.weight + self.bias


class Running(Module):
    def __init__(self, width):
        self.mean = Buffer(ad.zeros(width))
        self.count = Buffer(ad.asarray(0))

    def forward(self, x):
        if self.training:
            self.mean.write(0.5 * self.mean.value + 0.5 * ad.mean(x, axis=0))
            self.count.write(self.count.value + 1)
        return x - self.mean.value


class Net(Module):
    def __init__(self, power=2):
        self.layers = [Dense(3, 4, 1), Running(4), Dense(4, 2, 2)]
        self.power = power

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x**self.power


class Tied(Module):
    def __init__(self):
        self.first = Dense(3, 3, 1)
        self.second = Dense(3, 3, 2)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(ad.tanh(self.first(x)))


X = np.random.default_rng(5).standard_normal((5, 3))


def loss(model, x):
    return ad.mean(model(x) ** 2)


def names(model):
    return list(model.named_parameters())


def test_names():
    model = Net()
    assert names(model) == [f"layers[{i}].{n}" for i in (0, 2) for n in ("weight", "bias")]
    assert list(model.arrays()) == ["layers[0].weight", "layers[0].bias", "layers[1].mean", "layers[1].count", "layers[2].weight", "layers[2].bias"]
    assert list(model.named_modules()) == ["", "layers[0]", "layers[1]", "layers[2]"]
    assert names(Tied()) == ["first.weight", "first.bias", "second.bias"]
    assert tree.paths(model)[0] == ".layers[0].weight" and len(tree.paths(model, held=False)) == 4


def test_the_tape_and_the_value_give_the_same_gradients():
    tape, value = Net(), Net()
    loss(tape, X).backward()
    got = ad.grad(loss)(value, X)
    for name, w in tape.named_parameters().items():
        np.testing.assert_allclose(w.grad, got.arrays()[name].numpy(), rtol=1e-12)
    np.testing.assert_array_equal(tape.layers[1].mean.value, value.layers[1].mean.value)
    assert value.layers[1].count.value.item() == 1 and got.layers[1].mean.value is None


def test_a_compiled_step_takes_and_gives_models():
    def step(model, x):
        value, grads = ad.value_and_grad(loss)(model, x)
        return tree.map(lambda w, g: w - 0.1 * g, model, grads, held=False), value

    fast, plain, compiled = Net(), Net(), ad.jit(step)
    for _ in range(3):
        fast, a = compiled(fast, X)
        plain, b = step(plain, X)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
    assert compiled.cache_info().misses == 1
    for name, x in plain.arrays().items():
        np.testing.assert_allclose(fast.arrays()[name].numpy(), x.numpy(), rtol=1e-12, err_msg=name)
    assert fast.layers[1].count.value.item() == 3
    assert fast.layers[0].weight.requires_grad and fast.layers[0].weight.node.op is None


def test_a_compiled_model_has_the_arrays_that_the_model_has_now():
    model = Net().eval()
    fast = ad.jit(model)
    np.testing.assert_allclose(fast(X).numpy(), model(X).numpy(), rtol=1e-12)
    model.assign({name: 2 * x for name, x in model.arrays().items()} | {"layers[1].count": ad.asarray(0)})
    np.testing.assert_allclose(fast(X).numpy(), model(X).numpy(), rtol=1e-12)
    assert fast.cache_info().misses == 1 and "model_layers_0_weight" in str(fast.lower(X).before)


def test_static_attributes_and_mode_are_part_of_the_program():
    f = ad.jit(lambda model, x: model(x))
    f(Net(), X), f(Net(), X), f(Net(3), X), f(Net().eval(), X), f(Net().eval().train(), X)
    assert f.cache_info().misses == 3


def test_a_shared_parameter_is_one_leaf_whose_gradient_is_the_sum():
    model = Tied()
    leaves, structure = tree.flatten(model)
    again = tree.unflatten(structure, leaves)
    assert len(leaves) == 3 and again.first.weight is again.second.weight
    w, b = model.first.weight.numpy(), np.zeros(3)
    two = ad.grad(lambda p, q: ad.mean((ad.tanh(X @ p + b) @ q + b) ** 2), argnums=(0, 1))(w, w)
    got = ad.grad(loss)(model, X)
    np.testing.assert_allclose(got.first.weight.numpy(), two[0] + two[1], rtol=1e-12)
    assert got.first.weight is got.second.weight


def test_frozen_parameters_are_inputs_but_no_variables():
    model = Net().freeze("layers[0]")
    got = ad.grad(loss)(model, X)
    assert isinstance(got.layers[0].weight, tree.Held) and got.layers[0].weight.value is None
    loss(model, X).backward()
    assert model.layers[0].weight.grad is None and model.layers[2].weight.grad is not None
    f = ad.jit(loss)
    before = f(model, X)
    model.layers[0].weight.data = model.layers[0].weight.data * 2
    assert f(model, X).item() != before.item() and f.cache_info().misses == 1
    moved = tree.map(lambda w, g: w - g, model, got, held=False)
    assert not moved.layers[0].weight.requires_grad and moved.layers[2].weight.requires_grad
    model.unfreeze()
    assert len(tree.flatten(model, held=False)[0]) == 4 and model.layers[0].weight.requires_grad
    shared = Tied().freeze("second.weight")
    assert len(tree.flatten(shared, held=False)[0]) == 2
    with pytest.raises(KeyError, match=r"no parameter is called or below nothing; there are layers\[0\]"):
        model.freeze("nothing")


class Shifted(Module):
    """Two constants, one of them in a list, and a parameter."""

    def __init__(self):
        self.layer = Dense(3, 3)
        self.table = ad.asarray(np.sin(np.arange(3.0)))
        self.scales = [ad.asarray(np.full(3, 2.0))]

    def forward(self, x):
        return self.layer((x + self.table) * self.scales[0])


CONSTANTS = ("table", "scales[0]")


def by_update(model):
    opt = optim.SGD(0.1)
    return opt.update(model, ad.grad(loss)(model, X), opt.init(model))[0]


def by_compiled_update(model):
    return ad.jit(lambda model: by_update(by_update(model)))(model)


def by_step(model):
    opt = optim.SGD(0.1, parameters=model)
    loss(model, X).backward()
    opt.step()
    return model


def by_learner(model):
    ad.Learner(model, ad.losses.mse, optim.SGD(0.1)).fit(X, 0 * X, epochs=2, progress=False)
    return model


@pytest.mark.parametrize("train", [by_update, by_compiled_update, by_step, by_learner])
def test_constants_are_trained_in_no_way(train):
    model = Shifted()
    before = {k: v.numpy().copy() for k, v in model.arrays().items()}
    after = train(model).arrays()
    assert all((after[k].numpy() == before[k]).all() and not after[k].requires_grad for k in CONSTANTS)
    assert (after["layer.weight"].numpy() != before["layer.weight"]).any()


def test_what_requires_no_gradient_is_a_constant():
    model = Shifted()
    assert names(model) == ["layer.weight", "layer.bias"] and model.summary().parameters == 12
    assert len(tree.flatten(model, held=False)[0]) == 2 and set(CONSTANTS) < set(model.arrays())
    for twin in (model, copy.deepcopy(model), tree.map(lambda x: x, model), ad.jit(lambda m: m)(model)):
        twin.freeze().unfreeze()
        assert not twin.table.requires_grad and twin.layer.weight.requires_grad
    with pytest.raises(KeyError, match="no parameter is called or below table"):
        model.unfreeze("table")
    moved = Shifted().assign({k: v.numpy() + 1 for k, v in model.arrays().items()})
    assert (moved.table.numpy() == model.table.numpy() + 1).all()
    model.table = parameter(model.table)  # a new attribute is sorted anew
    model.freeze("layer.weight").layer.weight = parameter(np.eye(3))
    assert names(by_update(model)) == ["layer.weight", "layer.bias", "table"]
    assert len(tree.flatten(model, held=False)[0]) == 3


@pytest.mark.parametrize(
    ("name", "value"), [("table", np.ones(3)), (r"table\['a'\]\[0\]", {"a": [np.ones(3)]}), ("table", np.float64(2))]
)
def test_raw_arrays_are_refused_by_name(name, value):
    with pytest.raises(TypeError, match=rf"Shifted.{name} is a raw array, numpy float64 .*nn.parameter\(x\).*asarray\(x\)"):
        Shifted().table = value


def test_assign_takes_every_array_or_says_what_is_wrong():
    model, other = Net(), Net()
    loss(other, X)
    kept = model.layers[0].weight
    model.assign(other)
    assert model.layers[0].weight is kept and model.layers[1].count.value.item() == 1
    state = {k: v.numpy() for k, v in other.arrays().items()}
    assert model.assign(state).layers[2].bias.requires_grad
    gone = {k: v for k, v in state.items() if k != "layers[2].bias"} | {"more": 1}
    with pytest.raises(KeyError, match=r"missing: 'layers\[2\].bias'; unknown: 'more'"):
        model.assign(gone)
    with pytest.raises(ValueError, match=r"layers\[2\].bias is float64 \(3,\), not float64 \(2,\)"):
        model.assign(state | {"layers[2].bias": np.zeros(3)})


def in_eval(model):
    return copy.deepcopy(model).eval()


def of_another_power(model):
    return Net(3)


def untied(model):
    other = copy.deepcopy(model)
    other.layers[2].bias = other.layers[0].bias
    return other


def frozen_in_part(model):
    return copy.deepcopy(model).freeze("layers[2]")


def of_a_float(model):
    return Net(2.0)


UNLIKE = {
    of_a_float: r"\): power is 2, not 2.0",
    in_eval: r"\): training is True, not False",
    of_another_power: r"\): power is 2, not 3",
    untied: r"\): layers\[2\].bias is array 5, not array 1",
    frozen_in_part: r"\): layers\[2\].frozen is frozenset\(\), not frozenset",
}


@pytest.mark.parametrize("make", UNLIKE)
def test_models_that_are_printed_alike_are_told_apart(make):
    model = Net()
    with pytest.raises(ValueError, match=r"tree.map: expected the structure " + (".*" + UNLIKE[make])):
        tree.map(lambda a, b: a, [make(model)], [model])


def test_values_inside_jit_are_not_assigned():
    model = Net()
    with pytest.raises(TypeError, match=r"assign: layers\[0\].weight is a value inside jit .*return a model"):
        ad.jit(lambda given, x: loss(model.assign(given), x))(Net(), X)
    ad.grad(lambda given: loss(model.assign(given), X))(Net())


def test_an_error_names_the_layer():
    model = Net()
    model.layers[2] = Dense(7, 2)
    with pytest.raises(LayerError, match=r"^layers\[2\] \(Dense\): x has 4 columns, weight has shape \(7, 2\)"):
        model(X)
    with pytest.raises(LayerError, match=r"^Dense: x has 3"):
        model.layers[2](X)


def test_watching_sees_every_layer():
    seen = []
    with watch(lambda module, args, y: seen.append((type(module).__name__, y.shape))):
        Net()(X)
    assert seen == [("Dense", (5, 4)), ("Running", (5, 4)), ("Dense", (5, 2)), ("Net", (5, 2))]


def test_forward_mode_and_jacobians_of_models():
    model = Tied()
    tangents = tree.map(lambda w: w * 0 + 1, model)
    pushed = ad.jvp(lambda m: loss(m, X), (model,), (tangents,))[1]
    total = sum(float(ad.sum(g).item()) for g in tree.flatten(ad.grad(loss)(model, X))[0])
    np.testing.assert_allclose(pushed.numpy(), total, rtol=1e-10)
    got = ad.jacobian(lambda m: m(X[0]))(model)
    assert got.second.bias.shape == (3, 3)


def test_a_model_is_printed_with_the_shapes_of_its_arrays():
    assert repr(Dense(3, 4)) == "Dense(weight=float64[3, 4], bias=float64[4])"
    assert repr(Net()).splitlines()[1].startswith("    layers=[Dense(weight=float64[3, 4]")


def test_a_model_that_is_no_argument_of_jit_keeps_no_value_without_numbers():
    model = Running(3)
    with pytest.raises(TypeError, match=r"Buffer\.write: .* pass the model"):
        ad.jit(lambda x: ad.sum(model(x)))(X)
    assert model(X).shape == (5, 3) and model.count.value.item() == 1


def test_assign_keeps_to_the_device_of_the_model():
    with ad.use_backend("array_api_strict:device1"):
        model = ad.nn.Linear(3, 2)
    model.assign({"weight": np.ones((3, 2), "float32"), "bias": ad.ones(2, dtype="float32")})
    assert str(model.weight.device) == str(model.bias.device) and "device1" in str(model.weight.device)
    assert model.weight.requires_grad and model.bias.numpy().tolist() == [1, 1]


def test_a_model_sums_itself_up():
    model = ad.nn.Sequential(ad.nn.Linear(3, 4), ad.nn.ReLU())
    assert model.summary(ad.asarray(X, dtype="float32")).parameters == 16


def test_a_deep_copy_of_a_model_and_its_optimizer_is_trained_by_itself() -> None:
    x = np.random.default_rng(3).standard_normal((4, 3)).astype("f4")

    def go(model: nn.Module, opt: ad.optim.Optimizer) -> None:
        opt.zero_grad()
        ad.sum(model(x) ** 2).backward()
        opt.step()

    def values(model: nn.Module) -> list[np.ndarray]:
        return [x.numpy().copy() for x in ad.tree.flatten(model)[0]]

    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4), nn.Dropout(0.5), nn.Linear(4, 2))
    opt = ad.optim.Adam(0.01, parameters=model)
    for _ in range(3):
        go(model, opt)
    kept = values(model)
    twin, its = copy.deepcopy((model, opt))
    saved = pickle.loads(pickle.dumps(model))
    for _ in range(3):
        go(twin, its)
    for now, then, there in zip(values(model), kept, values(saved), strict=True):
        assert (now == then).all() and (there == then).all()
    assert all(not (moved == then).all() for moved, then in zip(values(twin), kept, strict=True))


def test_a_tensor_in_place_of_a_parameter_is_its_new_value() -> None:
    model = nn.Linear(2, 1)
    new = ad.ones((2, 1)) * 3
    model.weight = new
    assert model.weight.requires_grad and list(model.named_parameters()) == ["weight", "bias"]
    (g, _) = ad.tree.flatten(ad.grad(lambda m: ad.sum(m(X[:, :2])))(model))[0]
    assert g.shape == (2, 1) and g.numpy().any()
    model.freeze("weight")
    model.weight = new * 2
    assert not model.weight.requires_grad and model.unfreeze("weight").weight.tolist() == [[6], [6]]
    assert model.weight.requires_grad


class Divided(Module):
    def __init__(self, by):
        self.by = by

    def forward(self, x):
        by = self.by.value if isinstance(self.by, Setting) else self.by
        by = next(iter(by)) if isinstance(by, dict) else by
        if type(by) is bool:
            return x
        return x // by if type(by) is int else x / by


@dataclasses.dataclass(frozen=True)
class Setting:
    value: object


@pytest.mark.parametrize("kind", [lambda k: k, Setting, lambda k: {k: 1}], ids=["itself", "dataclass", "key"])
@pytest.mark.parametrize("changes", [(2, 2.0), (1, True), (1.0, 1), (0.0, -0.0), (0.0, 0)], ids=str)
def test_static_attributes_that_are_equal_but_not_the_same(changes, kind):
    model, x = Divided(None), np.array([5, 7])
    fast = ad.jit(lambda m, x: m(x))
    for _ in range(2):
        for k in changes:
            model.by = kind(k)
            with np.errstate(divide="ignore"):
                expected, found = model(x), fast(model, x)
            assert found.dtype == expected.dtype and found.tolist() == expected.tolist()
    assert fast.cache_info().misses == 2


def test_an_attribute_that_is_nan_is_the_same_in_all_models():
    fast = ad.jit(lambda m, x: m(x))
    for _ in range(3):
        assert np.isnan(fast(Divided(float("nan")), np.ones(2))).all()
    assert fast.cache_info().misses == 1
