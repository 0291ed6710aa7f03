"""The comparison that nbval uses must be able to fail."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("nbval_compare", Path(__file__).parent / "smoke" / "conftest.py")
nbval_compare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(nbval_compare)
Text = nbval_compare.TolerantText


@pytest.mark.parametrize("new, stored", [
    ("loss -532.051", "loss -532.051001"), ("error 4.5e-08", "error 3.9e-08"),
    ("64 units, 1.0", "64 units, 1.0"), ("-0.0000", "0.0000"),
    ("measured 0, criterion", "measured 1.1e-16, criterion"), ("measured 3.3e-16, criterion", "measured 0, criterion"),
])
def test_rounding_differences_pass(new, stored):
    assert Text(new) == Text(stored)


@pytest.mark.parametrize("new, stored", [
    ("loss -532.051", "loss -532.151"), ("loss 532.05", "loss -532.05"), ("64 units", "63 units"), ("measured 5, criterion", "measured 4, criterion"),
    ("holds", "FAILS"), ("1.0 2.0", "1.0"), ("error 4.5e-03", "error 3.9e-03"),
])
def test_real_differences_fail(new, stored):
    assert Text(new) != Text(stored)
