"""What a network learns: losses by name, likeness to the champion's answers, scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keepfit.errors import ConfigError, TrainingError
from keepfit.learners.torch.problems import Problem

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SMALLEST = 1e-7
"""The least probability that a teacher's answer counts as."""


def shaped(outputs: Any, problem: Problem, inputs: int) -> Tensor:
    """Return a network's outputs as (n,) values or logits of the second class, or (n, classes).

    A network may have more outputs than there are classes; the first ones count.

    Raises
    ------
    TrainingError
        It has too few, or answers with something else than one tensor.
    """
    import torch

    if not isinstance(outputs, torch.Tensor):
        raise TrainingError(
            f"expected a network that returns a tensor, got {type(outputs).__name__}",
            hint="wrap the network in one that returns its logits alone",
        )
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if outputs.ndim == 1 and problem.single:
        return outputs
    classes = len(problem.classes)
    if outputs.ndim == 2 and classes and outputs.shape[1] >= classes:
        return outputs[:, :classes]
    wanted = f"{classes} outputs" if classes else "1 output"
    got = "1" if outputs.ndim == 1 else " x ".join(map(str, outputs.shape[1:]))
    raise TrainingError(
        f"expected {wanted} per row ({problem.task}), got {got} from {inputs:,} inputs",
        hint="let the factory ask for them: def network(inputs, classes)",
    )


def loss_of(chosen: str | Callable[..., Any] | None, problem: Problem, *, single: bool) -> Any:
    """Return a function of outputs and labels: one number, the mean over rows.

    Raises
    ------
    ConfigError
        The loss is for other outputs than the network has.
    """
    from torch.nn import functional

    if callable(chosen):
        return chosen
    if problem.task == "regression":
        known = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "huber": functional.smooth_l1_loss,
        }
        return known[chosen or "mse"]
    if single:
        return functional.binary_cross_entropy_with_logits
    if chosen == "bce":
        raise ConfigError(
            "expected a network with one output for loss='bce', got one output per class",
            hint="loss='cross_entropy' learns one output per class",
        )
    return functional.cross_entropy


def as_labels(known: np.ndarray, problem: Problem, *, single: bool) -> Tensor:
    """Return codes of classes, or values, as a loss takes them."""
    import torch

    if problem.task == "regression":
        return torch.tensor((known - problem.shift) / problem.width).float()
    codes = torch.tensor(known)
    return codes.float() if single else codes.long()


def likeness(outputs: Tensor, taught: Tensor, places: list[int], temperature: float) -> Tensor:
    """Return how far outputs are from a teacher's: cross entropy at a temperature, or squares.

    ``taught`` are the teacher's logarithms of probabilities, of the classes at ``places``
    among the outputs; or its values.
    """
    import torch
    from torch.nn import functional

    if not places:
        return functional.mse_loss(outputs, taught)
    if outputs.ndim == 1:
        outputs = torch.stack([torch.zeros_like(outputs), outputs], dim=1)
    said = functional.log_softmax(outputs[:, places] / temperature, dim=1)
    wanted = functional.log_softmax(taught / temperature, dim=1)
    apart = functional.kl_div(said, wanted, reduction="batchmean", log_target=True)
    # Gradients shrink with the square of the temperature (Hinton et al., section 2).
    return apart * temperature**2


def teaching(answers: np.ndarray, problem: Problem) -> Tensor:
    """Return a teacher's answers as `likeness` takes them."""
    import numpy as np
    import torch

    if problem.task == "regression":
        return torch.from_numpy((answers - problem.shift) / problem.width).float()
    both = answers if answers.ndim == 2 else np.stack([1.0 - answers, answers], axis=1)
    return torch.from_numpy(np.log(np.clip(both, SMALLEST, 1.0))).float()


def scores(outputs: Tensor, problem: Problem) -> np.ndarray:
    """Return outputs as probabilities, or as values in the labels' own unit."""
    import torch

    held = outputs.detach().cpu().double()
    if problem.task == "regression":
        answers = held * problem.width + problem.shift
    else:
        answers = torch.sigmoid(held) if held.ndim == 1 else torch.softmax(held, dim=1)
    found: np.ndarray = answers.numpy()
    return found
