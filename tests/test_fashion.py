"""Fashion-MNIST: where it is found, what is read, and what a run without it says."""

import gzip
import hashlib
import shutil

import numpy as np
import pytest
import torch

from dfsae import fashion, records
from dfsae.data import ROOT, Dataset
from dfsae.experiments import FULL, comparison, contestants, run_experiments
from dfsae.experiments import fashion as experiment
from dfsae.experiments.protocol import fit

SIZES = {"train": 5, "t10k": 3}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Four small files with the names and the format of the data, and their checksums."""
    random = np.random.default_rng(0)
    sums = {}
    for split, n in SIZES.items():
        for name, header, content in (
                (f"{split}-images-idx3-ubyte", 16, random.integers(0, 256, (n, 784), dtype=np.uint8)),
                (f"{split}-labels-idx1-ubyte", 8, random.integers(0, 10, n, dtype=np.uint8))):
            unpacked = bytes(header) + content.tobytes()
            sums[name] = hashlib.md5(unpacked).hexdigest()
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(unpacked, mtime=0))
    monkeypatch.setattr(fashion, "FILES", sums)
    fashion.load_fashion.cache_clear()
    yield tmp_path
    fashion.load_fashion.cache_clear()


def test_content_is_that_of_the_files(place):
    data = fashion.load_fashion((place,), dtype=torch.float64)
    for split, x, y in (("train", data.x_train, data.y_train), ("t10k", data.x_test, data.y_test)):
        images = gzip.decompress((place / f"{split}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((place / f"{split}-labels-idx1-ubyte.gz").read_bytes())
        assert x.shape == (SIZES[split], 784) and x.dtype == torch.float64 and y.dtype == torch.int64
        np.testing.assert_allclose(x, np.frombuffer(images[16:], np.uint8).reshape(-1, 784) / 255, rtol=1e-15)
        assert y.tolist() == list(labels[8:])
    assert fashion.load_fashion((place,), dtype=torch.float64) is data, "read once"


def test_the_first_place_that_has_all_four_files_counts(place, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(place, other)
    assert fashion.find_fashion((tmp_path / "nowhere", place, other)) == place
    (place / "t10k-labels-idx1-ubyte.gz").unlink()
    assert fashion.find_fashion((place, other)) == other
    assert fashion.PLACES[0] == ROOT / "data" / "FashionMNIST" / "raw", "where torchvision's loader puts them"


def test_missing_files_are_named_with_the_ways_to_get_them(tmp_path):
    for function in (fashion.find_fashion, fashion.load_fashion):
        with pytest.raises(FileNotFoundError, match=r"Fashion-MNIST is in none of .*nowhere; get it with: python -c .*"
                                                    r"FashionMNIST\('data', download=True\).*apt install dataset-fashion-mnist"):
            function((tmp_path / "nowhere",))


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1:]


@pytest.mark.parametrize("damage, words", [
    (lambda packed: packed[: len(packed) // 2], "is damaged"), (lambda packed: b"", "is not the known file"),
    (lambda packed: b"no gzip", "is damaged"), (flip, "is damaged"),
    (lambda packed: gzip.compress(gzip.decompress(packed)[:-1]), "is not the known file")])
@pytest.mark.parametrize("name", fashion.FILES)
def test_a_damaged_file_is_named_with_its_remedy(name, damage, words, place):
    path = place / f"{name}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path} {words}.*; delete it and get it again"):
        fashion.load_fashion((place,))


def test_the_real_files_where_they_are():
    try:
        data = fashion.load_fashion()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert [part.shape for part in data] == [(60_000, 784), (60_000,), (10_000, 784), (10_000,)]
    assert data.y_train.bincount().tolist() == [6000] * 10 and data.y_test.bincount().tolist() == [1000] * 10
    # The mean pixel and spread, widely published as 0.2860 and 0.3530.
    assert data.x_train.mean() == pytest.approx(0.2860, abs=5e-5) and data.x_train.std() == pytest.approx(0.3530, abs=5e-5)


def test_without_the_files_the_experiment_is_left_out_and_says_why(monkeypatch, tmp_path):
    plans = []
    for other in FULL.values():
        monkeypatch.setattr(other, "find_data", lambda: None, raising=False)
        monkeypatch.delattr(other, "identify_data", raising=False)  # whatever this machine has
    monkeypatch.setattr(records, "run_all", lambda plan, *rest, **options: plans.append(plan))
    monkeypatch.setattr(experiment, "find_data", lambda: fashion.find_fashion((tmp_path,)))
    with pytest.warns(UserWarning, match="fashion is left out. Fashion-MNIST is in none of"):
        run_experiments("full")
    monkeypatch.setattr(experiment, "find_data", lambda: tmp_path)
    run_experiments("full")
    assert [list(plan) for plan in plans] == [[name for name in FULL if name != "fashion"], list(FULL)]


def test_the_settings_are_those_of_the_comparison():
    specs = experiment.specs("paper")
    assert {spec["epochs"] for spec in specs} == {20} and {spec["seed"] for spec in specs} == {1, 2, 3, 4, 5}
    for spec in specs:
        settings = comparison.CONFIGURATIONS[spec["name"]]
        assert {key: spec[key] for key in settings} == settings


def test_it_trains_and_is_measured_on_fashion(data, monkeypatch):
    x, y = data.x_train.flip(0), data.y_train.flip(0)
    clothes = Dataset(x[:60], y[:60], x[60:], y[60:])
    monkeypatch.setattr(experiment, "load_fashion", lambda dtype: clothes if dtype == torch.float64 else None)
    spec = {**comparison.specs("smoke")[0], "K": 6, "batch_size": 16}
    (model,), history = experiment.fit([spec], data)
    (expected,), other = fit([spec], clothes, build=contestants.build)
    assert history == other and all(map(torch.equal, model.parameters(), expected.parameters()))
    np.testing.assert_equal(experiment.evaluate(model, data), contestants.evaluate(expected, clothes))
