"""One network trained on the training patients and stopped by the selection patients."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from REACTKDLib.normalise import to_feature_grid
from REACTKDLib.prognosis.network_inputs import network_batch, stacked_volumes
from REACTKDLib.prognosis.networks.batch import PrognosisBatch
from REACTKDLib.prognosis.networks.build import PrognosisNetwork, build_network, log_odds
from REACTKDLib.prognosis.networks.spec import PrognosisNetworkSpec
from REACTKDLib.prognosis.scaling import PrognosisScaling

from .cohort import PrognosisCase
from .dropout import thin_out
from .losses import PrognosisLoss
from .network_images import LesionTask, augmented, mirrored
from .network_settings import NetworkSettings
from .sampling import balanced_batches
from .text_tokens import TextReader

__all__ = ["Patients", "Trained", "learn_lesions", "one_thread", "predicted", "train_network"]

#: Patients per forward pass without gradient.
_ROWS = 32
#: Of the selection loss: what is no more than rounding is no improvement.
_LEAST_GAIN = 1e-4


@dataclass(frozen=True, eq=False)
class Patients:
    """Patients as tensors; volumes in half precision, to hold a cohort in memory.

    ``labels`` (n,), 0 or 1. ``lesions`` (n, k', j', i'), how much of each position of the CT's
    feature map is lesion, NaN where a patient has none drawn; None where nobody has.
    """

    everything: PrognosisBatch
    labels: Tensor
    lesions: Tensor | None = None

    @classmethod
    def of(
        cls,
        cases: Sequence[PrognosisCase],
        scaling: PrognosisScaling,
        spec: PrognosisNetworkSpec,
        size: tuple[int, int, int] | None = None,
        texts: TextReader | None = None,
    ) -> Patients:
        """``size`` of the volumes as :func:`REACTKDLib.prognosis.network_inputs.network_batch`;
        ``texts`` for a network that reads text."""
        arrays = [case.arrays for case in cases]
        whole = network_batch(arrays, scaling, spec.modalities, size)
        if not spec.variables:
            whole = replace(whole, clinical=None)
        if texts is not None and spec.text_hidden:
            vectors, mask = texts(arrays)
            whole = replace(whole, text=vectors, text_mask=mask)
        drawn, lesions = [c.lesion for c in cases], None
        if whole.ct is not None and whole.roi is not None:
            if any(lesion is not None for lesion in drawn):
                k, j, i = whole.ct.shape[2:]
                cells = to_feature_grid(stacked_volumes(drawn, (k, j, i)), spec.ct.total_stride)
                cells[[lesion is None for lesion in drawn]] = np.nan
                lesions = torch.from_numpy(cells[:, 0])
            whole = replace(whole, ct=whole.ct.half(), roi=whole.roi.half())
        return cls(whole, torch.tensor([c.label for c in cases]), lesions)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Sequence[int], device: torch.device) -> PrognosisBatch:
        """Some patients, in single precision, on a device."""
        index = torch.tensor(list(rows))
        chosen = {k: v[index].to(device) for k, v in vars(self.everything).items() if v is not None}
        halves = {k: v.float() for k, v in chosen.items() if v.dtype == torch.float16}
        return PrognosisBatch(**{**chosen, **halves})


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in evaluation mode, on the CPU.

    ``epoch`` whose weights it has (0: untrained), of ``epochs`` that were trained in ``steps``
    steps; ``selection_loss`` there; ``selection_logits`` (n,), log odds of the selection patients.
    """

    network: PrognosisNetwork
    epoch: int
    epochs: int
    steps: int
    selection_loss: float
    selection_logits: np.ndarray


@contextmanager
def one_thread() -> Iterator[None]:
    """torch with one thread on the CPU: sums are then the same on every machine of a kind, and a
    study uses its cores by ``--part``."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def predicted(network: PrognosisNetwork, patients: Patients, device: torch.device) -> np.ndarray:
    """Log odds of the event, (n,) float64; the network comes back in evaluation mode."""
    network.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(patients), _ROWS):
            rows = range(start, min(start + _ROWS, len(patients)))
            logits = network(patients.batch(rows, device)).logits.double()
            found.append(log_odds(logits, 1, network.spec.form).cpu().numpy())
    return np.concatenate(found)


def train_network(
    spec: PrognosisNetworkSpec,
    settings: NetworkSettings,
    train: Patients,
    selection: Patients,
    seed: int,
    device: torch.device,
) -> Trained:
    """Train and stop early. All that is random follows ``seed``; torch's own state is left alone.

    AdamW. The selection loss is the cross-entropy of the selection patients; where batches are
    balanced, each outcome has half of its weight.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _train(spec, settings, train, selection, seed, device)


def _train(
    spec: PrognosisNetworkSpec,
    settings: NetworkSettings,
    train: Patients,
    selection: Patients,
    seed: int,
    device: torch.device,
) -> Trained:
    network = build_network(spec).to(device)
    loss = PrognosisLoss(settings.loss, spec.width).to(device)
    generator = torch.Generator().manual_seed(seed)
    lesions = None
    if settings.lesions and train.lesions is not None and spec.form == "corrected":
        lesions = LesionTask(spec.width).to(device)
    if lesions is not None and settings.lesion_epochs:
        learn_lesions(network, lesions, settings, train, seed, device)
    parameters = [*network.parameters(), *(lesions.parameters() if lesions else ())]
    optimiser, schedule = _optimiser(parameters, settings, train, seed)
    best = copy.deepcopy(network.state_dict())
    logits = predicted(network, selection, device)
    least, chosen, steps, epoch, since = _loss(logits, selection, settings), 0, 0, 0, 0
    while epoch < settings.epochs and since < settings.patience:
        network.train()
        loss.train()
        for rows in _batches(train.labels.numpy(), settings, seed, epoch):
            batch, turned = train.batch(rows, device), None
            if batch.ct is not None:
                batch, turned = augmented(batch, settings.augmentation, generator)
            tokens = network.ct_tokens(batch)
            shown = thin_out(batch, spec, settings.dropout, generator)
            terms = loss(network(shown, tokens), train.labels[rows].to(device))
            if lesions is not None and tokens is not None and train.lesions is not None:
                cells = train.lesions[rows].to(device)
                terms["lesions"] = settings.lesions * lesions(tokens, mirrored(cells, turned))
            optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            nn.utils.clip_grad_norm_(parameters, settings.clip)
            optimiser.step()
            schedule.step()
            steps += 1
        epoch += 1
        if epoch % settings.select_every and epoch < settings.epochs:
            continue
        found = predicted(network, selection, device)
        now = _loss(found, selection, settings)
        since += 1
        if now < least - _LEAST_GAIN:
            least, chosen, since, logits = now, epoch, 0, found
            best = copy.deepcopy(network.state_dict())
    network.load_state_dict(best)
    return Trained(network.cpu().eval(), chosen, epoch, steps, least, logits)


def learn_lesions(
    network: PrognosisNetwork,
    lesions: LesionTask,
    settings: NetworkSettings,
    train: Patients,
    seed: int,
    device: torch.device,
) -> None:
    """Train the CT encoder to find lesions, before it learns of any outcome: ``lesion_epochs`` of
    the settings, the network changed in place. ``train`` has lesions drawn (n, k', j', i')."""
    assert train.lesions is not None
    # Those that the task does not reach have no gradient, and stay as they are.
    parameters = [*network.parameters(), *lesions.parameters()]
    plain = replace(settings, balanced=False, epochs=settings.lesion_epochs)
    optimiser, schedule = _optimiser(parameters, plain, train, seed)
    labels, generator = train.labels.numpy(), torch.Generator().manual_seed(seed)
    network.train()
    for epoch in range(plain.epochs):
        for rows in _batches(labels, plain, seed, epoch):
            batch, turned = augmented(train.batch(rows, device), plain.augmentation, generator)
            tokens = network.ct_tokens(batch)
            assert tokens is not None
            optimiser.zero_grad()
            lesions(tokens, mirrored(train.lesions[rows].to(device), turned)).backward()
            nn.utils.clip_grad_norm_(parameters, plain.clip)
            optimiser.step()
            schedule.step()


def _optimiser(
    parameters: Sequence[nn.Parameter], settings: NetworkSettings, train: Patients, seed: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and the learning rate of its steps in the settings' epochs."""
    optimiser = torch.optim.AdamW(
        parameters, settings.learning_rate, weight_decay=settings.weight_decay
    )
    per_epoch = len(list(_batches(train.labels.numpy(), settings, seed, 0)))
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, _rate(settings, per_epoch))


def _batches(
    labels: np.ndarray, settings: NetworkSettings, seed: int, epoch: int
) -> Iterator[list[int]]:
    if settings.balanced:
        yield from balanced_batches(labels, settings.batch_size, seed, epoch)
        return
    order = np.random.default_rng((seed, epoch)).permutation(len(labels)).tolist()
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        if len(rows) > 1:  # batch norm has no variance of one
            yield rows


def _rate(settings: NetworkSettings, per_epoch: int) -> Callable[[int], float]:
    """Factor of the learning rate of each step: up along a line, down along a cosine."""
    total = max(1, settings.epochs * per_epoch)
    rising = max(1, round(settings.warm_up * total))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))

    return factor


def _loss(logits: np.ndarray, patients: Patients, settings: NetworkSettings) -> float:
    """Cross-entropy of log odds; of balanced outcomes if training balances them."""
    event = patients.labels.numpy() == 1
    each = np.logaddexp(0, np.where(event, -logits, logits))
    both = event.any() and not event.all()
    if settings.balanced and both:
        return float((each[event].mean() + each[~event].mean()) / 2)
    return float(each.mean())
