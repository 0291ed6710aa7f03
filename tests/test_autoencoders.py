"""Two more sparse autoencoders: with tied weights, and with the k largest activations."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dfsae.autoencoders import TiedSAE, TopKSAE
from dfsae.baselines import StandardSAE
from dfsae.training import stack

# Dot products of a few float64 numbers: a margin of 1e3 for another CPU.
close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def model(kind, d_in=5, d_sae=3, *, seed=0, dtype=torch.float64, **options):
    return kind(d_in, d_sae, seed=seed, dtype=dtype, data_mean=torch.linspace(0, 1, d_in, dtype=dtype), **options)


tied, top_k = partial(model, TiedSAE), partial(model, TopKSAE)


def shaken(sae):
    """The same model away from its start, where norms are one and biases zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return sae


def leaves(sae):
    return {name: value.detach().clone().requires_grad_() for name, value in sae.named_parameters()}


# Tied weights

def test_tied_sae_by_hand():
    sae = tied(2, 1, l1=0.5)
    with torch.no_grad():
        for name, value in {"W_dec": [[1.0, 2.0]], "b_enc": [-1.0], "b_dec": [0.0, 1.0]}.items():
            getattr(sae, name).copy_(torch.tensor(value))
    x = torch.tensor([[2.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    close(sae.encode(x).detach(), [[1], [0]])
    close(sae.decode(sae.encode(x)).detach(), [[1, 3], [0, 1]])
    close([term.item() for term in sae.loss(x)], [(5 + 1) / 2, 5 ** 0.5 / 2, 3 + 5 ** 0.5 / 4])


def test_tied_sae_beside_its_formula(randn):
    sae, x = shaken(tied(l1=0.7)), randn(7, 5)
    p = leaves(sae)
    a = F.relu(F.linear(x - p["b_dec"], p["W_dec"], p["b_enc"]))
    assert (a > 0).any() and (a == 0).any()
    mse = (x - a @ p["W_dec"] - p["b_dec"]).square().sum() / 7
    l1 = (a * p["W_dec"].norm(dim=1)).sum() / 7
    terms = sae.loss(x)
    close([term.item() for term in terms], [mse.item(), l1.item(), (mse + 0.7 * l1).item()])
    terms.total.backward()
    (mse + 0.7 * l1).backward()
    for name, parameter in sae.named_parameters():  # the weights through encoder and decoder
        close(parameter.grad, p[name].grad, err_msg=name)


def test_tied_sae_starts_as_the_standard_one_with_half_the_weights(randn):
    sae, start, x = tied(seed=3, l1=0.5), model(StandardSAE, seed=3, l1=0.5), randn(7, 5)
    assert sae.state_dict().keys() == {"W_dec", "b_enc", "b_dec"} and sae.l1 == 0.5
    assert all(torch.equal(value, start.state_dict()[name]) for name, value in sae.state_dict().items())
    close(torch.stack(sae.loss(x)).detach(), torch.stack(start.loss(x)).detach())
    assert sae.W is sae.W_dec
    assert sum(p.numel() for p in tied(784, 64, l1=0.5).parameters()) == 64 * 784 + 64 + 784
    assert tied(dtype=torch.float32, l1=0.5).loss(torch.rand(3, 5)).total.dtype == torch.float32


# The k largest

def test_the_k_largest_by_hand():
    sae = top_k(4, 4, k=2)
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(4))
        sae.b_dec.zero_()
    x = [[3, 1, 2, -1], [-4, 0.5, -3, -2], [-1, -2, -3, -4], [1, 2, 3, 4]]
    close(sae.encode(torch.tensor(x, dtype=torch.float64)).detach(),
          [[3, 0, 2, 0], [0, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 3, 4]])
    assert (sae.encode(torch.ones(1, 4, dtype=torch.float64)) > 0).sum() == 2, "no more than k in a tie"


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_top_k_beside_numpy(k, randn):
    sae, x = shaken(top_k(5, 8, k=k)), randn(20, 5)
    W_enc, b_enc, W_dec, b_dec = (p.detach().numpy() for p in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec))
    a = (x.numpy() - b_dec) @ W_enc + b_enc
    positive = (a > 0).sum(axis=1)
    assert positive.max() > 2 and positive.min() < 5
    a = np.where((a > 0) & (a >= np.sort(a, axis=1)[:, [-k]]), a, 0)
    assert np.array_equal((a > 0).sum(axis=1), np.minimum(positive, k))
    close(sae.encode(x).detach(), a)
    mse = ((x.numpy() - a @ W_dec - b_dec) ** 2).sum(axis=1).mean()
    l1 = (a * np.linalg.norm(W_dec, axis=1)).sum(axis=1).mean()
    close([term.item() for term in sae.loss(x)], [mse, l1, mse])


def test_only_the_k_largest_have_a_gradient(randn):
    sae, x = shaken(top_k(5, 8, k=2)), randn(3, 5)
    p = leaves(sae)
    on = (sae.encode(x) > 0).double()
    a = on * ((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"])
    (x - a @ p["W_dec"] - p["b_dec"]).square().sum().div(3).backward()
    sae.loss(x).total.backward()
    for name, parameter in sae.named_parameters():
        close(parameter.grad, p[name].grad, err_msg=name)
    off = on.sum(dim=0) == 0
    positive = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc > 0).any(dim=0)
    assert (off & positive).any(), "a unit that would be active is left out"
    assert not sae.W_enc.grad[:, off].any() and not sae.b_enc.grad[off].any() and not sae.W_dec.grad[off].any()


def test_all_units_kept_are_the_standard_sae_without_penalty(randn):
    sae, start, x = top_k(seed=3, k=3), model(StandardSAE, seed=3, l1=0.0), randn(7, 5)
    assert sae.state_dict().keys() == start.state_dict().keys() and (sae.l1, sae.k) == (0, 3)
    assert all(torch.equal(value, start.state_dict()[name]) for name, value in sae.state_dict().items())
    shaken(sae), shaken(start)
    close(sae.encode(x).detach(), start.encode(x).detach())
    close(torch.stack(sae.loss(x)).detach(), torch.stack(start.loss(x)).detach())
    assert top_k(dtype=torch.float32, k=2).loss(torch.rand(3, 5)).total.dtype == torch.float32


# Stacks

@pytest.mark.parametrize("samples", [(7,), (3, 7)], ids=["shared samples", "samples of its own"])
@pytest.mark.parametrize("make", [tied, top_k])
def test_a_stack_has_the_losses_of_its_models(make, samples, randn):
    options = [{"l1": l1} for l1 in (0.0, 0.5, 2.0)] if make is tied else [{"k": 2}] * 3
    models, x = [make(seed=m, **settings) for m, settings in enumerate(options)], randn(*samples, 5)
    apart = [sae.loss(x if x.ndim == 2 else x[m]) for m, sae in enumerate(models)]
    terms = stack(models).loss(x)
    assert terms.total.shape == (3,)
    close(torch.stack(terms).detach(), torch.stack([torch.stack(alone) for alone in apart], dim=1).detach())


@pytest.mark.parametrize("make, options", [(tied, [{"l1": 0.1}, {"l1": 1.0}]), (top_k, [{"k": 2}, {"k": 2}])])
def test_they_train_together_as_alone(make, options, randn, together_as_alone):
    def pair():
        return [make(seed=seed, **settings) for seed, settings in enumerate(options)]

    together_as_alone(pair, randn(40, 5))


def test_models_that_keep_different_numbers_train_apart():
    with pytest.raises(ValueError, match="models that train together must have the same k; train them apart"):
        stack([top_k(k=1), top_k(k=2)])


# Messages

@pytest.mark.parametrize("k", [-1, 0, 4])
def test_bad_k_is_named(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to d_sae = 3, got {k}"):
        top_k(k=k)
    assert top_k(k=1).k == 1 and top_k(k=3).k == 3


def test_bad_arguments_of_the_standard_sae_are_named(randn):
    with pytest.raises(ValueError, match="l1 must be finite and >= 0, got -1"):
        tied(l1=-1)
    for sae in (tied(l1=0.5), top_k(k=2)):
        with pytest.raises(ValueError, match=r"x must have width 5, got shape \(7, 4\)"):
            sae.encode(randn(7, 4))
