"""Sparse gradients: rules that step the rows that they have, and those that refuse them, as in PyTorch."""

from typing import Any

import pytest

from torch_tensors import NAMES, close, numbers, step

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")


# Indices and values of a gradient of 5 rows of 3: some rows twice, none, all axes sparse.
SPARSE: dict[str, tuple[list[list[int]], Any]] = {
    "rows twice": ([[4, 1, 4, 1, 4]], numbers(5, 3)),
    "one row": ([[2]], numbers(1, 3)),
    "no row": ([[]], numbers(0, 3)),
    "elements": ([[0, 0, 4, 0], [1, 1, 2, 0]], numbers(4)),
}


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("case", SPARSE)
@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adagrad", {"lr": 0.1}), ("Lion", {"lr": 0.1})],
    ids=["SGD", "momentum", "Adagrad", "Lion"],
)
def test_sparse_gradients(name: str, options: dict[str, Any], case: str, dtype: Any, maximize: bool) -> None:
    """The bits of the dense gradient, as rows of zeros leave these rules' parameters alone at the first step."""
    indices, values = SPARSE[case]
    w = numbers(5, 3, seed=7, dtype=dtype)
    with torch.sparse.check_sparse_tensor_invariants(True):
        grad = torch.sparse_coo_tensor(indices, values.to(dtype), (5, 3))
    p, q = w.clone(), w.clone()
    before = grad._values().clone()
    step(getattr(ours, name), p, grad, **options, maximize=maximize)
    step(getattr(ours, name), q, grad.to_dense(), **options, maximize=maximize)
    assert torch.equal(p, q)
    assert torch.equal(grad._values(), before)
    assert not p.grad.is_coalesced() or p.grad._nnz() < 2
    if name in NAMES:
        theirs = w.clone()
        step(getattr(torch.optim, name), theirs, grad, **options, maximize=maximize)
        torch.testing.assert_close(p, theirs, rtol=0, atol=20 * torch.finfo(dtype).eps * float(w.abs().max()))


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.1}, {"average": 0.5}], ids=["plain", "max_norm", "average"])
@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_sparse_training(name: str, options: dict[str, Any]) -> None:
    """An embedding with sparse gradients beside a dense layer: the bits of the dense embedding."""
    results = []
    for sparse in (True, False):
        torch.manual_seed(1)
        embedding, layer = torch.nn.Embedding(10, 4, sparse=sparse), torch.nn.Linear(4, 2)
        before = embedding.weight.detach().clone()
        optimizer = getattr(ours, name)([*embedding.parameters(), *layer.parameters()], lr=0.1, **options)
        for words in ([1, 2, 1], [9, 0, 2]):
            optimizer.zero_grad()
            layer(embedding(torch.tensor(words))).square().sum().backward()
            optimizer.step()
        results.append((embedding.weight.detach(), layer.weight.detach()))
    # A norm adds the squares in another order.
    ulps = 20.0 if "max_norm" in options else 0.0
    for mine, dense in zip(*results, strict=True):
        close(mine, dense, ulps)
    assert not torch.equal(results[0][0], before)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("SGD", "Adagrad")])
def test_sparse_gradients_are_refused(name: str) -> None:
    p, q = torch.ones(2, 3), torch.ones(2, 3)
    p.grad, q.grad = torch.ones(2, 3), torch.ones(2, 3).to_sparse()
    with pytest.raises(RuntimeError, match=f"^{name.removesuffix('W')} does not support sparse gradients"):
        getattr(ours, name)([p, q]).step()
    assert torch.equal(p, torch.ones(2, 3))


@pytest.mark.parametrize("name", ["Adagrad"])
def test_weight_decay_with_sparse_gradients_is_refused(name: str) -> None:
    def fail(module: Any) -> str:
        p = torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="weight_decay option is not compatible") as caught:
            step(getattr(module, name), p, torch.ones(2, 3).to_sparse(), weight_decay=0.1)
        return str(caught.value)

    assert fail(ours) == fail(torch.optim)
