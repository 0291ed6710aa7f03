"""Other controls of volume: the exact log-determinant, the hinge, and the model that is trained by one of them."""

from functools import partial

import numpy as np
import pytest
import torch

from dfsae.encoder import DecoderFreeSAE
from dfsae.fixed_scale import FixedScaleSAE
from dfsae.objective import EPS, Lambdas, NonFiniteError, decorrelation_penalty, log_det_volume, log_sum_exp, variance_penalty
from dfsae.training import stack
from dfsae.volume import VOLUMES, VolumeSAE, hinge_penalty, log_det_penalty

close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)  # float64, a few hundred terms


def model(volume="log-det", *, seed=0, lambdas=Lambdas(), **options):
    return VolumeSAE(5, 4, volume=volume, **{"reduction": "sum", **options}, seed=seed, lambdas=lambdas, dtype=torch.float64)


def mixed(randn, *leading):
    """Correlated components with deviations from 0.2 to 2."""
    return randn(*leading, 30, 4) @ (torch.diag(torch.tensor([0.2, 0.5, 1.0, 2.0]).double()) + 0.1 * randn(4, 4, seed=1))


# Log-determinant

@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_log_determinant_beside_numpy(eps, randn):
    A = mixed(randn, 2, 3)
    expected = [[-np.linalg.slogdet(np.cov(a, rowvar=False) + eps * np.eye(4))[1] for a in row] for row in A.numpy()]
    close(log_det_penalty(A, eps=eps), expected)


def test_log_determinant_is_eq4_less_that_of_the_correlations(randn):
    A = mixed(randn)
    eq4 = variance_penalty(A, eps=0.0)
    of_correlations = np.linalg.slogdet(np.corrcoef(A, rowvar=False))[1]
    assert of_correlations < -0.01, "correlated"
    close(log_det_penalty(A, eps=0.0), eq4 - of_correlations)


def test_log_determinant_of_float32_is_computed_in_float64(randn):
    A = torch.cat([mixed(randn), mixed(randn)[:, :1]], dim=1)
    A = (A + 1e-4 * randn(30, 5, seed=2)).float().requires_grad_()  # two units differ by less than float32 squares resolve
    found, expected = log_det_penalty(A, eps=0.0), log_det_penalty(A.double(), eps=0.0)
    assert found.dtype == torch.float32 and found == expected.float()
    assert not abs(-log_det_volume(A, eps=0.0) - expected) < 1e-3, "float32 is not enough here"
    gradients = [torch.autograd.grad(value, A)[0] for value in (found, expected)]
    assert gradients[0].dtype == torch.float32 and torch.equal(*gradients)


def test_gradient_of_the_log_determinant_by_its_formula(randn):
    A = mixed(randn).requires_grad_()
    log_det_penalty(A, eps=0.1).backward()
    a = A.detach().numpy()
    inverse = np.linalg.inv(np.cov(a, rowvar=False) + 0.1 * np.eye(4))
    close(A.grad, -2 / 29 * (a - a.mean(axis=0)) @ inverse)


# Hinge

def test_hinge_by_hand():
    A = torch.tensor([[1, 0, 0], [1, 0.5 ** 0.5, 8 ** 0.5]], dtype=torch.float64)  # variances 0, 1/4 and 4
    close(hinge_penalty(A, eps=0.0), 1 + 1 / 2 + 0)
    close(hinge_penalty(A, eps=0.11), 1 - 0.11 ** 0.5 + 0.4)


def test_hinge_beside_numpy(randn):
    A = mixed(randn, 2, 3)
    deviations = np.sqrt(A.numpy().var(axis=-2, ddof=1) + 0.01)
    assert (deviations > 1).any() and (deviations < 1).any()
    close(hinge_penalty(A, eps=0.01), np.maximum(0, 1 - deviations).sum(axis=-1))
    assert hinge_penalty(A.float(), eps=0.01).dtype == torch.float32


def test_the_hinge_lets_go_of_a_unit_with_deviation_one(randn):
    A = mixed(randn).requires_grad_()
    hinge_penalty(A, eps=EPS).backward()
    a, deviations = A.detach().numpy(), np.sqrt(A.detach().numpy().var(axis=0, ddof=1) + EPS)
    close(A.grad, -(a - a.mean(axis=0)) / 29 / deviations * (deviations < 1))
    assert (deviations > 1).any() and not A.grad[:, deviations > 1].any()


@pytest.mark.parametrize("penalty", [log_det_penalty, hinge_penalty])
def test_bad_activations_are_named(penalty):
    with pytest.raises(ValueError, match=r"A needs at least 2 sample\(s\), got shape \(1, 4\)"):
        penalty(torch.ones(1, 4), eps=EPS)
    with pytest.raises(NonFiniteError, match="A holds NaN"):
        penalty(torch.ones(3, 4) / 0, eps=EPS)


# The model

