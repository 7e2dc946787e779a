"""What a run remembers between rounds: the moments, and which images it has learned.

The ledger is a set of content hashes with their class: it recognises an image that was learned
before, and holds no pixels.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import DataError, UsageError, require_choice
from tlcli.features import Examples, Kind, Vectors, among
from tlcli.memory import herding
from tlcli.memory.herding import Centres
from tlcli.memory.parts import Sources
from tlcli.memory.table import SETTINGS, Setting
from tlcli.moments import Moments, add, renamed

Pixels = Callable[[Sequence[str]], NDArray[np.uint8]]
"""From content hashes to the images (n, S, S, 3), as they are decoded for the backbone."""


@dataclass(frozen=True, eq=False)
class Memory:
    """The state that an extension starts from."""

    setting: str
    """One of SETTINGS."""
    ledger: Mapping[str, str]
    """Content hash (hex SHA-256) of every learned image → its class; no pixels."""
    moments: Moments | None
    """None with the setting `none`."""
    exact: bool = True
    """Whether the moments are those of all learned images, bit for bit."""
    kinds: frozenset[Kind] = frozenset()
    """The kinds of its features: only these give the same bits again."""
    kept: Examples | None = None
    """Backbone features (n, D) of all learned images in the order of their hashes (`features`), or
    of the exemplars, class by class in herding order (`exemplars`); None otherwise."""
    exemplars_per_class: int | None = None
    """None unless the setting is `exemplars`."""
    centres: Centres = field(default_factory=dict)
    """With `exemplars`: what each class is herded towards."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Content hash of every learned image that belongs to a group → what stands for the group."""
    sources: Sources = field(default_factory=Sources)
    """Where the kept rows are already, so that they are not written again."""

    @property
    def keeps(self) -> Setting:
        """What it keeps: the row of its setting."""
        return SETTINGS[self.setting]

    @property
    def as_jointly(self) -> bool:
        """Whether the moments are those that one machine would have of all learned images."""
        return self.exact and len(self.kinds) < 2

    @property
    def classes(self) -> set[str]:
        """Of which there are images or moments."""
        return {*self.ledger.values(), *(self.moments.classes if self.moments else ())}

    @property
    def digest(self) -> str | None:
        """Published as `memory_sha256`."""
        return None if self.moments is None else self.moments.digest

    def grouped(self, examples: Examples) -> Examples:
        """Examples with the groups that the run knows beside their own."""
        return examples.grouped({**examples.group_of(), **self.groups})

    def pixels_of(self, hashes: Sequence[str]) -> NDArray[np.uint8]:
        """The pixels (n, S, S, 3) of exemplars, as they were decoded.

        Raises:
            KeyError: an image is no exemplar.
            StorageError: a file of the round cannot be read any more.
        """
        return self.sources.images(hashes)

    def learned(self, new: Examples, total: Moments | None, kind: Kind, pixels: Pixels) -> Self:
        """The memory after a round.

        Args:
            new: raw backbone features of the images that the round learned, none of them in the
                ledger.
            total: the moments with those of the new images; None with the setting `none`.
            kind: of the new features.
            pixels: called at most once, with the hashes of the images that became exemplars.
        """
        assert (total is not None) == self.keeps.moments
        grown = replace(
            self,
            ledger={**self.ledger, **dict(zip(new.hashes, new.labels, strict=True))},
            groups={**self.groups, **new.group_of()},
            moments=total,
            kinds=self.kinds | ({kind} if len(new) else set()),
        )
        if self.kept is None:
            return grown
        if self.keeps.every_feature:
            return replace(grown, kept=self.kept.joined(new).by_hash())
        touched = among(self.kept.labels, set(new.labels))
        candidates = self.kept.where(touched).joined(new)
        centres = herding.joined(self.centres, herding.centres_of(new))
        grown = replace(grown, centres=centres)
        return grown._herded(self.kept.where(~touched), candidates, pixels)

    def merged(self, other: Self) -> Self:
        """What two runs without common images remember together, as far as both do.

        Args:
            other: of a run with moments in the same space.
        """
        assert self.moments is not None and other.moments is not None
        setting = self.setting if self.setting == other.setting else "moments"
        both = replace(
            self,
            setting=setting,
            ledger={**self.ledger, **other.ledger},
            groups={**self.groups, **other.groups},
            moments=add(self.moments, other.moments),
            exact=self.exact and other.exact,
            kinds=self.kinds | other.kinds,
            kept=None,
            exemplars_per_class=None,
            centres={},
            sources=Sources(),
        )
        if self.kept is None or other.kept is None or not both.keeps.rows:
            return both
        kept, sources = self.kept.joined(other.kept), self.sources.joined(other.sources)
        if both.keeps.every_feature:
            return replace(both, kept=kept.by_hash(), sources=sources)
        budgets = [m.exemplars_per_class for m in (self, other) if m.exemplars_per_class]
        both = replace(
            both,
            exemplars_per_class=min(budgets),
            centres=herding.joined(self.centres, other.centres),
            sources=sources,
        )
        return both._herded(kept.take([]), kept, sources.images)

    def forgetting(
        self,
        hashes: Collection[str],
        total: Moments | None,
        exact: bool,
        features: Examples | None = None,
    ) -> Self:
        """The memory without some images; the exemplars that remain keep their order.

        Args:
            hashes: of the images; those that were never learned do not matter.
            total: the moments without those of the images; None with the setting `none`.
            exact: whether `total` is that of the remaining images, bit for bit.
            features: those of the images that could be found, raw. What a class is herded towards
                is rid of these and of its exemplars among the images; it stays as it is for others.
        """
        assert (total is not None) == self.keeps.moments
        gone = self.ledger.keys() & set(hashes)
        ledger = {key: name for key, name in self.ledger.items() if key not in gone}
        groups = {key: group for key, group in self.groups.items() if key not in gone}
        smaller = replace(self, ledger=ledger, groups=groups, moments=total, exact=exact)
        if self.kept is None:
            return smaller
        kept = self.kept.without(gone)
        smaller = replace(smaller, kept=kept, sources=self.sources.only(kept.hashes))
        if self.keeps.every_feature:
            return smaller
        lost = Counter(self.ledger[key] for key in gone)
        return replace(
            smaller, centres=herding.without(self.centres, lost, self._known(gone, features))
        )

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The memory under other class names, of which two classes may come to have one.

        Exemplars of a united class are herded anew among those of its parts.

        Args:
            names: class → its new name; other classes keep theirs.
        """
        called = replace(
            self,
            ledger={key: names.get(name, name) for key, name in self.ledger.items()},
            moments=None if self.moments is None else renamed(self.moments, names),
            centres=herding.renamed(self.centres, names),
        )
        if self.kept is None:
            return called
        kept = replace(self.kept, labels=tuple(names.get(name, name) for name in self.kept.labels))
        if self.keeps.every_feature:
            return replace(called, kept=kept)
        counts = Counter(names.get(name, name) for name in self.centres)
        together = among(kept.labels, {name for name, count in counts.items() if count > 1})
        return called._herded(kept.where(~together), kept.where(together), self.sources.images)

    def changed(
        self,
        setting: str,
        exemplars_per_class: int | None,
        known: Examples,
        pixels: Pixels,
        total: Moments | None = None,
    ) -> Self:
        """The memory with another setting, or another number of exemplars.

        Less is always possible: exemplars are dropped in the reverse order of their choice. More
        needs the features of all learned images, among those that are kept and `known`.

        Args:
            setting: one of SETTINGS.
            exemplars_per_class: used with the setting `exemplars` only.
            known: raw features of the learned images that could be found.
            pixels: called at most once, with the hashes of the images that became exemplars.
            total: the moments of all learned images; used when there were none.

        Raises:
            UsageError: the setting is none, or there were no moments and `total` is None.
            DataError: the features of a learned image are missing.
        """
        budget = _budget(setting, exemplars_per_class)
        if (setting, budget) == (self.setting, self.exemplars_per_class):
            return self
        bare = replace(
            self._with_moments(setting, total),
            setting=setting,
            kept=None,
            exemplars_per_class=budget,
            centres={},
            sources=Sources(),
        )
        if bare.keeps.every_feature:
            return replace(bare, kept=self._everything(known, setting))
        if bare.keeps.exemplars:
            return self._with_exemplars(bare, known, pixels)
        return bare

    def _with_moments(self, setting: str, total: Moments | None) -> Self:
        """With the moments that a setting needs."""
        if not SETTINGS[setting].moments:
            return replace(self, moments=None)
        if self.moments is not None:
            return self
        if total is None:
            raise UsageError(
                "Expected the moments of the images learned so far. Received: a run with "
                f"--memory none, which has none, and memory={setting!r}. "
                "Give all its old images with --old-data DIR."
            )
        return replace(self, moments=total, exact=True)

    def _with_exemplars(self, bare: Self, known: Examples, pixels: Pixels) -> Self:
        """`bare` with the exemplars that its budget allows."""
        old, new = self.exemplars_per_class, bare.exemplars_per_class
        assert new is not None
        bare = replace(bare, sources=self.sources if old else Sources())
        if self.kept is not None and old and new < old:
            kept = herding.truncated(self.kept, new)
            sources = self.sources.only(kept.hashes)
            return replace(bare, kept=kept, centres=self.centres, sources=sources)
        everything = self._everything(known, bare.setting)
        bare = replace(bare, centres=herding.centres_of(everything))
        return bare._herded(everything.take([]), everything, pixels)

    def _herded(self, others: Examples, candidates: Examples, pixels: Pixels) -> Self:
        """With exemplars chosen anew among the candidates; those of other classes stay."""
        assert self.exemplars_per_class is not None
        chosen = herding.choose(candidates, self.centres, self.exemplars_per_class)
        kept = _class_by_class(others.joined(chosen))
        sources = self.sources.only(kept.hashes)
        if missing := sources.without_pixels(kept.hashes):
            sources = sources.adding(missing, pixels(missing))
        return replace(self, kept=kept, sources=sources)

    def _everything(self, known: Examples, setting: str) -> Examples:
        """The features of all learned images in the order of their hashes."""
        found = self._known(self.ledger.keys(), known)
        missing = len(self.ledger) - len(found)
        if missing:
            raise DataError(
                f"Expected the features of all {len(self.ledger)} learned images for "
                f"memory={setting!r}. Received: {missing} of {len(self.ledger)} are missing. "
                "Give these images with --old-data DIR."
            )
        return found.by_hash()

    def _known(self, hashes: Collection[str], found: Examples | None) -> Examples:
        """The features of learned images, as far as they are kept or found."""
        first, *others = [examples for examples in (self.kept, found) if examples is not None]
        known = first.only(hashes)
        for other in others:
            new = set(hashes) - set(known.hashes)
            known = known.joined(other.only(new))
        return replace(known, labels=tuple(self.ledger[key] for key in known.hashes))


def empty(
    setting: str, exemplars_per_class: int | None, moments: Moments | None, width: int
) -> Memory:
    """The memory of no image.

    Args:
        setting: one of SETTINGS.
        exemplars_per_class: used with the setting `exemplars` only.
        moments: those of no image; None with the setting `none`.
        width: D of the backbone's features, whatever the moments are of.

    Raises:
        UsageError: the setting is none.
    """
    budget = _budget(setting, exemplars_per_class)
    keeps = SETTINGS[setting]
    assert (moments is not None) == keeps.moments
    kept = None
    if keeps.rows:
        kept = Examples((), (), Vectors.of(np.empty((0, width), np.float32)))
    return Memory(setting, {}, moments, kept=kept, exemplars_per_class=budget)


def require_known(setting: str) -> None:
    """Raise UsageError unless `setting` is one of SETTINGS."""
    require_choice("a memory", setting, SETTINGS)


def _budget(setting: str, exemplars_per_class: int | None) -> int | None:
    """How many exemplars a class has; None unless the setting is `exemplars`."""
    require_known(setting)
    if not SETTINGS[setting].exemplars:
        return None
    if exemplars_per_class is None or exemplars_per_class < 1:
        raise UsageError(
            "Expected at least one exemplar per class. Received: "
            f"exemplars_per_class={exemplars_per_class}. Give --exemplars-per-class 20, or so."
        )
    return exemplars_per_class


def _class_by_class(examples: Examples) -> Examples:
    """Classes in the order of their names, each in the order that it had."""
    return examples.take(sorted(range(len(examples)), key=examples.labels.__getitem__))
