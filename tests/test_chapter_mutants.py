"""A broken equation must make the chapter that derives it fail.

Each mutant is written into a copy of the package; the code cells of the owning chapter
then run against the copy, and one of its checks has to raise. No training is involved
before the check: the chapters of the theory train toys at most.
"""

import os
import sys
from pathlib import Path

import matplotlib
import pytest
import torch
from execute import read
from forked import run_forked
from mutants import copy_package

from dfsae.data import ROOT

MUTANTS = [
    # equation, chapter, module, old text, new text
    ("Eq. 1 sign", "02_implicit_em", "objective", "(lowest - total.log())", "(total.log() - lowest)"),
    ("Eq. 1 mean", "02_implicit_em", "objective", "total = r.sum(dim=-1", "total = r.mean(dim=-1"),
    ("Eq. 1 gradient", "02_implicit_em", "objective", "return g[..., None] * r", "return -g[..., None] * r"),
    ("Eq. 2 sign", "02_implicit_em", "objective", "return torch.softmax(-E, dim=-1)", "return torch.softmax(E, dim=-1)"),
    ("Eq. 2 axis", "05_1_identity", "objective", "return torch.softmax(-E, dim=-1)", "return torch.softmax(-E, dim=0)"),
    ("Eq. 4 sign", "03_infomax", "objective", "return -variance.log()", "return variance.log()"),
    ("Eq. 4 ddof", "03_infomax", "objective", "/ (A.shape[-2] - 1) + eps", "/ A.shape[-2] + eps"),
    ("Eq. 4 gradient", "04_objective", "objective", "slope = -2 /", "slope = 2 /"),
    ("Eq. 5 factor", "03_infomax", "objective", "return squares.sum(dim=-1)", "return squares.sum(dim=-1) / 2"),
    ("Eq. 5 gradient", "09_speed", "objective", "None] * (4 * g[..., None] * scale)", "None] * (2 * g[..., None] * scale)"),
    ("Eq. 5 wide", "01_introduction", "objective", "- own.square().sum(dim=-1)", "+ own.square().sum(dim=-1)"),
    ("Eq. 5 ddof", "03_infomax", "objective", "return Z.mT @ Z / (A.shape[-2] - 1)", "return Z.mT @ Z / A.shape[-2]"),
    ("Eq. 6 sign", "03_infomax", "objective", "return torch.logdet(cov + eps", "return -torch.logdet(cov + eps"),
    ("Eq. 7 weight", "04_objective", "objective", "(torch.stack(terms, dim=-1) * weights)", "torch.stack(terms, dim=-1)"),
    ("Eq. 7 reduction", "04_objective", "objective", 'if reduction == "sum" else', 'if reduction == "mean" else'),
    ("Eq. 8 axis", "04_objective", "objective", "(gram - torch.eye", "(gram + torch.eye"),
    ("Eq. 9 bias", "04_objective", "encoder", "torch.addmm(b.reshape(-1, 1)", "torch.addmm(-b.reshape(-1, 1)"),
    ("Eq. 11 sign", "04_objective", "objective", "return E.amax(dim=-1, keepdim=True) - E", "return E - E.amin(dim=-1, keepdim=True)"),
    ("Eq. 12 sign", "04_objective", "encoder", "return a @ W\n", "return -a @ W\n"),
    ("likelihood row sign", "10_likelihood", "mixture", "W = -mu", "W = mu"),
    ("likelihood tied bias", "10_likelihood", "mixture", "W.square().sum(dim=-1) / 2", "W.square().sum(dim=-1)"),
    ("likelihood normaliser", "10_likelihood", "mixture", "D / 2 * math.log", "D * math.log"),
]


def run_cells(cells: list[str], package_root: Path) -> None:
    """Run code cells one after the other with the package in ``package_root``, in a process of their own."""
    for name in [name for name in sys.modules if name.split(".")[0] == "dfsae"]:
        del sys.modules[name]
    sys.path.insert(0, str(package_root))
    os.chdir(package_root)
    torch.set_num_threads(1)
    matplotlib.use("Agg")
    scope = {"__name__": "__main__"}
    for cell in cells:
        exec(compile(cell, "cell", "exec"), scope)


def run_chapter(chapter: str, package_root: Path) -> tuple[int, str]:
    """Exit code and output of a chapter's code cells against the package in ``package_root``."""
    cells = [cell.source for cell in read(ROOT / "notebooks" / f"{chapter}.md", "smoke").cells
             if cell.cell_type == "code"]
    log = package_root / "log"
    code, = run_forked(run_cells, [(cells, package_root)], log=log, timeout=300.0)
    return code, log.read_text()


@pytest.fixture
def package(tmp_path):
    """The folder of a copy of the package, with the committed results."""
    copy_package(tmp_path)
    (tmp_path / "results").symlink_to(ROOT / "results")
    return tmp_path


def test_the_harness_passes_an_intact_package(package):
    code, printed = run_chapter("05_1_identity", package)
    assert code == 0, printed


@pytest.mark.parametrize("chapter, module, old, new", [mutant[1:] for mutant in MUTANTS],
                         ids=[mutant[0] for mutant in MUTANTS])
def test_chapter_rejects_mutant(chapter, module, old, new, package):
    path = package / "dfsae" / f"{module}.py"
    text = path.read_text()
    assert old in text, "the mutant no longer applies; adapt it to the code"
    path.write_text(text.replace(old, new))
    code, printed = run_chapter(chapter, package)
    assert code != 0, "no check of the chapter noticed"
    assert "CheckFailed" in printed, printed[-2000:]
