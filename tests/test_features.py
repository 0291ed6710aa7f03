"""Measures of weights as images, on images made by hand and beside brute force."""

from itertools import permutations
from math import sqrt

import numpy as np
import pytest
import torch

from dfsae.features import (
    SIDE, class_means, lit_pixels, matched_cosine, pack, prototype_correlation, roughness, unpack,
)

ALL = torch.ones(SIDE ** 2, dtype=torch.bool)


def test_packed_weights_keep_three_significant_digits_of_each_row(randn):
    W = randn(5, 30) * torch.tensor([1e-4, 1.0, 50.0, 3.0, 0.0], dtype=torch.float64)[:, None]
    found = unpack(pack(W), 5)
    largest = W[:4].abs().amax(dim=1, keepdim=True)
    assert found.shape == (5, 30) and torch.equal(found[4], torch.zeros(30, dtype=torch.float64))
    np.testing.assert_allclose(found[:4], W[:4] / largest, atol=0.5 / 127 + 1e-12)
    assert (found[:4].abs().amax(dim=1) == 1).all() and unpack(pack(W.float()), 5).dtype == torch.float64
    with pytest.raises(ValueError, match="W holds NaN"):
        pack(W / 0)


def test_a_pixel_is_lit_if_it_is_above_zero_often_enough():
    x = torch.zeros(200, 3)
    x[:2, 0] = 0.1
    x[:1, 1] = 1.0
    assert lit_pixels(x).tolist() == [True, False, False]
    assert lit_pixels(x, share=0.005).tolist() == [True, True, False]


def test_roughness_by_hand():
    stripes = torch.tensor([1.0, -1.0]).repeat(SIDE, SIDE // 2).reshape(1, -1)  # columns alternate
    halves = torch.cat([torch.full((SIDE, SIDE // 2), 1.0), torch.full((SIDE, SIDE // 2), 3.0)], dim=1).reshape(1, -1)
    # Half of all pairs are neighbours in a row: they differ by 2, or by 2 at one of 27 places, over a mean of 1 or 2.
    np.testing.assert_allclose(roughness(torch.cat([stripes, 5 * stripes, halves]), ALL), [1, 1, 1 / 27 / 2], rtol=1e-6)
    left = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    left[:, : SIDE // 2] = True
    turned = torch.cat([halves, stripes]).reshape(2, SIDE, SIDE).mT.reshape(2, -1)
    for half in (left, ~left):  # 28 x 13 pairs in rows and 27 x 14 in columns; none across the border
        for W, mask in ((torch.cat([halves, stripes]), half), (turned, half.T)):
            np.testing.assert_allclose(roughness(W, mask.flatten()), [0, 2 * 13 / (13 + 13.5)], rtol=1e-6)


def test_white_noise_has_the_roughness_of_two_independent_values(randn):
    # 50 features of 1,512 pairs: the mean has a standard error below 0.005.
    assert float(roughness(randn(50, SIDE ** 2), ALL).mean()) == pytest.approx(sqrt(2), abs=0.02)
    uniform = 2 * torch.rand(50, SIDE ** 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    assert float(roughness(uniform, ALL).mean()) == pytest.approx(4 / 3, abs=0.02)


def test_class_means_are_those_of_the_labels(randn):
    x, y = randn(30, 4), torch.arange(30) % 3
    np.testing.assert_allclose(class_means(x, y), [x[label::3].mean(dim=0) for label in range(3)], rtol=1e-12)


def test_prototype_correlation_beside_numpy(randn):
    means, lit = randn(3, SIDE ** 2), torch.arange(SIDE ** 2) % 2 == 0
    W = torch.cat([7 * means[1:2] + 5, -means[2:], randn(4, SIDE ** 2, seed=1)])
    W[:2, ~lit] = 100.0  # what is not lit does not count
    expected = [max(abs(np.corrcoef(w[lit], mean[lit])[0, 1]) for mean in means) for w in W]
    np.testing.assert_allclose(prototype_correlation(W, means, lit), expected, rtol=1e-10)
    np.testing.assert_allclose(expected[:2], 1, rtol=1e-12)


def test_matching_beside_every_permutation(randn):
    W, other, lit = randn(5, 12), randn(5, 12, seed=1), torch.arange(12) < 9
    cosines = np.array([[float(torch.cosine_similarity(w[lit], v[lit], dim=0)) for v in other] for w in W])
    best = max(permutations(range(5)), key=lambda order: sum(cosines[range(5), order]))
    np.testing.assert_allclose(matched_cosine(W, other, lit), cosines[range(5), best], rtol=1e-10)
    order = [3, 0, 4, 2, 1]
    np.testing.assert_allclose(matched_cosine(W, 2 * W[order], lit), np.ones(5), rtol=1e-12)
    assert float(matched_cosine(W, -2 * W[order], lit).max()) < 1 - 1e-3  # the sign counts
