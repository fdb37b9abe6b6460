"""The epochs: what learns when, what the loss adds up to, when it is enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keepfit.errors import TrainingError
from keepfit.learners.torch import devices, losses
from keepfit.learners.torch.lessons import Lesson, enough_rows, steps
from keepfit.learners.torch.networks import Shape, tensors
from keepfit.learners.torch.patterns import rate_groups
from keepfit.learners.torch.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor, nn

    from keepfit.learners.torch.checkpoints import Checkpoint
    from keepfit.learners.torch.learner import Torch

Losses = tuple[float, float | None]
"""The mean loss of an epoch's rows, and that of the rows held back."""


def hold(net: nn.Module, frozen: set[str]) -> None:
    """Let what is frozen not learn, and normalisation in it keep its statistics."""
    net.train()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name not in frozen and parameter.is_floating_point())
    for module in _still(net):
        module.eval()


@contextlib.contextmanager
def kept_still(*nets: nn.Module) -> Iterator[list[nn.Module]]:
    """Let normalisation that `hold` has stopped stand still, though a loop calls ``net.train()``.

    Yields the networks in which nothing of that is to be left behind; a loop may copy them.
    """
    found = list(nets)
    for net in nets:
        for module in _still(net):
            module.register_forward_pre_hook(_stand)
    try:
        yield found
    finally:
        for net in found:
            for module in net.modules():
                hooks = module._forward_pre_hooks
                for key in [key for key, hook in hooks.items() if hook is _stand]:
                    del hooks[key]


def _stand(module: nn.Module, inputs: Any) -> None:
    module.eval()


def _still(net: nn.Module) -> list[nn.Module]:
    """Return the normalisation that is frozen, once `hold` has said of each weight if it learns."""
    named = net.named_modules()
    return [one for name, one in named if hasattr(one, "running_mean") and _frozen(net, name)]


def _frozen(net: nn.Module, name: str) -> bool:
    """Return whether a module is frozen: its weights are; without any, those beside it.

    Those are all that the module around it has, or the nearest before it, which feed it; where
    none are before it, the nearest behind it.
    """
    held = _held(net.get_submodule(name))
    while held is None and name:
        name, _, own = name.rpartition(".")
        around = net.get_submodule(name)
        if _held(around):
            return True
        children = list(around.named_children())
        place = [child for child, _ in children].index(own)
        beside = [*reversed(children[:place]), *children[place + 1 :]]
        found = (_held(module) for _, module in beside)
        held = next((one for one in found if one is not None), _held(around))
    return bool(held)


def _held(module: nn.Module) -> bool | None:
    """Return whether all weights of a module are frozen; None where it has none."""
    learning = [one.requires_grad for one in module.parameters()]
    return None if not learning else not any(learning)


