"""The optimizer takes the steps of torch's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from stmfg.model.adam import Adam


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_takes_the_steps_of_torch(weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator)]
    x = torch.randn(20, 4, generator=generator)
    results = []
    for kind in (
        lambda p: Adam(p, 0.05, weight_decay),
        lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=weight_decay),
    ):
        matrix, bias = (value.clone().requires_grad_() for value in start)
        optimizer = kind([matrix, bias])
        for _ in range(30):
            if isinstance(optimizer, torch.optim.Optimizer):
                optimizer.zero_grad()
            ((x @ matrix + bias).square().mean() + bias[0].exp()).backward()
            optimizer.step()
        results.append((matrix.detach(), bias.detach()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_parameters_without_a_gradient_stay() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = Adam([used, unused], 0.1, 0.5)
    used.sum().backward()
    optimizer.step()
    assert (used < 1).all()
    assert (unused == 1).all()
    assert used.grad is None


def test_training_does_not_load_the_compiler() -> None:
    script = (
        "import sys, stmfg; adata = stmfg.datasets.simulate(120, 60); "
        "stmfg.tl.domains(adata, n_domains=3, epochs=2); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
