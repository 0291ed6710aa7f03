"""From a profile to specifications, and from specifications to run records."""

import json
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from sklearn.decomposition import PCA

from dfsae import metrics, records
from dfsae.baselines import PublishedSAE, ReconstructedEnergies, StandardSAE
from dfsae.data import Dataset, load_mnist
from dfsae.encoder import DecoderFreeSAE, reconstruct
from dfsae.objective import Lambdas, correlation, energy_to_activation, responsibilities
from dfsae.training import train_together


class Profile(NamedTuple):
    """How large a run of the book is."""

    epochs: int
    ablation_seeds: int
    benchmark_seeds: int
    n_train: int | None
    """Training samples; None for all 60,000."""
    n_test: int | None
    """Test samples; None for all 10,000."""
    dtype: str
    """"float64" where stored numbers are compared, "float32" as published."""


PROFILES = {
    "smoke": Profile(2, 2, 2, 1280, 500, "float64"),
    "quick": Profile(3, 2, 2, None, None, "float32"),
    "paper": Profile(100, 3, 5, None, None, "float32"),
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


ABLATION = {
    "LSE only": Lambdas(lse=1, var=0, tc=0),
    "LSE + var": Lambdas(lse=1, var=1, tc=0),
    "LSE + var + tc": Lambdas(lse=1, var=1, tc=1),
    "var + tc only": Lambdas(lse=0, var=1, tc=1),
    "LSE + tc": Lambdas(lse=1, var=0, tc=1),
    "var only": Lambdas(lse=0, var=1, tc=0),
    "tc only": Lambdas(lse=0, var=0, tc=1),
    "untrained": Lambdas(lse=0, var=0, tc=0),
}
"""Section 5.2: its configurations A to D, then the other four corners of the 2 x 2 x 2 design."""

RECONSTRUCTION = {
    "reconstruction only": {"lse": 0.0, "start": "default"},
    "LSE + reconstruction": {"lse": 1.0, "start": "default"},
    "reconstruction only, tied start": {"lse": 0.0, "start": "tied"},
    "LSE + reconstruction, tied start": {"lse": 1.0, "start": "tied"},
}
"""Section 6.3: a reconstruction error as the only volume control, with and without Eq. 1, from two starts."""

VARIANTS = {
    "as published": {}, "mean reduction": {"reduction": "mean"},
    "eps = 1e-3": {"eps": 1e-3}, "eps = 1e-9": {"eps": 1e-9},
    "batches of 32": {"batch_size": 32}, "batches of 512": {"batch_size": 512},
    "weights start at a tenth": {"init_scale": 0.1}, "lambda_tc = 1/2": {"lambdas": [1, 1, 0.5, 0]},
    "softplus": {"activation": "softplus"}, "identity": {"activation": "identity"},
}
"""What the paper leaves open, one choice at a time."""

THRESHOLDS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""For dead units (of the variance) and for L0 (of the code); the published ones are 0.01."""

BENCHMARK = {
    "decoder-free": {"model": "DecoderFreeSAE", "lambdas": list(Lambdas())},
    "published SAE": {"model": "PublishedSAE", "l1": 0.01},
    "standard SAE": {"model": "StandardSAE", "l1": 0.5},
}
"""Models of Section 5.3, and an L1 SAE as the field trains it; its l1 is not tuned."""

PROTOCOL = {"K": 64, "batch_size": 128, "optimizer": "adam", "lr": 1e-3, "eps": 1e-6,
            "reduction": "sum", "activation": "relu"}
"""What all published experiments share."""


def ablation_specs(profile: str) -> list[dict]:
    """Experiment 2: all eight corners, each with every seed; without a term there is nothing to train."""
    size = get_profile(profile)
    return [{**PROTOCOL, "name": name, "model": "DecoderFreeSAE", "lambdas": list(lambdas),
             "epochs": size.epochs if any(lambdas) else 0, "seed": seed}
            for seed in range(1, size.ablation_seeds + 1) for name, lambdas in ABLATION.items()]


def benchmark_specs(profile: str) -> list[dict]:
    """Experiment 3: three models, each with every seed."""
    size = get_profile(profile)
    return [{**PROTOCOL, "name": name, **settings, "epochs": size.epochs, "seed": seed}
            for seed in range(1, size.benchmark_seeds + 1) for name, settings in BENCHMARK.items()]


def reconstruction_specs(profile: str) -> list[dict]:
    """Section 6.3: each configuration with every seed of the ablation."""
    size = get_profile(profile)
    return [{**PROTOCOL, "name": name, "model": "ReconstructedEnergies", **settings,
             "epochs": size.epochs, "seed": seed}
            for seed in range(1, size.ablation_seeds + 1) for name, settings in RECONSTRUCTION.items()]


def variant_specs(profile: str) -> list[dict]:
    """The full objective with one choice changed at a time, for a fifth of the epochs."""
    size = get_profile(profile)
    return [{**PROTOCOL, "name": name, "model": "DecoderFreeSAE", "lambdas": list(Lambdas()), **change,
             "epochs": max(1, size.epochs // 5), "seed": seed}
            for seed in range(1, size.ablation_seeds + 1) for name, change in VARIANTS.items()]


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


def fit(specs: list[dict], data: Dataset) -> tuple[list[torch.nn.Module], list[dict]]:
    """Build and train the models of specs of one group; each data order has a seed of its own."""
    models = [build(spec, data) for spec in specs]
    histories = train_together(models, data.x_train, epochs=specs[0]["epochs"], batch_size=specs[0]["batch_size"],
                               optimizers=[spec["optimizer"] for spec in specs], lrs=[spec["lr"] for spec in specs],
                               order_seeds=[10_000 + spec["seed"] for spec in specs], progress=False)
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


@torch.no_grad()
def code_metrics(model: torch.nn.Module, data: Dataset) -> dict:
    """Metrics of the energies on the test set; the decoder of "fvu_least_squares" is fitted on the training set."""
    E_train, E = model.encode(data.x_train), model.encode(data.x_test)
    r = responsibilities(E)
    V, c = metrics.least_squares_decoder(E_train, data.x_train)
    return {
        "dead_units": metrics.dead_units(E),
        "dead_by_threshold": [metrics.dead_units(E, threshold=threshold) for threshold in THRESHOLDS],
        "never_active": int((E_train <= 0).all(dim=0).sum()),
        "redundancy": metrics.redundancy(E),
        "mean_squared_correlation": metrics.mean_squared_correlation(E),
        "near_copies": metrics.near_copies(E),
        "responsibility_entropy": metrics.responsibility_entropy(r),
        "mean_max_responsibility": metrics.mean_max_responsibility(r),
        "l0_energy": metrics.l0(E),
        "l0_by_threshold": [metrics.l0(E, threshold=threshold) for threshold in THRESHOLDS],
        "l0_activation": metrics.l0(energy_to_activation(E)),
        "log_zero_units": metrics.mean_log_zero_units(E),
        "mean_row_norm": float(model.W.norm(dim=1).mean()),
        "fvu_own": metrics.fvu(data.x_test, model.decode(E)),
        "fvu_least_squares": metrics.fvu(data.x_test, E @ V + c),
        "feature_usage": _rounded(metrics.feature_usage(r)),
        "firing_rate": _rounded((E > 0.01).double().mean(dim=0)),
        "variances": _rounded(E.var(dim=0)),
    }


@torch.no_grad()
def probed_metrics(model: torch.nn.Module, data: Dataset) -> dict:
    """:func:`code_metrics` and the linear probe."""
    E_train, E = model.encode(data.x_train), model.encode(data.x_test)
    return code_metrics(model, data) | {
        "probe_accuracy": metrics.linear_probe(E_train, data.y_train, E, data.y_test)}


@torch.no_grad()
def ablation_metrics(model: torch.nn.Module, data: Dataset) -> dict:
    """Metrics of Experiment 2: :func:`probed_metrics` and the correlations on the test set."""
    E = model.encode(data.x_test)
    return probed_metrics(model, data) | {"correlation": _rounded(correlation(E, eps=1e-12), 3)}


@torch.no_grad()
def benchmark_metrics(model: torch.nn.Module, data: Dataset) -> dict:
    """Metrics of Experiment 3: probe, sparsity, and reconstruction through each decoder.

    "own" is the model's decoder, "transpose" W^T (Eq. 12), "transpose_scaled" W^T times
    the best single number on the training set, "transpose_affine" the same with the best
    constant image added, "least_squares" the best affine decoder.
    """
    a_train, a = model.encode(data.x_train), model.encode(data.x_test)
    W_dec = model.W if isinstance(model, DecoderFreeSAE) else model.W_dec

    def decoded() -> Iterator[tuple[str, torch.Tensor]]:
        yield "own", model.decode(a)
        yield "transpose", reconstruct(a, model.W)
        V, c = metrics.least_squares_decoder(a_train, data.x_train)
        yield "least_squares", a @ V + c
        for name, constant in (("transpose_scaled", False), ("transpose_affine", True)):
            V, c = metrics.scaled_decoder(a_train, data.x_train, model.W, constant=constant)
            yield name, a @ V + c
        if isinstance(model, DecoderFreeSAE):
            yield "transpose_of_s", reconstruct(energy_to_activation(a), model.W)

    found = {
        "probe_accuracy": metrics.linear_probe(a_train, data.y_train, a, data.y_test),
        "l0": metrics.l0(a),
        "l0_by_threshold": [metrics.l0(a, threshold=threshold) for threshold in THRESHOLDS],
        "l0_activation": metrics.l0(energy_to_activation(a)),
        "dead_units": metrics.dead_units(a),
        "dead_by_threshold": [metrics.dead_units(a, threshold=threshold) for threshold in THRESHOLDS],
        "never_active": int((a_train <= 0).all(dim=0).sum()),
        "redundancy": metrics.redundancy(a),
        "mean_squared_correlation": metrics.mean_squared_correlation(a),
        "parameters": sum(p.numel() for p in model.parameters()),
        "published_mse": metrics.published_mse(data.x_test, a, W_dec),
        "mean_row_norm": float(model.W.norm(dim=1).mean()),
    }
    for name, x_hat in decoded():  # one at a time: each is as large as the test set
        found[f"mse_{name}"] = metrics.mse(data.x_test, x_hat)
        found[f"fvu_{name}"] = metrics.fvu(data.x_test, x_hat)
    return found


def yardsticks(data: Dataset, K: int = PROTOCOL["K"]) -> dict:
    """Yardsticks on the test set: three predictors without a sparse code, and the raw pixels.

    "zero" predicts zero, "mean" the mean training image, "pca" the best linear code
    with K components of the centred training set; "probe_accuracy" is that of the
    linear probe on the pixels themselves.
    """
    x, mean = data.x_test, data.x_train.mean(dim=0)
    pca = PCA(K, svd_solver="covariance_eigh").fit(data.x_train.cpu().numpy())
    projected = torch.from_numpy(pca.inverse_transform(pca.transform(x.cpu().numpy()))).to(x)
    predicted = {"zero": torch.zeros_like(x), "mean": mean.expand_as(x), "pca": projected}
    errors = {f"{metric.__name__}_{name}": metric(x, x_hat) for name, x_hat in predicted.items()
              for metric in (metrics.mse, metrics.fvu)}
    return errors | {"probe_accuracy": metrics.linear_probe(data.x_train, data.y_train, x, data.y_test)}


class Experiment(NamedTuple):
    """What an experiment runs at a profile, and what it measures."""

    specs: Callable[[str], list[dict]]
    evaluate: Callable[[torch.nn.Module, Dataset], dict]


EXPERIMENTS = {
    "ablation": Experiment(ablation_specs, ablation_metrics),
    "benchmark": Experiment(benchmark_specs, benchmark_metrics),
    "reconstruction": Experiment(reconstruction_specs, probed_metrics),
    "variants": Experiment(variant_specs, code_metrics),
    "yardsticks": Experiment(lambda profile: [{"name": "yardsticks", "seed": 0}], lambda _, data: yardsticks(data)),
}


def run_group(experiment: str, specs: list[dict], *, profile: str, device: str = "auto") -> list[dict]:
    """Train the models of a group together and evaluate each: one run record a spec.

    ``device`` as in :func:`select_device`; on a GPU the same code runs there.
    "train_seconds" is the time of the group divided by its size, which the record
    holds as "trained_together"; "seconds" adds the evaluation of the model itself.
    """
    data = Dataset(*(part.to(select_device(device)) for part in load_data(profile)))
    start = time.perf_counter()
    models, histories = fit(specs, data) if "model" in specs[0] else ([None], [{}])
    trained = (time.perf_counter() - start) / len(specs)
    found = []
    for model, history in zip(models, histories, strict=True):
        start = time.perf_counter()
        measured = EXPERIMENTS[experiment].evaluate(model, data)
        # JSON has no NaN: a metric that is not defined is stored as null.
        found.append({
            "metrics": {name: None if value != value else value for name, value in measured.items()},
            "history": {name: [round(value, 6) for value in term] for name, term in history.items()},
            "seconds": round(trained + time.perf_counter() - start, 2), "train_seconds": round(trained, 2),
            "trained_together": len(specs), "threads": torch.get_num_threads()})
    return found


def run_experiments(profile: str, names: list[str] = list(EXPERIMENTS), *, workers: int | None = None) -> dict[str, dict]:
    """Make ``results/<profile>/<name>.json`` for each name, and return the contents.

    Finished runs are not repeated; see :func:`dfsae.records.run_all`. By default one
    process a core, or one for all if there is a GPU.
    """
    if select_device().type != "cpu":
        workers = 1
    plan = {name: EXPERIMENTS[name].specs(profile) for name in names}
    return records.run_all(plan, profile, partial(run_group, profile=profile), groups=groups, workers=workers)


def _rounded(values: torch.Tensor, digits: int = 6) -> list:
    """Nested lists, rounded: the records stay small and readable."""
    return torch.round(values.double(), decimals=digits).tolist()
