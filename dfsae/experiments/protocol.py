"""What all experiments share: profiles, the published protocol, and how a group of models is run."""

import json
import time
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple

import torch

from dfsae.baselines import PublishedSAE, ReconstructedEnergies, StandardSAE
from dfsae.data import Dataset, load_mnist
from dfsae.encoder import DecoderFreeSAE
from dfsae.objective import Lambdas
from dfsae.training import train_together


class Profile(NamedTuple):
    """How large a run of the book is."""

    epochs: int
    most_seeds: int | None
    """Seeds of a configuration at most; None for as many as its experiment has."""
    n_train: int | None
    """Training samples; None for all 60,000."""
    n_test: int | None
    """Test samples; None for all 10,000."""
    dtype: str
    """"float64" where stored numbers are compared, "float32" as published."""


PROFILES = {
    "smoke": Profile(2, 2, 1280, 500, "float64"),
    "quick": Profile(3, 2, None, None, "float32"),
    "paper": Profile(100, None, None, None, "float32"),
}


def get_profile(name: str) -> Profile:
    """The profile of this name, or a ``ValueError`` that lists them."""
    if name not in PROFILES:
        raise ValueError(f"profile must be one of {sorted(PROFILES)}, got {name!r}")
    return PROFILES[name]


def select_device(device: str = "auto") -> torch.device:
    """The device of this name; "auto" is the first CUDA GPU if there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


@lru_cache(maxsize=1)
def load_data(profile: str) -> Dataset:
    """MNIST at the size and precision of the profile, on the CPU; read once a process."""
    size = get_profile(profile)
    return load_mnist(n_train=size.n_train, n_test=size.n_test, dtype=getattr(torch, size.dtype))


PROTOCOL = {"K": 64, "batch_size": 128, "optimizer": "adam", "lr": 1e-3, "eps": 1e-6,
            "reduction": "sum", "activation": "relu"}
"""What all published experiments share."""


def with_seeds(configurations: dict[str, dict], profile: str, *, seeds: int, part: int = 1) -> list[dict]:
    """Specs: each configuration over :data:`PROTOCOL`, with every seed from 1 on.

    The epochs are those of the profile divided by ``part``, if the configuration does not say.
    """
    size = get_profile(profile)
    epochs = max(1, size.epochs // part)
    return [{**PROTOCOL, "name": name, "epochs": epochs, **settings, "seed": seed}
            for seed in range(1, min(seeds, size.most_seeds or seeds) + 1)
            for name, settings in configurations.items()]


def build(spec: dict, data: Dataset) -> torch.nn.Module:
    """The untrained model of a spec, on the device of the data; its seed is the spec's."""
    D, dtype = data.x_train.shape[1], data.x_train.dtype
    common = {"seed": spec["seed"], "dtype": dtype}
    mean = data.x_train.mean(dim=0).cpu()
    if spec["model"] == "DecoderFreeSAE":
        model = DecoderFreeSAE(D, spec["K"], lambdas=Lambdas(*spec["lambdas"]), eps=spec["eps"],
                               reduction=spec["reduction"], activation=spec["activation"], **common)
        with torch.no_grad():
            model.W *= spec.get("init_scale", 1.0)
    elif spec["model"] == "PublishedSAE":
        model = PublishedSAE(D, spec["K"], l1=spec["l1"], **common)
    elif spec["model"] == "StandardSAE":
        model = StandardSAE(D, spec["K"], l1=spec["l1"], data_mean=mean, **common)
    elif spec["model"] == "ReconstructedEnergies":
        model = ReconstructedEnergies(D, spec["K"], lse=spec["lse"],
                                      data_mean=mean if spec["start"] == "tied" else None, **common)
    else:
        raise ValueError(f"unknown model {spec['model']!r}")
    return model.to(data.x_train.device)


def fit(specs: list[dict], data: Dataset, *, build: Callable[[dict, Dataset], torch.nn.Module] = build,
        watch: Callable[[list[torch.nn.Module]], None] | None = None) -> tuple[list[torch.nn.Module], list[dict]]:
    """Build and train the models of specs of one group; each data order has a seed of its own.

    Returns the models and their histories; ``watch`` sees the models after every epoch.
    """
    models = [build(spec, data) for spec in specs]
    histories = train_together(models, data.x_train, epochs=specs[0]["epochs"], batch_size=specs[0]["batch_size"],
                               optimizers=[spec["optimizer"] for spec in specs], lrs=[spec["lr"] for spec in specs],
                               order_seeds=[10_000 + spec["seed"] for spec in specs],
                               after_epoch=watch and (lambda: watch(models)), progress=False)
    return models, histories


MAY_DIFFER = ("name", "lambdas", "activation", "optimizer", "lr", "init_scale", "l1", "lse", "start")
"""Settings in which the models of a group may differ; seeds, where a seed has only one model."""


def groups(specs: list[dict]) -> list[list[dict]]:
    """Specs that train together: those of one seed, and of all seeds where a seed has only one."""
    def gathered(parts: list[list[dict]], ignored: tuple[str, ...]) -> list[list[dict]]:
        found: dict[str, list[dict]] = {}
        for part in parts:
            common = {key: value for key, value in part[0].items() if key not in ignored}
            found.setdefault(json.dumps(common, sort_keys=True), []).extend(part)
        return list(found.values())

    by_seed = gathered([[spec] for spec in specs], MAY_DIFFER)
    single = [group for group in by_seed if len(group) == 1]
    return [group for group in by_seed if len(group) > 1] + gathered(single, (*MAY_DIFFER, "seed"))


def run_group(experiment: ModuleType, specs: list[dict], *, profile: str, device: str = "auto") -> list[dict]:
    """Train the models of a group together and evaluate each: one run record a spec.

    ``device`` as in :func:`select_device`; on a GPU the same code runs there.
    "train_seconds" is the time of the group divided by its size, which the record
    holds as "trained_together"; "seconds" adds the evaluation of the model itself.
    """
    data = Dataset(*(part.to(select_device(device)) for part in load_data(profile)))
    start = time.perf_counter()
    models, histories = experiment.fit(specs, data)
    trained = (time.perf_counter() - start) / len(specs)
    found = []
    for model, history in zip(models, histories, strict=True):
        start = time.perf_counter()
        measured = experiment.evaluate(model, data)
        # JSON has no NaN: a metric that is not defined is stored as null.
        found.append({
            "metrics": {name: None if value != value else value for name, value in measured.items()},
            "history": {name: [round(value, 6) for value in term] for name, term in history.items()},
            "seconds": round(trained + time.perf_counter() - start, 2), "train_seconds": round(trained, 2),
            "trained_together": len(specs), "threads": torch.get_num_threads()})
    return found
