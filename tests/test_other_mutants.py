"""Every second mutant; see test_mutants.py."""

import pytest
from mutants import MUTANTS
from test_mutants import name_of, owners_of, package, run_tests  # noqa: F401  fixtures


@pytest.mark.parametrize("mutant", MUTANTS[1::2], ids=name_of)
def test_a_mutant_breaks_an_owner(mutant, run_tests):  # noqa: F811
    assert run_tests(mutant, owners_of(mutant)) == pytest.ExitCode.TESTS_FAILED
