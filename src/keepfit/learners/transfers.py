"""What a model took over from the one it started from, and what is new in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepfit.facts import Transferred
from keepfit.learners.calibration import CalibratedModel, bare
from keepfit.learners.encoding import Encoding
from keepfit.learners.models import FittedModel

if TYPE_CHECKING:
    from keepfit.protocols import Model


def recalibrated(model: Model) -> Transferred | None:
    """Return what a recalibrated model has of the champion; None for another model."""
    if not isinstance(model, CalibratedModel):
        return None
    return Transferred(parts=(f"all of model {model.digest[:8]}, with {model.map}",), share=1.0)


def transferred(donor: Model, model: Model) -> Transferred:
    """Return what a model that started from a donor has of it.

    Of models that are not keepfit's own only the columns are known.
    """
    model, donor = bare(model), bare(donor)
    mine, theirs = model.features, donor.features
    report = Transferred(
        columns=tuple(one for one in mine if one in theirs),
        new_columns=tuple(one for one in mine if one not in theirs),
        gone_columns=tuple(one for one in theirs if one not in mine),
    )
    if not isinstance(model, FittedModel) or not isinstance(donor, FittedModel):
        return report
    encoding = model.head.encoding
    parts, share = model.inherited(donor)
    return Transferred(
        columns=report.columns,
        new_columns=report.new_columns,
        unused=tuple(one for one in encoding.dropped if one not in donor.dropped),
        gone_columns=report.gone_columns,
        categories=_new_categories(donor.head.encoding, encoding),
        parts=parts,
        share=share,
    )


def _new_categories(old: Encoding, new: Encoding) -> dict[str, int]:
    """Return how many categories each column has beside the donor's, where it has any."""
    before = {one.name: len(one.categories) for one in old.columns}
    grown = {
        one.name: len(one.categories) - before[one.name]
        for one in new.columns
        if one.kind == "category" and one.name in before
    }
    return {name: count for name, count in grown.items() if count > 0}
