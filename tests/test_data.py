"""MNIST from the four files of the repository: content, damage, and no network."""

import shutil
import socket
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from dfsae.data import ROOT, load_mnist

NAMES = [name for name, _ in MNIST.resources]


def copy_of_the_originals(root: Path, damaged: str | None = None) -> Path:
    """The four .gz files in ``root``: links, but for the one that a test will damage."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        original = ROOT / "data" / "MNIST" / "raw" / name
        if name == damaged:
            shutil.copy(original, raw / name)
        else:
            (raw / name).symlink_to(original)
    return raw


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A data folder in which the files have been unpacked, with every socket refused."""
    root = tmp_path_factory.mktemp("data")
    copy_of_the_originals(root)

    def refuse(*args, **kwargs):
        raise AssertionError("something tried to use the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        patch.setattr(socket, "create_connection", refuse)
        load_mnist(root, n_train=1, n_test=1)
    return root


def test_content(unpacked):
    data = load_mnist(unpacked)
    assert data.x_train.shape == (60_000, 784) and data.x_test.shape == (10_000, 784)
    assert data.y_train.shape == (60_000,) and data.y_test.shape == (10_000,)
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.y_train.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.x_train.dtype == torch.float32 and not data.y_train.is_floating_point()
    assert data.x_train.min() == 0 and data.x_train.max() == 1, "pixels in [0, 1]"
    # Not centred: the mean pixel of MNIST, widely published as 0.1307, spread 0.3081.
    assert data.x_train.mean() == pytest.approx(0.1307, abs=5e-5)
    assert data.x_train.std() == pytest.approx(0.3081, abs=5e-5)


def test_subsets_are_the_first_samples_and_dtype_is_as_asked(unpacked):
    data = load_mnist(unpacked, n_train=7, n_test=3, dtype=torch.float64)
    assert data.x_train.shape == (7, 784) and data.x_test.shape == (3, 784)
    assert data.x_train.dtype == torch.float64
    assert data.y_train.tolist() == [5, 0, 4, 1, 9, 2, 1] and data.y_test.tolist() == [7, 2, 1]
    levels = data.x_train * 255
    torch.testing.assert_close(levels, levels.round())  # one of 256 grey levels
    first = load_mnist(unpacked, n_train=3, n_test=1)
    torch.testing.assert_close(first.x_train, data.x_train[:3].float())
    assert first.x_train[0].reshape(28, 28)[5].nonzero()[0] == 12, "rows of the image stay rows"


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named_with_its_remedy(name, tmp_path):
    (copy_of_the_originals(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_mnist(tmp_path)
    assert f"{tmp_path}/MNIST/raw/{name} is missing" in str(error.value)
    assert f"restore it with: git checkout -- data/MNIST/raw/{name}" in str(error.value)


def truncate(content: bytes) -> bytes:
    return content[:len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]


@pytest.mark.parametrize("damage", [truncate, flip, lambda content: b""], ids=["truncated", "flipped", "empty"])
@pytest.mark.parametrize("name", NAMES)
def test_a_corrupt_file_is_named_with_its_remedy(name, damage, tmp_path):
    path = copy_of_the_originals(tmp_path, damaged=name) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError) as error:
        load_mnist(tmp_path)
    assert f"{path} is corrupt (its MD5 is not " in str(error.value)
    assert f"git checkout -- data/MNIST/raw/{name}" in str(error.value)


@pytest.mark.parametrize("damage", [truncate, lambda content: b"", lambda content: b"no MNIST" + content[8:]],
                         ids=["truncated", "empty", "other header"])
def test_a_damaged_unpacked_file_is_reported_and_its_remedy_works(damage, tmp_path, unpacked):
    raw = copy_of_the_originals(tmp_path)
    for path in (unpacked / "MNIST" / "raw").glob("*-ubyte"):
        (raw / path.name).symlink_to(path)
    victim = raw / "t10k-labels-idx1-ubyte"
    content = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(damage(content))
    with pytest.raises(ValueError, match=f"an unpacked file in {raw} is damaged; delete {raw}/"):
        load_mnist(tmp_path, n_train=1)
    victim.unlink()
    assert load_mnist(tmp_path, n_train=1).y_test[:3].tolist() == [7, 2, 1]
