"""What is seen of each file of training data where it is written, and what that says of all of them together.

Whoever writes a file looks at it; whoever trains needs no file then before the workers read their row groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.compute.encoding import QUANTITY, Encoding, encoding_of
from tasks.compute.rows import Survey, TrainingData, join_kinds, kinds_of_file, survey
from tasks.errors import TrainingError


@dataclass(frozen=True)
class Look:
    """One file of training data.

    Attributes:
        kinds: feature -> its kind, but for features without any value.
        categories: feature -> its texts, where it has such.
        survey: of its row groups and labels.
    """

    kinds: Mapping[str, str]
    categories: Mapping[str, frozenset[str]]
    survey: Survey

    def at(self, path: str) -> Look:
        """The same file at another place."""
        groups = tuple(replace(group, path=path) for group in self.survey.groups)
        return replace(self, survey=replace(self.survey, groups=groups))


def look_at(path: str, features: Sequence[str]) -> Look:
    """Look at a local file that has rows.

    Raises:
        SpecError: a feature is missing, or of a type that no matrix holds.
        TrainingError: no rows, or a row without a label.
    """
    data = TrainingData((path,))
    kinds, categories = kinds_of_file(data, path, features)
    return Look(kinds, categories, survey(data, features))


def together(looks: Sequence[Look], features: Sequence[str]) -> tuple[Encoding, Survey]:
    """The encoding and the survey of all files, as `fit_encoding_files` and `survey` give them of the files.

    Raises:
        SpecError: a feature is text in one file and a number in another; no feature at all.
        TrainingError: no file.
    """
    if not looks:
        raise TrainingError("the training data has no rows")
    kinds: dict[str, str] = {}
    categories: dict[str, set[str]] = {}
    for look in looks:
        join_kinds(kinds, look.kinds, look.survey.groups[0].path)
        for name, texts in look.categories.items():
            categories.setdefault(name, set()).update(texts)
    surveys = [look.survey for look in looks]
    empty = set(features).intersection(*(one.empty for one in surveys))
    seen = Survey(
        tuple(group for one in surveys for group in one.groups),
        min(one.low for one in surveys),
        max(one.high for one in surveys),
        tuple(name for name in features if name in empty),
    )
    return encoding_of({name: kinds.get(name, QUANTITY) for name in features}, categories), seen
