"""One training from its rows to a model: what is learnt, where it starts, what it may change."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from keepfit.batch import LABEL
from keepfit.errors import TrainingError
from keepfit.learners import estimators, labels
from keepfit.learners.encoding import Encoding
from keepfit.learners.models import Head
from keepfit.learners.torch import devices, losses, networks, patterns, problems, training
from keepfit.learners.torch.checkpoints import Checkpoint
from keepfit.learners.torch.lessons import Lesson, Passes, enough_rows, lesson_of, times_of
from keepfit.learners.torch.model import Content, TorchModel, grown_of, origins_of
from keepfit.learners.torch.tables import Preparation, Table
from keepfit.learners.torch.transfer import Transfer, carry, places

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from torch import Tensor, nn

    from keepfit.learners.torch.learner import Torch
    from keepfit.protocols import Model


def fit(
    learner: Torch,
    rows: pl.DataFrame,
    *,
    start: str,
    update: str,
    previous: Model | None,
    seed: int,
) -> TorchModel:
    """Return a model trained on rows, as `Torch.fit` promises."""
    before = _champion(previous, learner.name) if start in ("champion", "transfer") else None
    classify = problems.classifies(
        learner, rows.get_column(LABEL), before.held.problem if before else None
    )
    rows = labels.labelled(rows, classify=classify)
    problem = problems.problem_of(
        rows.get_column(LABEL), classify, before.held.problem if before else None, update
    )
    known = before.held.preparation if before else None
    transfer = start == "transfer"
    # What does not learn has no use for columns and categories that the donor has not seen.
    grow = transfer and update == "all"
    preparation = Preparation.learn(rows, known, grow=grow, other=transfer)
    fitting = _Fitting(learner, rows, problem, preparation, before, start, update, seed)
    return fitting.model()


class _Fitting:
    """What the parts of one training share."""

    def __init__(
        self,
        learner: Torch,
        rows: pl.DataFrame,
        problem: problems.Problem,
        preparation: Preparation,
        before: TorchModel | None,
        start: str,
        update: str,
        seed: int,
    ) -> None:
        self.learner, self.rows, self.problem = learner, rows, problem
        self.preparation, self.before, self.seed = preparation, before, seed
        self.start, self.update = start, update
        self.device = devices.pick(learner.device)
        self.shape = networks.Shape(
            numbers=len(preparation.wide),
            categories={
                one.name: codes
                for one, codes in zip(preparation.categories, preparation.codes, strict=True)
            },
            flat=len(preparation.flat),
            outputs=1 if problem.single else len(problem.classes),
            hidden=learner.hidden if learner.network is None else (),
        )

    def model(self) -> TorchModel:
        net = self._built()
        work = sum(one.numel() for one in net.parameters()) * self.learner.batch_size
        with devices.steady(self.device, estimators.threads(work // devices.WORK)):
            transfer = self._transferred(net)
            frozen, thawing = self._frozen(net)
            self._check_carried(transfer, frozen)
            net.to(self.device)
            table = self.preparation.table(self.rows)
            single = self._probed(net, table)
            lesson = self._lesson(table, single)
            if self.learner.train is None:
                trained = self._train(net, lesson, frozen, thawing, transfer, single)
                history, best = tuple(trained.history), trained.best
            else:
                net, history, best = self._own_loop(net, lesson, frozen), (), None
            _check_finite(net, self.learner)
        content = Content(
            preparation=self.preparation,
            problem=self.problem,
            shape=self.shape,
            plan=b""
            if networks.is_own(net)
            else networks.skeleton(net, self.learner.network, len(self.problem.classes)),
            weights={name: networks.pack(one) for name, one in networks.tensors(net).items()},
            transfer=transfer,
            history=history,
            best=best,
            exact=networks.exact(net, self._few(net, table)),
            until=self._until(),
        )
        # Columns of lists are not part of the encoding, which knows no such kind.
        encoding: Encoding = self.preparation.encoding
        task, classes = self.problem.task, self.problem.classes
        return TorchModel(Head("torch", self.learner.name, task, classes, encoding), content)

    # Where it starts

    def _built(self, *more: int) -> nn.Module:
        """Return the network with fresh weights; other seeds draw others."""
        import torch

        with devices.seeded(torch.device("cpu"), self.seed, "weights", *more):
            return networks.build(self.learner.network, self.shape, len(self.problem.classes))

    def _transferred(self, net: nn.Module) -> Transfer:
        if self.before is None:
            return Transfer(start=self.start, new=tuple(networks.tensors(net)))
        champion, old = self.before.net, self.before.held
        weights = networks.tensors(champion)
        done = carry(
            net,
            weights,
            columns=(networks.first_weight(net, self.shape), self._shared_inputs(net, champion)),
            classes=(patterns.head_of(net, self.learner.head), self._shared_outputs(net, champion)),
            categories=grown_of(net, self.preparation, old.preparation),
        )
        own = networks.tensors(net)
        sizes = {name: one.numel() for name, one in own.items()}
        mine, theirs = self.preparation.features, old.preparation.features
        return Transfer(
            start=self.start,
            copied=tuple(name for name, share in done.items() if share == 1.0),
            partly=tuple(name for name, share in done.items() if share < 1.0),
            new=tuple(name for name in own if name not in done),
            left=tuple(name for name in weights if name not in done),
            share=sum(sizes[name] * share for name, share in done.items()) / sum(sizes.values()),
            new_columns=tuple(one for one in mine if one not in theirs),
            left_columns=tuple(one for one in theirs if one not in mine),
            new_classes=_without(self.problem.classes, old.problem.classes),
            left_classes=_without(old.problem.classes, self.problem.classes),
            rescaled=not self.problem.classes
            and not old.problem.classes
            and self.problem != old.problem,
        )

    def _shared_inputs(self, net: nn.Module, champion: nn.Module) -> list[tuple[int, int]] | None:
        assert self.before is not None
        old = self.before.held
        mine = origins_of(net, self.preparation, self.shape)
        theirs = origins_of(champion, old.preparation, old.shape)
        return None if mine == theirs else places(mine, theirs)

    def _shared_outputs(self, net: nn.Module, champion: nn.Module) -> list[tuple[int, int]] | None:
        """Return the outputs that stand for the same class; None where all do."""
        assert self.before is not None
        new, old = self.problem, self.before.held.problem
        if new.classes == old.classes:
            return None
        heads = [
            weights[name]
            for weights in (networks.tensors(net), networks.tensors(champion))
            for name in patterns.head_of(net, self.learner.head) & weights.keys()
        ]
        # One output for two classes has no place for a third.
        if not new.classes or not old.classes or any(one.shape[:1] == (1,) for one in heads):
            return []
        where = {one: i for i, one in enumerate(old.classes)}
        return [(i, where[one]) for i, one in enumerate(new.classes) if one in where]

    # What may change

    def _frozen(self, net: nn.Module) -> tuple[set[str], list[list[str]]]:
        """Return the parameters that do not learn, and the groups of them that thaw."""
        first = patterns.names_of(net)
        names = list(dict.fromkeys(first.values()))
        head = patterns.head_of(net, self.learner.head)
        if self.update == "head":
            below = {first[name] for name in first.keys() - head}
            if names and below == set(names):
                raise TrainingError(
                    "expected a head that can learn alone, "
                    "got one that shares all its weights with what is below it",
                    hint='name another with head=, or let all learn: update="all"',
                )
            return below, []
        frozen = {first[name] for pattern in self._holding(list(first), head) for name in pattern}
        held = [name for name in names if name in frozen]
        if len(held) == len(names) and not (held and self.learner.thaw):
            raise TrainingError(
                f"expected something to learn, got {len(names):,} parameters, "
                f"all of them frozen by freeze={list(self.learner.freeze)}",
                hint="leave the head out of freeze=",
            )
        return set(held), patterns.groups(held) if self.learner.thaw and held else []

    def _check_carried(self, transfer: Transfer, frozen: set[str]) -> None:
        """Raise where the champion gave nothing, or not all of what is not to learn."""
        if self.before is None:
            return
        if not transfer.copied and not transfer.partly:
            raise TrainingError(
                f"expected a champion whose weights fit {self.learner.name}, got one of "
                f"{self.before.head.learner}, of which none does",
                hint="start from scratch: weights are carried over by name and shape",
            )
        fresh = [name for name in (*transfer.new, *transfer.partly) if name in frozen]
        if fresh:
            raise TrainingError(
                f"expected the champion's weights in all that does not learn, "
                f"got fresh ones in `{fresh[0]}`",
                hint='let all learn: update="all", and freeze= without it',
            )

    def _holding(self, names: list[str], head: set[str]) -> list[list[str]]:
        """Return the parameters of each pattern that holds: not those a factory draws at random.

        What thaws without a pattern is all below the head.
        """
        found = [patterns.chosen(pattern, names) for pattern in self.learner.freeze]
        if self.learner.thaw and not found:
            found = patterns.groups([name for name in names if name not in head])
        made = self.learner.network is None or not estimators.derives(
            self.learner.network, "torch", "Module"
        )
        if not found or self.before is not None or not made:
            return found
        one, other = (networks.tensors(self._built(i)) for i in range(2))
        drawn = {name for name in names if not bool((one[name] == other[name]).all())}
        random = [pattern for pattern in found if drawn.intersection(pattern)]
        if random and self.start == "pretrained" and self.learner.freeze:
            name = next(name for name in random[0] if name in drawn)
            raise TrainingError(
                f"expected pretrained weights in what is frozen, got random ones in `{name}`",
                hint='let the factory load them, or start from "scratch"',
            )
        return [pattern for pattern in found if pattern not in random]

    # Learning

    def _probed(self, net: nn.Module, table: Table) -> bool:
        """Return whether a network has one output per row, once it has answered some.

        Raises
        ------
        TrainingError
            It does not take the rows.
        """
        import torch

        net.eval()
        seeded = devices.seeded(self.device, self.seed, "probe")
        with networks.tried(net, self.shape), seeded, torch.no_grad():
            outputs = net(*self._few(net, table))
        return bool(losses.shaped(outputs, self.problem, self.shape.flat).ndim == 1)

    def _few(self, net: nn.Module, table: Table) -> tuple[Tensor, ...]:
        """Return the inputs of the first rows, to see what a network makes of them."""
        import torch

        few = slice(0, 2)
        numbers = torch.from_numpy(table.numbers[few]).to(self.device)
        codes = torch.from_numpy(table.codes[few]).to(self.device)
        return networks.inputs_of(net, self.shape, numbers, codes)

    def _lesson(self, table: Table, single: bool) -> Lesson:
        known = self._codes()
        taught, at = self._taught()
        return lesson_of(
            table,
            losses.as_labels(known, self.problem, single=single),
            self.rows,
            until=self._seen,
            replay=self.learner.replay,
            tail=None if self.learner.patience is None else self.learner.tail,
            taught=taught,
            places=at,
        )

    def _codes(self) -> np.ndarray:
        known = self.rows.get_column(LABEL)
        if self.problem.task == "regression":
            return labels.values(known)
        return labels.codes(known, self.problem.classes)

    def _taught(self) -> tuple[Tensor | None, list[int]]:
        """Return the champion's answers of the classes that both know, and where those lie."""
        if self.before is None or not self.learner.distil:
            return None, []
        old, classes = self.before.held.problem, self.problem.classes
        if not classes or not old.classes:
            if classes or old.classes:
                return None, []
            # On the champion's own scale, as its weights are: the labels may lie on another.
            return losses.teaching(self._answers(), old), []
        shared = [one for one in old.classes if one in classes]
        if len(shared) < 2:
            return None, []
        taught = losses.teaching(self._answers(), old)
        columns = [old.classes.index(one) for one in shared]
        return taught[:, columns], [classes.index(one) for one in shared]

    def _answers(self) -> np.ndarray:
        """Return the champion's answers; what it knew and the rows have not is missing to it."""
        import polars as pl

        assert self.before is not None
        there = set(self.rows.columns)
        gone = [name for name in self.before.features if name not in there]
        lists, mine = self.before.held.preparation.lists, self.preparation.lists
        gone += [name for name, size in lists.items() if mine.get(name, size) != size]
        return self.before.predict(self.rows.with_columns(pl.lit(None).alias(one) for one in gone))

    def _train(
        self,
        net: nn.Module,
        lesson: Lesson,
        frozen: set[str],
        thawing: list[list[str]],
        transfer: Transfer,
        single: bool,
    ) -> training.Training:
        if self.before is not None:
            started = set(transfer.copied)
        elif self.start == "pretrained":
            named = {name for name, _ in net.named_parameters()}
            started = named - patterns.head_of(net, self.learner.head)
        else:
            started = set()
        anchors = {
            name: one.detach().clone()
            for name, one in net.named_parameters()
            if name in started and self.learner.l2sp
        }
        trained = training.Training(
            learner=self.learner,
            net=net,
            lesson=lesson,
            problem=self.problem,
            shape=self.shape,
            device=self.device,
            seed=self.seed,
            frozen=frozen,
            thawing=thawing,
            anchors=anchors,
            single=single,
        )
        trained.run(Checkpoint(self.learner.checkpoints, self._key(lesson)))
        return trained

    def _own_loop(self, net: nn.Module, lesson: Lesson, frozen: set[str]) -> nn.Module:
        assert self.learner.train is not None
        training.hold(net, frozen)
        how = (self.learner.batch_size, self.learner.replay, self.seed)
        seeded = devices.seeded(self.device, self.seed, "loop")
        with seeded, enough_rows(self.learner.batch_size), training.kept_still(net) as cleared:
            returned = self.learner.train(net, Passes(lesson, net, self.shape, self.device, *how))
            if not estimators.derives(returned, "torch", "Module"):
                return net
            cleared.append(returned)
        trained: nn.Module = returned
        return trained

    def _key(self, lesson: Lesson) -> str:
        """Return what makes two trainings the same: learner, rows, start, seed and PyTorch."""
        import torch

        parent = b"" if self.before is None else self.before.content()
        how = (self.learner.fingerprint, self.start, self.update, str(self.seed))
        hasher = hashlib.sha256("\n".join((*how, torch.__version__, str(self.device))).encode())
        hasher.update(hashlib.sha256(parent).digest())
        for part in (lesson.numbers, lesson.codes, lesson.labels, lesson.new, lesson.tail):
            hasher.update(part.contiguous().numpy().reshape(-1).data)
        return hasher.hexdigest()

    @property
    def _seen(self) -> int | None:
        """The event time up to which the champion has seen rows; a donor has seen none of these."""
        return self.before.held.until if self.before and self.start == "champion" else None

    def _until(self) -> int | None:
        times = times_of(self.rows)
        before = self._seen
        return before if times is None else max(int(times.max()), before or int(times.max()))


def _champion(previous: Model | None, name: str) -> TorchModel:
    if previous is None:
        raise TrainingError(
            f"expected a champion for {name} to start from, got none",
            hint="the first training starts from scratch",
        )
    if not isinstance(previous, TorchModel):
        raise TrainingError(
            f"expected a champion that {name} can go on with, got {previous!r}",
            hint="start from scratch",
        )
    return previous


def _without(some: tuple[Any, ...], others: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one for one in some if one not in others)


def _check_finite(net: nn.Module, learner: Torch) -> None:
    import torch

    for name, one in net.named_parameters():
        if not bool(torch.isfinite(one).all()):
            raise TrainingError(
                f"expected weights that are finite numbers, got others in `{name}`",
                hint=f"lower the learning rate (lr={learner.lr} here)"
                if learner.train is None
                else "lower the learning rate of the training loop",
            )
