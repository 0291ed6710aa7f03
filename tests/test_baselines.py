"""The models with a decoder: the published autoencoder with its defect, the standard one, and reconstructed energies."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn
from torch.nn import functional as F

from dfsae.baselines import PublishedSAE, ReconstructedEnergies, StandardSAE
from dfsae.objective import NonFiniteError
from dfsae.training import stack

# Dot products of a few float64 numbers: a margin of 1e3 for another CPU.
close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def published(d_in=5, d_sae=3, *, seed=0, dtype=torch.float64, **options):
    return PublishedSAE(d_in, d_sae, seed=seed, dtype=dtype, **options)


def standard(d_in=5, d_sae=3, *, seed=0, dtype=torch.float64, l1=0.5, data_mean=None):
    data_mean = torch.linspace(0, 1, d_in, dtype=dtype) if data_mean is None else data_mean
    return StandardSAE(d_in, d_sae, seed=seed, dtype=dtype, l1=l1, data_mean=data_mean)


def reconstructed(d_in=5, d_sae=3, *, seed=0, dtype=torch.float64, lse=1.0, data_mean=None):
    return ReconstructedEnergies(d_in, d_sae, seed=seed, dtype=dtype, lse=lse, data_mean=data_mean)


def shrink_codes(sae, c):
    """a -> a / c, W_dec -> c W_dec: the same function of x with smaller codes."""
    with torch.no_grad():
        sae.W_enc /= c
        sae.b_enc /= c
        sae.W_dec *= c


def test_published_sae_by_hand():
    sae = published(2, 1, l1=0.5)
    with torch.no_grad():
        for name, value in {"W_enc": [[2.0], [0.0]], "b_enc": [-1.0], "W_dec": [[1.0, 2.0]],
                            "b_dec": [0.0, 1.0]}.items():
            getattr(sae, name).copy_(torch.tensor(value))
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    close(sae.encode(x).detach(), [[1], [0]])
    close(sae.decode(sae.encode(x)).detach(), [[1, 3], [0, 1]])
    terms = sae.loss(x)
    close([term.item() for term in terms], [10 / 4, 1 / 2, 10 / 4 + 0.5 / 2])


def test_published_sae_beside_nn_linear(randn):
    sae, x = published(l1=0.3), randn(7, 5)
    encoder, decoder = nn.Linear(5, 3).double(), nn.Linear(3, 5).double()
    encoder.load_state_dict({"weight": sae.W.detach(), "bias": sae.b_enc.detach()})
    decoder.load_state_dict({"weight": sae.W_dec.detach().T, "bias": sae.b_dec.detach()})
    a = F.relu(encoder(x))
    expected = F.mse_loss(decoder(a), x) + 0.3 * a.abs().mean()
    terms = sae.loss(x)
    close(terms.total.item(), expected.item())
    terms.total.backward()
    expected.backward()
    close(sae.W_enc.grad, encoder.weight.grad.T)
    close(sae.W_dec.grad, decoder.weight.grad.T)
    close(sae.b_enc.grad, encoder.bias.grad)
    close(sae.b_dec.grad, decoder.bias.grad)


def test_published_sae_starts_as_two_linear_layers():
    sae = published(784, 64, dtype=torch.float32)
    # Bounds 1/sqrt(fan_in), as in nn.Linear; of >= 64 uniform numbers the largest reaches 0.8 of
    # its bound but for odds of 1e-6.
    for weights, fan_in in ((sae.W_enc, 784), (sae.b_enc, 784), (sae.W_dec, 64), (sae.b_dec, 64)):
        assert 0.8 * fan_in ** -0.5 < weights.abs().max() <= fan_in ** -0.5
        assert weights.dtype == torch.float32
    assert not torch.equal(sae.W_enc.T * 784 ** 0.5, sae.W_dec * 64 ** 0.5), "untied"
    assert sum(p.numel() for p in sae.parameters()) == 101_200
    assert torch.equal(sae.W, sae.W_enc.T) and sae.W.shape == (64, 784)
    assert published().l1 == 0.01


@pytest.mark.parametrize("make", [published, standard, reconstructed])
def test_the_seed_alone_decides_the_start(make):
    first = make(seed=1)
    torch.manual_seed(99)
    for name, value in make(seed=1).state_dict().items():
        assert torch.equal(value, first.state_dict()[name])
    assert not torch.equal(first.W_dec, make(seed=2).W_dec)
    assert not torch.equal(first.W_enc, make(seed=2).W_enc)


@pytest.mark.parametrize("c", [2.0, 100.0])
def test_rescaling_the_decoder_evades_the_published_penalty_only(c, randn):
    x = randn(7, 5) + 0.5
    for make, shrinks in ((published, True), (standard, False)):
        sae = make()
        before = sae.loss(x)
        assert before.l1 > 0
        shrink_codes(sae, c)
        after = sae.loss(x)
        close(after.mse.item(), before.mse.item())
        close(after.l1.item(), before.l1.item() / (c if shrinks else 1))


def test_standard_sae_starts_tied_with_unit_norms_at_the_data_mean():
    mean = torch.linspace(-1, 1, 5, dtype=torch.float64)
    sae = standard(data_mean=mean)
    close(sae.W_dec.detach().norm(dim=1), 1)
    close(sae.W_enc.detach(), sae.W_dec.detach().T)
    close(sae.b_enc.detach(), 0)
    close(sae.b_dec.detach(), mean)
    close(sae.encode(mean[None]).detach(), 0)  # the mean is where the codes start from
    assert sae.W_enc.data_ptr() != sae.W_dec.data_ptr(), "tied at the start only"
    assert standard(dtype=torch.float32).loss(torch.rand(3, 5)).total.dtype == torch.float32


def test_standard_sae_by_explicit_expression(randn):
    sae, x = standard(l1=0.7), randn(7, 5)
    shrink_codes(sae, 0.5)
    with torch.no_grad():
        sae.b_enc += 0.1
    W_enc, b_enc, W_dec, b_dec = (p.detach().numpy() for p in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec))
    a = np.maximum((x.numpy() - b_dec) @ W_enc + b_enc, 0)
    assert (a > 0).any() and (a == 0).any()
    mse = np.mean(np.sum((x.numpy() - (a @ W_dec + b_dec)) ** 2, axis=1))
    l1 = np.mean(np.sum(a * np.linalg.norm(W_dec, axis=1), axis=1))
    close([term.item() for term in sae.loss(x)], [mse, l1, mse + 0.7 * l1])


@pytest.mark.parametrize("weight", [0.0, 1.0, 0.3])
def test_reconstructed_energies_beside_a_gaussian_likelihood(weight, randn):
    sae, x = reconstructed(lse=weight), randn(7, 5)
    W_enc, b_enc, W_dec, b_dec = (p.detach().numpy() for p in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec))
    E = np.maximum(x.numpy() @ W_enc + b_enc, 0)
    assert (E > 0).any() and (E == 0).any()
    lse = -np.log(np.exp(-E).sum(axis=1)).sum()
    log_likelihood = norm(E @ W_dec + b_dec).logpdf(x.numpy()).sum()
    error = -log_likelihood - x.numel() * np.log(2 * np.pi) / 2  # less the constant of a unit variance
    terms = sae.loss(x)
    close([term.item() for term in terms], [lse, error, weight * lse + error])
    assert terms._fields == ("lse", "error", "total")


def test_reconstructed_energies_share_the_start_of_the_published_sae():
    start = published(seed=3).state_dict()
    sae = reconstructed(seed=3, lse=0.5)
    assert sae.l1 == 0 and sae.lse == 0.5 and sae.state_dict().keys() == start.keys()
    assert all(torch.equal(value, start[name]) for name, value in sae.state_dict().items())
    assert reconstructed(dtype=torch.float32).loss(torch.rand(3, 5)).total.dtype == torch.float32


def test_reconstructed_energies_can_share_the_start_of_the_standard_sae(randn):
    mean, x = torch.linspace(-1, 1, 5, dtype=torch.float64), randn(7, 5)
    sae, start = reconstructed(seed=3, data_mean=mean), standard(seed=3, data_mean=mean)
    E, a = sae.encode(x), start.encode(x)
    assert (a > 0).any() and (a == 0).any()
    close(E.detach(), a.detach())  # the mean, subtracted there from x, is here in b_enc
    close(sae.decode(E).detach(), start.decode(a).detach())
    assert torch.equal(sae.W_enc, start.W_enc) and torch.equal(sae.W_dec, start.W_dec)
    assert sae.W_enc.data_ptr() != sae.W_dec.data_ptr(), "tied at the start only"


@pytest.mark.parametrize("samples", [(7,), (3, 7)], ids=["shared samples", "samples of its own"])
@pytest.mark.parametrize("make, setting", [(published, "l1"), (standard, "l1"), (reconstructed, "lse")])
def test_a_stack_has_the_losses_of_its_models(make, setting, samples, randn):
    models, x = [make(seed=m, **{setting: weight}) for m, weight in enumerate((0.0, 0.5, 2.0))], randn(*samples, 5)
    apart = [model.loss(x if x.ndim == 2 else x[m]) for m, model in enumerate(models)]
    terms = stack(models).loss(x)
    assert terms.total.shape == (3,)
    close(torch.stack(terms).detach(), torch.stack([torch.stack(alone) for alone in apart], dim=1).detach())


# Messages

@pytest.mark.parametrize("l1", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("make", [published, standard])
def test_bad_l1_is_named(make, l1):
    with pytest.raises(ValueError, match=f"l1 must be finite and >= 0, got {l1}"):
        make(l1=l1)
    assert make(l1=0).l1 == 0


@pytest.mark.parametrize("lse", [-0.1, float("nan"), float("inf")])
def test_bad_lse_is_named(lse):
    with pytest.raises(ValueError, match=f"lse must be finite and >= 0, got {lse}"):
        reconstructed(lse=lse)


@pytest.mark.parametrize("make", [published, standard, reconstructed])
def test_bad_inputs_are_named(make, randn):
    with pytest.raises(ValueError, match=r"x must have width 5, got shape \(7, 4\)"):
        make().encode(randn(7, 4))
    with pytest.raises(NonFiniteError, match="x holds NaN"):
        make().loss(randn(7, 5) / 0)


@pytest.mark.parametrize("make", [standard, reconstructed])
def test_bad_data_mean_is_named(make):
    with pytest.raises(ValueError, match=r"data_mean must have width 5, got shape \(4,\)"):
        make(data_mean=torch.zeros(4))
    with pytest.raises(NonFiniteError, match="data_mean holds NaN"):
        make(data_mean=torch.full((5,), float("nan")))
