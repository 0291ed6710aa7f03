"""The sparse autoencoder that keeps the largest activations of a batch."""

import pytest
import torch

from dfsae.autoencoders import TopKSAE
from dfsae.batch_topk import BatchTopKSAE
from dfsae.training import train, train_together

X = torch.rand(64, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def of(kind=BatchTopKSAE, k=3, seed=1):
    return kind(9, 12, k=k, seed=seed, data_mean=X.mean(dim=0), dtype=torch.float64)


def test_a_batch_keeps_k_activations_a_sample_on_average_and_they_are_the_largest():
    model = of()
    a = torch.rand(8, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    kept = model.keep_largest(a)
    assert int((kept > 0).sum()) == 8 * 3 and set((kept > 0).sum(dim=1).tolist()) != {3}, "not three a row"
    assert torch.equal(kept[kept > 0], a[kept > 0]) and kept[kept > 0].min() >= a[kept == 0].max()


def test_the_loss_is_the_error_of_what_is_kept():
    model = of()
    with torch.no_grad():
        a = torch.relu((X - model.b_dec) @ model.W_enc + model.b_enc)
        smallest = a.flatten().sort(descending=True).values[64 * 3 - 1]
        x_hat = a * (a >= smallest) @ model.W_dec + model.b_dec
    terms = model.loss(X)
    torch.testing.assert_close(terms.total, (X - x_hat).square().sum(dim=1).mean())
    assert terms.mse == terms.total and terms.l1 == 0


def test_with_one_sample_a_batch_it_is_top_k():
    model, other = of(), of(TopKSAE)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True)), "the same start"
    torch.testing.assert_close(model.loss(X[:1]).total, other.loss(X[:1]).total)


def test_the_threshold_keeps_about_k_a_sample():
    model = of()
    train(model, X, epochs=20, order_seed=0, batch_size=16, progress=False)
    before = model.encode(X).detach()
    model.calibrate(X, batch_size=16)
    a = model.encode(X)
    assert (before > 0).double().sum(dim=1).mean() > 3.5 and (a > 0).double().sum(dim=1).mean() == pytest.approx(3, abs=0.4)
    smallest = [model.keep_largest(part) for part in before.split(16)]
    assert model.threshold == pytest.approx(sum(float(part[part > 0].min()) for part in smallest) / 4)
    assert torch.equal(a, before * (before > model.threshold))


def test_a_last_batch_that_is_not_whole_does_not_count():
    model = of()
    model.calibrate(X[:50], batch_size=16)
    whole = model.threshold
    model.calibrate(X[:48], batch_size=16)
    assert model.threshold == whole > 0


def test_two_train_together_as_they_do_alone():
    together, apart = ([of(seed=1), of(seed=2)] for _ in range(2))
    train_together(together, X, epochs=3, order_seeds=[5, 6], optimizers=["adam"] * 2, lrs=[1e-3] * 2, batch_size=16, progress=False)
    for model, seed in zip(apart, (5, 6)):
        train(model, X, epochs=3, order_seed=seed, batch_size=16, progress=False)
    for model, other in zip(together, apart):
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)  # rounding of 12 steps


@pytest.mark.parametrize("k", [0, 13, -1])
def test_k_outside_its_range_is_refused(k):
    with pytest.raises(ValueError, match="k must be from 1 to d_sae = 12"):
        of(k=k)


def test_too_few_samples_to_calibrate_are_refused():
    with pytest.raises(ValueError, match="calibrate needs 512 samples or more, got 64"):
        of().calibrate(X)
