"""The tests must be able to fail: every mutant of the code has to break a test that owns it.

The owners run in this process, in a pytest session of their own, against a mutated copy
of the package. A mutant is one line of the table in mutants.py; every second one is in
test_other_mutants.py, since processes share the tests by file.
"""

import compileall
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook
from hypothesis import settings
from mutants import MUTANTS, ROOT, SCRIPTS, Mutant, copy_package, functions, mutated, mutated_source

TESTS = Path(__file__).parent
FULLY_COVERED = ["objective", "encoder", "baselines", "metrics", "training", "scale", "fixed_scale", "features", "mixture",
                 "checks", "claims", "autoencoders", "volume", "fashion", "activations", "distributed",
                 "shards", "batch_topk", "units", "dashboards", "lm",
                 *(f"experiments/{name}" for name in (
                     "contestants", "comparison", "selection", "classical", "sweeps", "anomaly", "fashion", "wide_selection", "wide",
                     "superposition", "language", "massive", "lower_rate"))]
# What the inner session does not need; collecting garbage takes most of its time.
QUIET = ["-q", "-x", "-s", "--tb=line", "--assert=plain", "-o", "addopts="] + [
    word for plugin in ("cacheprovider", "unraisableexception", "threadexception", "faulthandler", "xdist")
    for word in ("-p", f"no:{plugin}")]


def owners_of(mutant: Mutant) -> list[str]:
    return [str(TESTS / (name if "::" in name else f"test_{mutant.module.split('/')[0]}.py::{name}")) for name in mutant.owners.split()]


def name_of(mutant: Mutant) -> str:
    return f"{mutant.function}: {mutant.new}".replace("\n", " ")


def take_out_own_modules() -> dict:
    """Forget the package and its tests, so that they are imported anew; libraries stay loaded."""
    own = [name for name in sys.modules
           if name.split(".")[0] in ("dfsae", "conftest", "execute", "ranks", *SCRIPTS) or name.startswith("test_")]
    return {name: sys.modules.pop(name) for name in own}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder of a copy of the package, intact between tests."""
    folder = tmp_path_factory.mktemp("package")
    copy_package(folder)
    # Bytecode that is checked against the text of a module, not its time: a mutant is never taken for the original.
    compileall.compile_dir(folder / "dfsae", quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return folder


@pytest.fixture
def run_tests(package, monkeypatch):
    """Apply a mutant, or none, and return the exit code of the given tests."""
    def run(mutant: Mutant | None, tests: list[str]) -> int:
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        monkeypatch.syspath_prepend(package)
        # Neither bytecode of mutants, nor the assertions of the inner tests rewritten by the outer session.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if not isinstance(finder, AssertionRewritingHook)])
        there = sorted(package.iterdir())
        before = take_out_own_modules()
        try:
            with mutated(package, mutant):
                code = pytest.main([*QUIET, "-o", f"pythonpath={package / 'scripts'}", *tests])
            assert sys.modules["dfsae"].__file__ == str(package / "dfsae" / "__init__.py")
            assert sorted(package.iterdir()) == there, "a test has left something for the next mutant"
            return code
        finally:
            take_out_own_modules()
            sys.modules.update(before)
            settings.load_profile("repeatable")
    return run


def test_the_owners_pass_without_a_mutant(run_tests):
    owners = dict.fromkeys(owner for mutant in MUTANTS for owner in owners_of(mutant))
    assert run_tests(None, list(owners)) == pytest.ExitCode.OK


@pytest.mark.parametrize("mutant", MUTANTS[::2], ids=name_of)
def test_a_mutant_breaks_an_owner(mutant, run_tests):
    assert run_tests(mutant, owners_of(mutant)) == pytest.ExitCode.TESTS_FAILED


def test_every_function_has_a_mutant():
    for module in FULLY_COVERED:
        names = {name for name, _ in functions((ROOT / "dfsae" / f"{module}.py").read_text())}
        assert names == {mutant.function for mutant in MUTANTS if mutant.module == module and mutant.function}


def test_a_mutant_that_does_not_apply_is_an_error():
    with pytest.raises(ValueError, match="f has 2 times 'x', not once; adapt the mutant to the code"):
        mutated_source(Mutant("m", "f", "x", "y", ""), "def f(x):\n    return x\n")
    assert mutated_source(Mutant("m", "g", "x", "y", ""), "x = 1\n\n\ndef g():\n    return x\n") == \
        "x = 1\n\n\ndef g():\n    return y\n"
