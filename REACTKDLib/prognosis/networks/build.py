"""One call for every form of the network, and probabilities from what it answers."""

from __future__ import annotations

import torch
from torch import Tensor

from .faithful import FaithfulNetwork
from .spec import PrognosisNetworkSpec, check_spec
from .tmi import TmiNetwork

PrognosisNetwork = TmiNetwork | FaithfulNetwork


def build_network(spec: PrognosisNetworkSpec, seed: int | None = None) -> PrognosisNetwork:
    """The network of a specification, with random weights: those of ``seed``, or of torch's state.

    Called as ``network(batch)``, or ``network(batch, network.ct_tokens(batch))`` where the CT's
    tokens are used again.

    Raises
    ------
    OptionError : the specification cannot be built.
    """
    check_spec(spec)
    kind = TmiNetwork if spec.form == "corrected" else FaithfulNetwork
    if seed is None:
        return kind(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(spec)


def log_probabilities(logits: Tensor, form: str) -> Tensor:
    """Logarithms (N, classes) of the classes' probabilities.

    ``form`` "corrected": softmax of the logits; "faithful": softmax of their sigmoids, as the
    published form is trained, so that no probability of two classes leaves 0.269..0.731.
    """
    return (torch.sigmoid(logits) if form == "faithful" else logits).log_softmax(dim=1)


def log_odds(logits: Tensor, outcome: int, form: str = "corrected") -> Tensor:
    """Log odds (N,) of the class ``outcome`` against all others."""
    logarithms = log_probabilities(logits, form)
    others = [n for n in range(logits.shape[1]) if n != outcome]
    return logarithms[:, outcome] - logarithms[:, others].logsumexp(dim=1)