@pytest.mark.parametrize("radius", [None, 3.0])
@pytest.mark.parametrize("volume, penalty", [("log-det", log_det_penalty), ("hinge", hinge_penalty)])
def test_the_loss_is_the_weighted_sum_of_its_terms(volume, penalty, radius, randn):
    sae, x = model(volume, radius=radius, eps=0.1, lambdas=Lambdas(0.5, 3, 0.25)), randn(30, 5)
    E = sae.encode(x).detach()
    lse, tc = log_sum_exp(E).sum(), decorrelation_penalty(E, eps=0.1)
    terms = sae.loss(x)
    assert terms._fields == ("lse", "volume", "tc", "total") and VOLUMES[volume] is penalty
    close([term.item() for term in terms],
          [lse, penalty(E, eps=0.1), tc, 0.5 * lse + 3 * penalty(E, eps=0.1) + 0.25 * tc])
    other = model(volume, radius=radius, eps=0.2).loss(x)
    assert all(getattr(other, term) != getattr(terms, term) for term in ("volume", "tc")), "eps matters"


def test_without_a_radius_the_scale_is_free(randn):
    free, plain, x = model(seed=3), DecoderFreeSAE(5, 4, reduction="sum", seed=3, dtype=torch.float64), randn(7, 5)
    assert torch.equal(free.W, plain.W) and torch.equal(free.b, plain.b)
    assert torch.equal(free.encode(x), plain.encode(x)) and torch.equal(free.decode(plain.encode(x)), plain.decode(plain.encode(x)))
    before = free.encode(x).detach()
    with torch.no_grad():
        free.W *= 5
        free.b *= 5
    close(free.encode(x).detach(), 5 * before)


def test_a_radius_fixes_the_scale(randn):
    found, x = model(seed=3, radius=2.0), randn(7, 5)
    fixed = FixedScaleSAE(5, 4, radius=2.0, reduction="sum", seed=3, dtype=torch.float64)
    E = fixed.encode(x)
    assert torch.equal(found.W, fixed.W) and torch.equal(found.encode(x), E) and torch.equal(found.decode(E), fixed.decode(E))
    close(found.scaled()[0].norm(dim=1).detach(), [2.0] * 4)
    with torch.no_grad():
        found.W *= 5
        found.b *= 5
    close(found.encode(x).detach(), E.detach())
    unit = model(radius=1.0)
    close(unit.scaled()[0].norm(dim=1).detach(), [1.0] * 4)


@pytest.mark.parametrize("samples", [(30,), (3, 30)], ids=["shared samples", "samples of its own"])
@pytest.mark.parametrize("radius", [None, 3.0])
@pytest.mark.parametrize("volume", VOLUMES)
def test_a_stack_has_the_losses_of_its_models(volume, radius, samples, randn):
    lambdas, x = (Lambdas(), Lambdas(0, 1, 0), Lambdas(0.25, 100, 0.5)), randn(*samples, 5)
    models = [model(volume, seed=m, radius=radius, lambdas=weights) for m, weights in enumerate(lambdas)]
    apart = [sae.loss(x if x.ndim == 2 else x[m]) for m, sae in enumerate(models)]
    terms = stack(models).loss(x)
    assert terms.total.shape == (3,)
    close(torch.stack(terms).detach(), torch.stack([torch.stack(alone) for alone in apart], dim=1).detach())


@pytest.mark.parametrize("radius", [None, 4.0])
@pytest.mark.parametrize("volume", VOLUMES)
def test_they_train_together_as_alone(volume, radius, randn, together_as_alone):
    def pair():
        return [model(volume, seed=seed, radius=radius, lambdas=Lambdas(lse=seed)) for seed in (0, 1)]

    together_as_alone(pair, randn(40, 5).abs())


@pytest.mark.parametrize("options", [{"volume": "hinge"}, {"radius": 1.0}])
def test_models_of_another_volume_or_scale_train_apart(options):
    with pytest.raises(ValueError, match="must have the same (volume|free); train them apart"):
        stack([model(), model(**options)])


# Messages

def test_unknown_volume_is_named():
    with pytest.raises(ValueError, match=r"volume must be one of \['hinge', 'log-det'\], got 'logdet'"):
        model("logdet")


@pytest.mark.parametrize("options", [{"reduction": "mean"}, {"lambdas": Lambdas(wr=0.1)}])
def test_what_the_model_has_not_is_named(options):
    with pytest.raises(ValueError, match="VolumeSAE sums Eq. 1 over the batch and has no Eq. 8: "
                                         "use reduction='sum' and lambdas with wr = 0"):
        model(**options)


def test_bad_weights_and_radii_are_named():
    with pytest.raises(ValueError, match="lambda_var must be finite and >= 0, got -1"):
        model(lambdas=Lambdas(var=-1))
    with pytest.raises(ValueError, match="radius must be finite and > 0, got 0"):
        model(radius=0)


@pytest.mark.parametrize("penalty", [log_det_penalty, hinge_penalty])
def test_whole_numbers_are_refused(penalty):
    with pytest.raises(ValueError, match="A must be a float tensor, got torch.int64"):
        penalty(torch.tensor([[1, 2], [3, 5], [4, 4]]), eps=1e-6)
