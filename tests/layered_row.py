"""A model of a row that rules and re-score jobs score: its layers, after each verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

from rules.rescore.layers import RowLayers, ScoreLayer, without_job


@dataclass
class Run:
    """A verdict of a scorer for a job, or for a rule (0)."""

    generation: int
    scorer: str
    names: tuple[str, ...]
    use_no: int


@dataclass
class LayeredRow:
    """A row that is scored as workers score it."""

    shown: dict[str, ScoreLayer] = field(default_factory=dict)
    replaced: dict[tuple[int, str], ScoreLayer] = field(default_factory=dict)
    verdicts: set[tuple[int, tuple[str, str]]] = field(default_factory=set)

    def is_held_back(self, run: Run) -> bool:
        """Whether a newer job's score keeps a part of the run from being shown."""
        return any(
            layer.generation > run.generation
            and (name in run.names or layer.scorer[1] == run.scorer)
            for name, layer in self.shown.items()
        )

    def score(self, run: Run) -> None:
        """Shows the scores of a run that is not held back."""
        generation, scorer = run.generation, ("global", run.scorer)
        for name, layer in list(self.shown.items()):
            if name in run.names or layer.scorer == scorer:
                self._take(name, generation)
        for name in run.names:
            self.shown[name] = ScoreLayer(
                value=run.use_no, scorer=scorer, use_no=run.use_no, version=1,
                generation=generation,
            )
        if generation:
            self.verdicts.add((generation, scorer))

    def _take(self, name: str, generation: int) -> None:
        layer = self.shown.pop(name)
        if generation and layer.generation != generation:
            self.replaced.setdefault((generation, name), layer)

    @property
    def layers(self) -> RowLayers:
        return RowLayers(
            shown=self.shown, replaced=self.replaced, verdicts=frozenset(self.verdicts)
        )

    def roll_back(self, job_no: int) -> None:
        undone = without_job(self.layers, job_no)
        self.shown = dict(undone.shown)
        self.replaced = {
            key: layer for key, layer in self.replaced.items() if key[0] != job_no
        }
        for key, layer in undone.moved.items():
            if layer is None:
                self.replaced.pop(key, None)
            else:
                self.replaced[key] = layer
        self.verdicts = {one for one in self.verdicts if one[0] != job_no}