@dataclass
class Training:
    """A network on its way through the epochs.

    ``frozen`` never learns; ``thawing`` are groups of it that do after all, one more every
    ``learner.thaw`` epochs. ``anchors`` are the weights that others are pulled back to.
    """

    learner: Torch
    net: nn.Module
    lesson: Lesson
    problem: Problem
    shape: Shape
    device: Any
    seed: int
    frozen: set[str]
    thawing: Sequence[Sequence[str]] = ()
    anchors: dict[str, Tensor] = field(default_factory=dict)
    single: bool = False
    history: list[Losses] = field(default_factory=list)
    best: int | None = None
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def run(self, checkpoint: Checkpoint) -> None:
        """Train all epochs, from where a training that was cut off had come to.

        Raises
        ------
        TrainingError
            The loss is not a finite number.
        """
        self.loss = losses.loss_of(self.learner.loss, self.problem, single=self.single)
        self.optimiser = self._optimiser()
        self._resume(checkpoint.read())
        while len(self.history) < self.learner.epochs and not self._enough():
            epoch = len(self.history)
            hold(self.net, self._frozen_in(epoch))
            seeded = devices.seeded(self.device, self.seed, epoch)
            with seeded, enough_rows(self.learner.batch_size):
                lost = self._epoch(epoch)
            self.history.append((lost, self._held_back()))
            self._keep_best()
            checkpoint.write(self._state)
        if self.best is not None:
            _put(self.net, self._kept)
        checkpoint.remove()

    def _frozen_in(self, epoch: int) -> set[str]:
        thawed = epoch // self.learner.thaw if self.learner.thaw else 0
        return self.frozen.difference(*self.thawing[:thawed])

    def _optimiser(self) -> Any:
        """Return the optimiser over all that ever learns; what is pulled back does not decay too."""
        import torch

        # A rate may be for weights that are frozen just now.
        named = dict(self.net.named_parameters())
        never = self.frozen.difference(*self.thawing)
        lr = self.learner.lr
        groups = []
        for rate, held in rate_groups(named, lr if isinstance(lr, int | float) else dict(lr)):
            learning = {name: one for name, one in held.items() if name not in never}
            for anchored in (True, False):
                some = [one for name, one in learning.items() if (name in self.anchors) == anchored]
                decay = 0.0 if anchored else self.learner.weight_decay
                if some:
                    groups.append({"params": some, "lr": rate, "weight_decay": decay})
        return (self.learner.optimiser or torch.optim.AdamW)(groups)

    # One epoch

    def _epoch(self, epoch: int) -> float:
        import torch

        total = torch.zeros((), device=self.device)
        order = self.lesson.order(self.learner.replay, self.seed, epoch)
        for places in steps(order, self.learner.batch_size):
            self.optimiser.zero_grad(set_to_none=True)
            loss = self._loss(places)
            (loss + self._pull()).backward()
            if self.learner.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.learner.clip)
            self.optimiser.step()
            total += loss.detach() * len(places)
        mean = float(total) / len(order)
        if mean - mean != 0.0:
            raise TrainingError(
                f"expected a loss that is a finite number, got {mean} "
                f"in epoch {epoch + 1} of {self.learner.epochs}",
                hint=f"lower the learning rate (lr={self.learner.lr} here), or the limit clip=",
            )
        return mean

    def _loss(self, places: Tensor) -> Tensor:
        outputs, labels = self._answer(places)
        loss = self.loss(outputs, labels)
        loss = loss.mean() if loss.ndim else loss
        if self.lesson.taught is None:
            return loss
        taught = self.lesson.taught[places].to(self.device)
        alike = losses.likeness(outputs, taught, self.lesson.places, self.learner.temperature)
        share = self.learner.distil
        return (1.0 - share) * loss + share * alike

    def _answer(self, places: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        inputs, labels = self.lesson.at(places, self.net, self.shape, self.device)
        half = devices.half(self.device, self.learner.mixed)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            outputs = losses.shaped(self.net(*inputs), self.problem, self.shape.flat)
        return outputs.float(), labels

    def _pull(self) -> Tensor | float:
        """Return the penalty of weights for being away from where they started."""
        if not self.learner.l2sp:
            return 0.0
        away = [
            (one - self.anchors[name]).square().sum()
            for name, one in self.net.named_parameters()
            if name in self.anchors and one.requires_grad
        ]
        return 0.5 * self.learner.l2sp * sum(away) if away else 0.0

    # When it is enough

    def _held_back(self) -> float | None:
        """Return the loss of the rows held back."""
        import torch

        if not len(self.lesson.tail):
            return None
        self.net.eval()
        total = 0.0
        with torch.inference_mode():
            for places in self.lesson.tail.split(max(self.learner.batch_size, 1_024)):
                loss = self.loss(*self._answer(places))
                total += float(loss.mean()) * len(places)
        return total / len(self.lesson.tail)

    def _keep_best(self) -> None:
        last = self.history[-1][1]
        if last is None:
            return
        before = None if self.best is None else self.history[self.best][1]
        if before is None or last < before:
            self.best = len(self.history) - 1
            self._kept = _copied(self.net)

    def _enough(self) -> bool:
        if self.best is None or self.learner.patience is None:
            return False
        return len(self.history) - 1 - self.best >= self.learner.patience

    # Going on after a cut

    def _state(self) -> dict[str, Any]:
        return {
            "weights": _copied(self.net),
            "optimiser": self.optimiser.state_dict(),
            "history": [list(one) for one in self.history],
            "best": self.best,
            "kept": self._kept,
        }

    def _resume(self, state: dict[str, Any] | None) -> None:
        if state is None or not _fits(state["weights"], self.net):
            return
        try:
            self.optimiser.load_state_dict(state["optimiser"])
        except ValueError:
            return
        _put(self.net, state["weights"])
        self.history = [(lost, held) for lost, held in state["history"]]
        self.best, self._kept = state["best"], state["kept"]


def _copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().cpu().clone() for name, one in tensors(net).items()}


def _fits(values: dict[str, Tensor], net: nn.Module) -> bool:
    """Return whether weights are those of a network, which the user's packages may have changed."""
    shapes = {name: one.shape for name, one in tensors(net).items()}
    return shapes == {name: one.shape for name, one in values.items()}


def _put(net: nn.Module, values: dict[str, Tensor]) -> None:
    import torch

    with torch.no_grad():
        for name, one in tensors(net).items():
            one.copy_(values[name])
