"""The learner: how a network is trained, written down and checked before anything is read."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.errors import ConfigError, ExtraMissing, nearest
from keepfit.learners import estimators

if TYPE_CHECKING:
    import polars as pl

    from keepfit.learners.torch.model import TorchModel
    from keepfit.protocols import Model

CLASSIFICATION, REGRESSION = "classification", "regression"
LOSSES = {
    "cross_entropy": CLASSIFICATION,
    "bce": CLASSIFICATION,
    "mse": REGRESSION,
    "mae": REGRESSION,
    "huber": REGRESSION,
}
"""The losses that have a name, with what they are for."""

ASKABLE = ("inputs", "classes", "outputs", "numbers", "categories")
"""What a factory may ask for by the names of its arguments."""

_LOOP_OWNS = (
    "loss",
    "lr",
    "epochs",
    "optimiser",
    "weight_decay",
    "clip",
    "thaw",
    "l2sp",
    "distil",
    "temperature",
    "patience",
    "tail",
    "mixed",
    "checkpoints",
)
"""Settings that have no meaning beside a training loop of the user's own."""


@dataclass(frozen=True, repr=False, eq=False)
class Torch:
    """Trains a network of PyTorch: your own, or keepfit's for tables.

    Numbers come to the network standardised, with one more number for each column that has
    gaps, categories as ones and zeros, lists of numbers as they are: one tensor of floats.
    A network whose ``forward`` takes two arguments gets the numbers and the codes of the
    categories (0 is missing) apart. Without a network keepfit builds one: an embedding per
    category (of ``min(50, ceil(1.6 * n ** 0.56))`` numbers for n categories) and layers of
    ``hidden`` sizes with ReLU between.

    ``start="scratch"`` and ``"pretrained"`` take the weights that the factory makes, under
    the seed; from ``"champion"`` its weights are copied where name and shape fit, and
    ``model.transfer`` says what was copied, what is new and what was left over.
    ``update="head"`` lets the last layer alone learn, or what ``head`` names. From scratch
    ``freeze`` holds only what came with weights: what the factory draws at random has to learn.
    A warm start pays where the world has moved: with older rows replayed it needs a third of
    the new ones. Where the world has turned around, what the champion knows is a hindrance.

    Patterns are regular expressions or globs on names of parameters; the name of a module
    stands for all in it: ``"layer[1-3]"``, ``"encoder"``, ``"*.bias"``. Weights that two modules
    share are frozen by the name that they have in either.

    Parameters
    ----------
    network
        A function or class that makes a network (it may ask for ``inputs`` and ``classes``),
        or a network, which is copied and never trained itself.
    loss
        ``"cross_entropy"``, ``"bce"``, ``"mse"``, ``"mae"``, ``"huber"``, or a function of
        outputs and labels. By default cross entropy for classes and ``"mse"`` for values.
    task
        ``"classification"`` or ``"regression"``; by default what the loss is for, else
        what the champion learnt, else what the labels are: floats are values, unless they are
        zeros and ones alone, and all others are classes.
    lr
        The learning rate, or a rate per pattern; the first pattern that fits a name counts.
    epochs, batch_size
        Passes over the rows, and rows per step of the optimiser.
    optimiser
        A function of parameter groups; AdamW by default.
    weight_decay, clip
        Decay of weights, and the greatest norm of a step's gradient (None: no limit).
    freeze
        Patterns of what does not learn; normalisation in it keeps its statistics too.
    thaw
        Every so many epochs the next frozen group learns, from the head down; without
        ``freeze`` all but the head is frozen at first.
    head
        A pattern of what the head is: the last module that has parameters, by default.
    l2sp
        How strongly weights are pulled back to where they started from.
    replay
        The share of an epoch's rows that the champion has seen, drawn anew each epoch; the
        others are newer than it. 0 treats all rows alike.
    distil, temperature
        The share of the loss that is likeness to the champion's answers, at a temperature.
    patience, tail
        Epochs without a better loss on the newest share of rows after which training stops;
        the best weights are kept, and those rows are not trained on.
    hidden
        The sizes of the layers of keepfit's own network.
    train
        A training loop of your own, called once as ``train(net, batch)``; each pass over
        ``batch`` gives pairs of inputs and labels in a new order.
    mixed
        Whether a device with bfloat16 computes in it.
    device
        ``"cuda"``, ``"mps"`` or ``"cpu"``; the best there is by default.
    checkpoints
        A folder for the state after each epoch, from which the same training goes on after
        it was cut off. By default a temporary one, written at most every 30 seconds.

    Raises
    ------
    ConfigError
        An argument is out of its range, or a pattern fits no name.

    Examples
    --------
    >>> Torch(lr=0.01, epochs=5).name
    'Torch(lr=0.01, epochs=5)'

    References
    ----------
    Howard and Ruder, ULMFiT, section 3.3: gradual unfreezing (2018).
    Li, Grandvalet and Davoine, Explicit Inductive Bias for Transfer Learning (2018).
    Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015).
    Howard and Gugger, fastai: A Layered API for Deep Learning (2020).
    """

    network: Any = None
    loss: str | Callable[..., Any] | None = field(default=None, kw_only=True)
    task: str | None = field(default=None, kw_only=True)
    lr: float | Mapping[str, float] = field(default=1e-3, kw_only=True)
    epochs: int = field(default=10, kw_only=True)
    batch_size: int = field(default=128, kw_only=True)
    optimiser: Callable[..., Any] | None = field(default=None, kw_only=True)
    weight_decay: float = field(default=0.01, kw_only=True)
    clip: float | None = field(default=1.0, kw_only=True)
    freeze: str | Sequence[str] = field(default=(), kw_only=True)
    thaw: int | None = field(default=None, kw_only=True)
    head: str | None = field(default=None, kw_only=True)
    l2sp: float = field(default=0.0, kw_only=True)
    replay: float = field(default=0.0, kw_only=True)
    distil: float = field(default=0.0, kw_only=True)
    temperature: float = field(default=2.0, kw_only=True)
    patience: int | None = field(default=None, kw_only=True)
    tail: float = field(default=0.1, kw_only=True)
    hidden: tuple[int, ...] = field(default=(128, 64), kw_only=True)
    train: Callable[..., Any] | None = field(default=None, kw_only=True)
    mixed: bool = field(default=True, kw_only=True)
    device: str | None = field(default=None, kw_only=True)
    checkpoints: str | Path | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        freeze = (self.freeze,) if isinstance(self.freeze, str) else tuple(self.freeze)
        object.__setattr__(self, "freeze", freeze)
        object.__setattr__(self, "hidden", tuple(self.hidden))
        self._check_numbers()
        self._check_words()
        self._check_network()

    def _check_numbers(self) -> None:
        for name, count in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            _require(isinstance(count, int) and count >= 1, name, "1 or more", count)
        for name, wait in (("thaw", self.thaw), ("patience", self.patience)):
            whole = wait is None or (isinstance(wait, int) and wait >= 1)
            _require(whole, name, "1 epoch or more", wait)
        for name, share in (("replay", self.replay), ("distil", self.distil)):
            _require(0.0 <= share < 1.0, name, "a share from 0 to below 1", share)
        _require(0.0 < self.tail < 1.0, "tail", "a share between 0 and 1", self.tail)
        for name, weight in (("l2sp", self.l2sp), ("weight_decay", self.weight_decay)):
            _require(weight >= 0.0, name, "0 or more", weight)
        for name, above in (("temperature", self.temperature), ("clip", self.clip)):
            _require(above is None or above > 0.0, name, "a number above 0", above)
        rates = self.lr.values() if isinstance(self.lr, Mapping) else [self.lr]
        for rate in rates:
            _require(rate >= 0.0, "lr", "a rate of 0 or more", rate)
        _require(all(size >= 1 for size in self.hidden), "hidden", "sizes from 1", self.hidden)

    def _check_words(self) -> None:
        _one_of("loss", self.loss, tuple(LOSSES))
        _one_of("task", self.task, (CLASSIFICATION, REGRESSION))
        purpose = LOSSES.get(self.loss) if isinstance(self.loss, str) else None
        if purpose and self.task not in (None, purpose):
            raise ConfigError(f"expected a loss for {self.task}, got {self.loss!r}, for {purpose}")
        if self.train is None:
            return
        own = [name for name, _ in self._changed() if name in _LOOP_OWNS]
        if own:
            raise ConfigError(
                f"expected train= without {own[0]}=, which the loop decides itself, got both",
                hint="leave one of them out",
            )

    def _check_network(self) -> None:
        if estimators.derives(self.network, "torch", "Module"):
            from keepfit.learners.torch.patterns import chosen, names_of

            object.__setattr__(self, "network", _copied(self.network))

            names = names_of(self.network)
            for pattern in (*self.freeze, *([self.head] if self.head else [])):
                chosen(pattern, list(names))
            for pattern in self.lr if isinstance(self.lr, Mapping) else {}:
                chosen(pattern, list(dict.fromkeys(names.values())))
        elif self.network is not None and not callable(self.network):
            raise ConfigError(
                f"expected a network, or a function that makes one, got {self.network!r}"
            )
        elif self.network is not None:
            needed = [
                one.name
                for one in inspect.signature(self.network).parameters.values()
                if one.default is one.empty
                and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
            ]
            unknown = [name for name in needed if name not in ASKABLE]
            if unknown and len(needed) > 2:
                raise ConfigError(
                    f"expected a factory that asks for some of {', '.join(ASKABLE)}, "
                    f"got one that asks for {unknown[0]!r}",
                    hint="give the argument a default, or wrap the factory in a function",
                )

    def __repr__(self) -> str:
        return f"learners.{self.name}"

    @property
    def name(self) -> str:
        """What trains, with the settings that differ from their defaults."""
        shown = [f"{name}={_shown(value)}" for name, value in self._changed() if name != "network"]
        network = [] if self.network is None else [_called(self.network)]
        return f"Torch({', '.join(network + shown)})"

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings, as JSON can hold them."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found["network"] = None if self.network is None else _called(self.network)
        if self.checkpoints is not None:
            found["checkpoints"] = str(self.checkpoints)
        return {key: estimators.as_json(value) for key, value in sorted(found.items())}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of network and settings, the same in every process."""
        from keepfit import pickles

        # Where checkpoints lie changes nothing in what is learnt.
        parts = {one.name: getattr(self, one.name) for one in fields(self)}
        return pickles.fingerprint(("torch", {**parts, "checkpoints": None}))

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that a training rests on, beside those of every one."""
        return ("torch",)

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """The pairs of start and update that the learner knows."""
        own = () if self.network is None else (("pretrained", "all"), ("pretrained", "head"))
        more = [(start, update) for start in ("champion", "transfer") for update in ("all", "head")]
        return (("scratch", "all"), *own, *more)

    @property
    def opens(self) -> tuple[str, ...]:
        """The updates in which a network from the champion gets outputs for new classes.

        A network that is handed over whole has those that it has, and so has what a factory
        makes that is not told how many there are. A loss or a loop of the user's own may have
        been made for so many.
        """
        from keepfit.learners.torch.networks import Shape, asked

        fixed = self.loss == "bce" or callable(self.loss) or self.train is not None
        if fixed or estimators.derives(self.network, "torch", "Module"):
            return ()
        if self.network is None:
            return ("all",)
        two, three = (asked(self.network, Shape(1, {}, 1, n), n) for n in (2, 3))
        return () if two == three else ("all",)

    def fit(
        self, rows: pl.DataFrame, *, start: str, update: str, previous: Model | None, seed: int
    ) -> TorchModel:
        """Return a model trained on rows that carry their label in ``_label``, in the order given.

        Raises
        ------
        LabelsMissing
            No row has a label.
        ConfigError
            Labels or patterns do not fit the network.
        TrainingError
            There is one class only, nothing to go on from, or the loss is not finite.
        """
        try:
            import torch  # noqa: F401
        except ImportError:
            raise ExtraMissing(
                "expected the package `torch` to train a network, and it is not installed",
                hint='pip install "keepfit[torch]"',
            ) from None
        from keepfit.learners.torch.fitting import fit

        return fit(self, rows, start=start, update=update, previous=previous, seed=seed)

    def _changed(self) -> list[tuple[str, Any]]:
        """Return the settings that differ from their defaults."""
        found = [(one.name, getattr(self, one.name), one.default) for one in fields(self)]
        return [
            (name, value)
            for name, value, default in found
            if not (value is default or (type(value) is type(default) and value == default))
        ]


