"""Rows of files: read as asked for, in any order, and refused where something is missing."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dfsae.shards import MissingShardsError, Rows, open_parts, open_rows


def some(n=30, D=4, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def write(folder, x, sizes, names=("activations",)):
    folder.mkdir(exist_ok=True)
    for i, part in enumerate(x.split(sizes), 1):
        save_file({name: part.clone() for name in names}, folder / f"{i:05d}-of-{len(sizes):05d}.safetensors")
    return folder


@pytest.fixture(params=["npy", "safetensors", "shards"])
def file(request, tmp_path):
    x = some()
    if request.param == "npy":
        np.save(tmp_path / "x.npy", x.numpy())
        return x, tmp_path / "x.npy"
    if request.param == "safetensors":
        save_file({"activations": x}, tmp_path / "x.safetensors")
        return x, tmp_path / "x.safetensors"
    return x, write(tmp_path / "shards", x, [7, 1, 22])


def test_rows_are_those_of_the_tensor(file):
    x, path = file
    rows = open_rows(path)
    assert len(rows) == 30 and rows.shape == (30, 4)
    at = torch.tensor([29, 0, 7, 6, 8, 7])
    for index in (at, at.numpy(), slice(5, 12), slice(None)):
        assert torch.equal(rows[index], x[torch.as_tensor(index) if not isinstance(index, slice) else index])
    torch.testing.assert_close(rows.norms(), x.norm(dim=1))


def test_taken_rows_are_in_their_order_over_their_scale(file):
    x, path = file
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    rows = open_rows(path).take(order[:20], scale=2.0).take(torch.tensor([3, 1]), scale=5.0)
    assert len(rows) == 2
    torch.testing.assert_close(rows[:], x[order[[3, 1]]] / 10)
    torch.testing.assert_close(rows.norms(), x[order[[3, 1]]].norm(dim=1) / 10)


def test_only_what_is_asked_for_is_read(tmp_path):
    psutil = pytest.importorskip("psutil")
    big = np.lib.format.open_memmap(tmp_path / "big.npy", mode="w+", dtype=np.float32, shape=(500_000, 200))  # 400 MB, sparse
    big[499_999] = 3
    big.flush()
    del big
    before = psutil.Process().memory_info().rss
    rows = open_rows(tmp_path / "big.npy").take(torch.tensor([499_999, 5]))
    assert rows[:].sum(dim=1).tolist() == [600, 0]
    assert psutil.Process().memory_info().rss - before < 50e6


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_of_any_float_type_come_as_float32(kind, tmp_path):
    save_file({"activations": some().to(kind)}, tmp_path / "x.safetensors")
    rows = open_rows(tmp_path / "x.safetensors")[:]
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, some().to(kind).float())


def test_another_tensor_of_the_file(tmp_path):
    folder = write(tmp_path / "shards", some(), [20, 10], names=("activations", "ids"))
    assert [len(part) for part in open_parts(folder, "ids")] == [20, 10]


def test_files_that_cannot_be_used_are_refused_with_a_reason(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.npy is not there$"):
        open_rows(tmp_path / "missing.npy")
    with pytest.raises(FileNotFoundError, match=r"holds no \*.safetensors"):
        open_rows(tmp_path)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ValueError, match="neither .npy nor .safetensors nor a folder"):
        open_rows(tmp_path / "x.csv")
    with pytest.raises(ValueError, match=r"has no tensor 'h'; it has \['activations'\]"):
        open_rows(write(tmp_path / "named", some(), [30]), "h")
    folder = write(tmp_path / "cut", some(), [10, 10, 10])
    (folder / "00002-of-00003.safetensors").unlink()
    with pytest.raises(MissingShardsError, match="holds 2 of 3 shards; run what makes them again"):
        open_rows(folder)
    write(tmp_path / "mixed", some(), [20, 10])
    save_file({"activations": some(10, D=5)}, tmp_path / "mixed" / "00002-of-00002.safetensors")
    with pytest.raises(ValueError, match=r"must hold floats of shape \(samples, D\).*\(4,\), \(5,\)"):
        open_rows(tmp_path / "mixed")
    np.save(tmp_path / "whole.npy", np.arange(12).reshape(3, 4))
    np.save(tmp_path / "cube.npy", np.ones((3, 4, 5)))
    for name in ("whole", "cube"):
        with pytest.raises(ValueError, match=r"must hold floats of shape \(samples, D\)"):
            open_rows(tmp_path / f"{name}.npy")


def test_a_pickled_array_is_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}]))
    with pytest.raises(ValueError, match="Python objects"):
        open_rows(tmp_path / "objects.npy")


def test_shards_count_in_the_order_of_their_names(tmp_path, monkeypatch):
    folder = write(tmp_path / "shards", some(), [7, 1, 22])
    glob = type(folder).glob
    monkeypatch.setattr(type(folder), "glob", lambda path, pattern: sorted(glob(path, pattern), reverse=True))
    assert torch.equal(open_rows(folder)[:], some())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_values_are_found_when_all_rows_are_read(bad):
    x = some()
    x[17, 2] = bad
    with pytest.raises(ValueError, match="activations holds NaN or infinite values"):
        Rows([x]).norms()
