"""The products of a head, in every way that this machine can do them, against float64."""

import pytest
import torch

from agentdistill.policy import products


@pytest.fixture(params=["tiles", "one tile", "without oneDNN"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tiles":
        monkeypatch.setattr(products, "TILE_BYTES", 4 * 9 * 70)
    if request.param == "without oneDNN":
        monkeypatch.setattr(products, "_tile_product", lambda: None)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_products_are_exact_for_the_numbers_given(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-precision inputs are not rounded a second time on a machine that has to emulate them."""
    monkeypatch.setattr(products, "native", lambda dtype: dtype in (torch.float32, torch.float64))
    torch.manual_seed(0)
    states, weight, kept = torch.randn(5, 9).to(dtype), torch.randn(200, 9).to(dtype), products.accumulated(dtype)
    gradient = torch.randn(5, 200, dtype=kept)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    out = torch.full((5, 200), torch.nan, dtype=kept)
    assert products.project(states, weight, out) is out
    torch.testing.assert_close(out.double(), states.double() @ weight.double().T, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        products.pull(gradient, weight).double(), gradient.double() @ weight.double(), rtol=tolerance, atol=10 * tolerance
    )
    total = torch.full((200, 9), torch.nan, dtype=kept)
    products.add_outer(total, gradient, states, first=True)
    products.add_outer(total, gradient, states, first=False)
    torch.testing.assert_close(total.double(), 2 * gradient.double().T @ states.double(), rtol=tolerance, atol=10 * tolerance)


def test_a_machine_with_half_precision_of_its_own_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "native", lambda dtype: True)
    torch.manual_seed(0)
    states, weight, gradient = torch.randn(5, 9).bfloat16(), torch.randn(20, 9).bfloat16(), torch.randn(5, 20)
    out, total = torch.empty(5, 20), torch.empty(20, 9)
    assert torch.equal(products.project(states, weight, out), (states @ weight.T).float())
    assert products.pull(gradient, weight).dtype == torch.bfloat16
    products.add_outer(total, gradient, states, first=True)
    products.add_outer(total, gradient, states, first=False)
    torch.testing.assert_close(total, 2 * gradient.T @ states.float(), rtol=2e-2, atol=5e-2)
    assert total.dtype == torch.float32


def test_memory_of_another_dtype_is_filled_all_the_same() -> None:
    states, weight, out = torch.randn(3, 4), torch.randn(6, 4), torch.empty(3, 6, dtype=torch.float64)
    torch.testing.assert_close(products.project(states, weight, out), (states @ weight.T).double())


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_are_no_special_case(rows: int) -> None:
    states, weight = torch.randn(rows, 4), torch.randn(6, 4)
    torch.testing.assert_close(products.project(states, weight, torch.empty(rows, 6)), states @ weight.T)
    assert products.pull(torch.randn(rows, 6), weight).shape == (rows, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1000, 1237)])
def test_sums_are_narrowed_in_their_own_memory(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    sums = torch.randn(shape)
    expected, address = sums.to(dtype), sums.data_ptr()
    found = products.narrowed(sums, dtype)
    assert torch.equal(found, expected)
    assert (found.data_ptr() == address) == (dtype.itemsize <= 4)
