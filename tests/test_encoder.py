"""The linear layer of Eq. 9 beside nn.Linear, its initialisation, and the implicit decoder."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dfsae.encoder import ACTIVATIONS, DecoderFreeSAE, energies, reconstruct, uniform_
from dfsae.objective import EPS, Lambdas, NonFiniteError, objective

# Dot products of at most 784 float64 numbers: a margin of 1e3 for another CPU.
close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def model(D=5, K=3, *, seed=0, reduction="sum", dtype=torch.float64, **options):
    return DecoderFreeSAE(D, K, seed=seed, reduction=reduction, dtype=dtype, **options)


@pytest.mark.parametrize("activation, E", [
    ("identity", [[3.0, -1.5]]), ("relu", [[3.0, 0.0]]),
    ("softplus", [[np.log1p(np.exp(3)), np.log1p(np.exp(-1.5))]]),
])
def test_eq9_by_hand(activation, E):
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    W = torch.tensor([[1.0, 0.5], [-1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([1.0, -0.5], dtype=torch.float64)
    close(energies(x, W, b, activation), E)


@pytest.mark.parametrize("activation, reference", [
    ("relu", F.relu), ("softplus", F.softplus), ("identity", nn.Identity())])
def test_parity_with_nn_linear(activation, reference, randn):
    sae, x = model(activation=activation), randn(7, 5)
    linear = nn.Linear(5, 3).double()
    linear.load_state_dict({"weight": sae.W.detach(), "bias": sae.b.detach()})
    E = sae.encode(x)
    close(E.detach(), reference(linear(x)).detach())
    E.square().sum().backward()
    reference(linear(x)).square().sum().backward()
    close(sae.W.grad, linear.weight.grad)
    close(sae.b.grad, linear.bias.grad)


def test_relu_is_the_default(randn):
    assert set(ACTIVATIONS) == {"relu", "softplus", "identity"}
    x, W, b = randn(7, 5), randn(3, 5, seed=1), randn(3, seed=2)
    close(energies(x, W, b), energies(x, W, b, "relu"))
    assert model().activation == "relu"


@pytest.mark.parametrize("activation", [*ACTIVATIONS, ["softplus", "identity"]])
@pytest.mark.parametrize("samples", [(4,), (2, 4)])
def test_eq9_gradcheck(activation, samples, randn):
    models = () if isinstance(activation, str) else (2,)
    shapes = [(*samples, 5), (*models, 3, 5), (*models, 3)]
    inputs = [randn(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
    assert torch.autograd.gradcheck(partial(energies, activation=activation), inputs)


@pytest.mark.parametrize("activation", ["relu", ["softplus"] * 3, ["relu", "softplus", "identity"]])
@pytest.mark.parametrize("samples", [(7,), (3, 7)], ids=["shared samples", "samples of its own"])
def test_many_models_at_once_equal_a_loop(activation, samples, randn):
    x, W, b = randn(*samples, 5), randn(3, 4, 5, seed=1), randn(3, 4, seed=2)
    E = energies(x, W, b, activation)
    assert E.shape == (3, 7, 4)
    for m in range(3):
        name = activation if isinstance(activation, str) else activation[m]
        close(E[m], energies(x if x.ndim == 2 else x[m], W[m], b[m], name))
        close(reconstruct(E, W)[m], reconstruct(E[m], W[m]))


def test_eq12_is_the_transpose(randn):
    a, sae = randn(7, 3), model()
    close(reconstruct(a, sae.W.detach()), a.numpy() @ sae.W.detach().numpy())
    close(sae.decode(a).detach(), F.linear(a, sae.W.detach().T))


def test_orthonormal_weights_reconstruct_what_they_encode(randn):
    W, x = torch.linalg.qr(randn(5, 5))[0], randn(7, 5, seed=1)
    close(reconstruct(energies(x, W, torch.zeros(5).double(), "identity"), W), x)


@pytest.mark.parametrize("options", [
    {}, {"reduction": "mean", "lambdas": Lambdas(1, 2, 3, 4), "eps": 0.1, "activation": "softplus"}])
def test_loss_is_the_objective_of_the_energies(options, randn):
    sae, x = model(**options), randn(7, 5)
    settings = {"lambdas": Lambdas(), "reduction": "sum", "eps": EPS} | options
    settings.pop("activation", None)
    close(torch.stack(sae.loss(x)).detach(),
          torch.stack(objective(sae.encode(x), sae.W, **settings)).detach())


# Initialisation

@pytest.mark.parametrize("fan_in", [4, 784])
def test_uniform_fills_pytorchs_default_range(fan_in):
    values = uniform_((1000, fan_in), fan_in, torch.Generator().manual_seed(0), torch.float64)
    bound = nn.Linear(fan_in, 2000).weight.abs().max().item()
    assert isinstance(values, nn.Parameter) and values.shape == (1000, fan_in)
    assert values.abs().max() <= fan_in ** -0.5
    # The largest of >= 4,000 uniform numbers is within 1 % of the bound, but for odds of e^-40.
    close([values.max().item(), -values.min().item()], bound, rtol=0.02)


def test_weights_and_bias_start_as_in_nn_linear():
    sae, linear = model(784, 64, dtype=torch.float32), nn.Linear(784, 64)
    for ours, theirs in ((sae.W, linear.weight), (sae.b, linear.bias)):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert ours.abs().max() <= 784 ** -0.5
        assert 0.5 < ours.std() / theirs.std() < 2  # 64 biases: 8 % standard error
    assert sum(p.numel() for p in sae.parameters()) == 50_240


def test_the_seed_alone_decides_the_start():
    first = model(seed=1)
    torch.manual_seed(99)
    for name, value in model(seed=1).state_dict().items():
        assert torch.equal(value, first.state_dict()[name])
        assert not torch.equal(value, model(seed=2).state_dict()[name])
    assert not torch.equal(first.W[:1, :3], first.b[None]), "W and b must be different draws"


# Messages

def test_unknown_activation_is_named(randn):
    message = r"activation must be one of \['identity', 'relu', 'softplus'\], got 'gelu'"
    with pytest.raises(ValueError, match=message):
        model(activation="gelu")
    with pytest.raises(ValueError, match=message):
        energies(randn(7, 5), randn(3, 5), randn(3), "gelu")
    with pytest.raises(ValueError, match=message):
        energies(randn(7, 5), randn(2, 3, 5), randn(2, 3), ["relu", "gelu"])


@pytest.mark.parametrize("names", [["relu", "identity"], ["relu", "identity", "relu", "relu"]])
def test_activations_are_one_per_model(names, randn):
    with pytest.raises(ValueError, match=f"one for each of 3 models; got {len(names)}"):
        energies(randn(7, 5), randn(3, 4, 5), randn(3, 4), names)


def test_bad_inputs_are_named(randn):
    with pytest.raises(ValueError, match=r"x must have width 5, got shape \(7, 4\)"):
        model().encode(randn(7, 4))
    with pytest.raises(ValueError, match=r"a must have width 3, got shape \(7, 5\)"):
        model().decode(randn(7, 5))
    with pytest.raises(NonFiniteError, match="x holds NaN"):
        model().loss(randn(7, 5) / 0)
    with pytest.raises(ValueError, match="lambda_tc must be finite and >= 0, got -1"):
        model(lambdas=Lambdas(tc=-1))
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'max'"):
        model(reduction="max").loss(randn(7, 5))
