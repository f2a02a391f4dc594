"""Hydra sweeper that searches with Optuna: gan train -m sweep=optuna.

Hydra finds its plugins in the package hydra_plugins. The sweeper that is published for its stable release needs an
Optuna of 2021, hence this one.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from gancli.config import UsageError

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}


@dataclass
class SearchConfig:
    """Keys of hydra.sweeper."""

    _target_: str = "hydra_plugins.gan_search.Search"
    params: dict[str, str] | None = field(default_factory=dict)  # as typed: choice(), range(), interval() of each key
    n_trials: int = 12
    n_jobs: int = 1  # trials that are chosen at once, for launchers that start several jobs at a time
    sampler: str = "tpe"
    seed: int = 0  # the same command runs the same search, so that a stopped one can resume
    storage: str | None = None  # data base of the study, as sqlite:///study.db
    study_name: str = "gan"


class Search(Sweeper):
    """Search that asks Optuna for the values of each job and tells it the job's score."""

    launcher: Launcher

    def __init__(
        self,
        params: dict[str, str] | None,
        n_trials: int,
        n_jobs: int,
        sampler: str,
        seed: int,
        storage: str | None,
        study_name: str,
    ):
        self.params, self.n_trials, self.n_jobs = dict(params or {}), n_trials, n_jobs
        self.sampler, self.seed, self.storage, self.study_name = sampler, seed, storage, study_name

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run n_trials jobs, n_jobs at a time. A job of no finite score is a failed trial, and the search goes on."""
        study = self._study()  # names the extra if Optuna is missing
        from optuna.trial import TrialState

        searched, fixed = self._read([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        first = len(study.get_trials(states=[TrialState.COMPLETE]))  # of an earlier search in the same storage
        for number in range(first, self.n_trials, self.n_jobs):
            trials = [study.ask() for _ in range(min(self.n_jobs, self.n_trials - number))]
            jobs = [[*fixed, *(f"{key}={suggest(trial, one)}" for key, one in searched.items())] for trial in trials]
            for trial, result in zip(trials, self.launcher.launch(jobs, initial_job_idx=number), strict=True):
                score = float(result.return_value)
                finite = math.isfinite(score)
                study.tell(trial, score if finite else None, TrialState.COMPLETE if finite else TrialState.FAIL)

    def _read(self, words: list[str]) -> tuple[dict[str, Any], list[str]]:
        """Return the overrides with several values by key, and the other words; later ones replace earlier ones."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parsed = {one.get_key_element(): one for one in OverridesParser.create().parse_overrides(words)}
        searched = {key: one for key, one in parsed.items() if one.is_sweep_override()}
        return searched, [str(one.input_line) for key, one in parsed.items() if key not in searched]

    def _study(self) -> Any:
        try:
            import optuna
        except ImportError:
            raise UsageError("sweep=optuna needs the package optuna; type pip install 'gancli[optuna]'") from None
        if self.sampler not in SAMPLERS:
            raise UsageError(f"hydra.sweeper.sampler={self.sampler} is not one of {', '.join(SAMPLERS)}")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = getattr(optuna.samplers, SAMPLERS[self.sampler])(seed=self.seed)
        return optuna.create_study(
            storage=self.storage, sampler=sampler, study_name=self.study_name, load_if_exists=True
        )


def suggest(trial: Any, override: Any) -> Any:
    """Return the trial's value of an override: of a range a number, else one of the choices as it is typed."""
    from hydra.core.override_parser.types import Transformer

    key, value = override.get_key_element(), override.value()
    if not override.is_interval_sweep():
        return trial.suggest_categorical(key, list(map(str, override.sweep_iterator(transformer=Transformer.encode))))
    whole = isinstance(value.start, int) and isinstance(value.end, int)
    return (trial.suggest_int if whole else trial.suggest_float)(key, value.start, value.end, log="log" in value.tags)


ConfigStore.instance().store(group="hydra/sweeper", name="gan_search", node=SearchConfig, provider="gancli")