def _copied(network: Any) -> Any:
    from torch.nn.utils.parametrize import is_parametrized

    try:
        if not is_parametrized(network):
            return copy.deepcopy(network)
        reason: object = "its weights are parametrised"
    except (RuntimeError, TypeError) as error:
        reason = error
    raise ConfigError(
        f"expected a network that can be kept as bytes, got {type(network).__name__}: {reason}",
        hint="hand over a function that makes it, instead of the network",
    )


def _require(kept: bool, name: str, expected: str, got: Any) -> None:
    if not kept:
        raise ConfigError(f"expected {name}= to be {expected}, got {got!r}")


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value is None or value in known or (name == "loss" and callable(value)):
        return
    near = nearest(str(value), known)
    raise ConfigError(
        f"expected {name}= to be one of {', '.join(map(repr, known))}, got {value!r}",
        hint=f"the nearest is {near!r}" if near else None,
    )


def _shown(value: Any) -> str:
    """Return a setting as code: the freeze of one pattern as the text it was given as."""
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    return re.sub(r"\s+", " ", estimators.described(value))


def _called(network: Any) -> str:
    """Return what a network or its factory is called."""
    if estimators.derives(network, "torch", "Module"):
        return type(network).__name__
    return str(getattr(network, "__name__", type(network).__name__))
