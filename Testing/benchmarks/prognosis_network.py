"""How long a step of training and an explanation of the small prognosis network take.

Prints CPU seconds of this process: wall time on a busy machine says nothing. Generated patients
with 58 variables and 127 radiomics families of 14 features, CT 24 x 32 x 32.

    python Testing/benchmarks/prognosis_network.py
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from REACTKDLib.prognosis.explain import explain_contributions
from REACTKDLib.prognosis.network_game import network_game, parts_of
from REACTKDLib.prognosis.networks.batch import PrognosisBatch
from REACTKDLib.prognosis.networks.build import build_network
from REACTKDLib.prognosis.networks.spec import FamilySpec, PrognosisNetworkSpec, VariableSpec

SPEC = PrognosisNetworkSpec(
    variables=tuple(VariableSpec(f"v{n}") for n in range(58)),
    families=tuple(FamilySpec(f"f{n}", 14) for n in range(127)),
)


def patients(count: int) -> PrognosisBatch:
    """Complete patients of random numbers."""
    ct = torch.randn(count, 1, 24, 32, 32)
    numbers = (torch.randn(count, n) for n in (len(SPEC.variables), SPEC.radiomics_features))
    clinical, radiomics = numbers
    return PrognosisBatch(ct, torch.ones_like(ct), clinical, radiomics=radiomics)


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    variants = (
        {},
        {"directions": "all"},
        {"fusion": "hfb"},
        {"fusion": "concatenation"},
        {"form": "faithful"},
    )
    for change in variants:
        network = build_network(replace(SPEC, **change), 0)
        batch = patients(8)
        network(batch).logits.sum().backward()
        start = time.process_time()
        network(batch).logits.sum().backward()
        seconds = time.process_time() - start
        size = sum(p.numel() for p in network.parameters())
        print(f"{change or 'default'}: {size} parameters, step of 8 patients {seconds:.2f} s")
    network, batch = build_network(SPEC, 0).eval(), patients(1)
    for pairs in (8, 32):
        start = time.process_time()
        game = network_game(network, batch, parts_of(network, batch), outcome=1)
        found = explain_contributions(game, parts_of(network, batch), pairs=pairs)
        seconds = time.process_time() - start
        worst, largest = max(found.errors), max(abs(c.logit) for c in found.parts)
        print(
            f"explanation, {pairs} pairs: {seconds:.1f} s; largest part {largest:.4f},"
            f" largest standard error {worst:.5f} (log odds, random weights)"
        )


if __name__ == "__main__":
    main()
