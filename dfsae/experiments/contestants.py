"""How the trained models of the fair comparison are built, split off data to choose by, and measured."""

from functools import partial

import torch

from dfsae import metrics
from dfsae.autoencoders import TiedSAE, TopKSAE
from dfsae.data import Dataset
from dfsae.encoder import reconstruct
from dfsae.experiments import protocol
from dfsae.fixed_scale import FixedScaleSAE
from dfsae.objective import Lambdas, energy_to_activation
from dfsae.volume import VolumeSAE


def build(spec: dict, data: Dataset) -> torch.nn.Module:
    """The untrained model of a spec, on the device of the data; its seed is the spec's."""
    D, K = data.x_train.shape[1], spec["K"]
    common = {"seed": spec["seed"], "dtype": data.x_train.dtype}
    with_decoder = common | {"data_mean": data.x_train.mean(dim=0).cpu()}
    if spec["model"] == "TiedSAE":
        model = TiedSAE(D, K, l1=spec["l1"], **with_decoder)
    elif spec["model"] == "TopKSAE":
        model = TopKSAE(D, K, k=spec["k"], **with_decoder)
    elif spec["model"] in ("FixedScaleSAE", "VolumeSAE"):
        common |= {"lambdas": Lambdas(*spec["lambdas"]), "reduction": spec["reduction"], "eps": spec["eps"],
                   "activation": spec["activation"], "radius": spec.get("radius")}
        model = (FixedScaleSAE(D, K, **common) if spec["model"] == "FixedScaleSAE"
                 else VolumeSAE(D, K, volume=spec["volume"], **common))
    else:
        return protocol.build(spec, data)
    return model.to(data.x_train.device)


fit = partial(protocol.fit, build=build)


def split(data: Dataset) -> Dataset:
    """The first five sixths of the training set to train on, the rest, in place of the test set, to choose by."""
    n = len(data.x_train) * 5 // 6
    return Dataset(data.x_train[:n], data.y_train[:n], data.x_train[n:], data.y_train[n:])


def fit_on_part(specs: list[dict], data: Dataset) -> tuple[list[torch.nn.Module], list[dict]]:
    """Train the models of a group on the first part of the training set; the test set is not read."""
    return fit(specs, split(data))


@torch.no_grad()
def evaluate(model: torch.nn.Module, data: Dataset) -> dict:
    """Probe, sparsity under both conventions, redundancy, and reconstruction through three decoders.

    "own" is the model's decoder, "transpose" W^T (Eq. 12) as it stands, "transpose_affine"
    W^T with the best number and constant image, "least_squares" the best affine decoder;
    what is fitted is fitted on the training set. W are the weights in effect. A decoder that
    the model has not, or a multiple that constant codes leave open, is None.
    """
    a_train, a = model.encode(data.x_train), model.encode(data.x_test)
    V, c = metrics.least_squares_decoder(a_train, data.x_train)
    found = {
        "probe_accuracy": metrics.linear_probe(a_train, data.y_train, a, data.y_test),
        "l0": metrics.l0(a),
        "l0_activation": metrics.l0(energy_to_activation(a)),
        "dead_units": metrics.dead_units(a),
        "never_active": int((a_train <= 0).all(dim=0).sum()),
        "redundancy": metrics.redundancy(a),
        "mean_squared_correlation": metrics.mean_squared_correlation(a),
        "parameters": sum(p.numel() for p in model.parameters()),
        "fvu_least_squares": metrics.fvu(data.x_test, a @ V + c),
        "fvu_own": None, "fvu_transpose": None, "fvu_transpose_affine": None,
    }
    if hasattr(model, "decode"):
        found["fvu_own"] = metrics.fvu(data.x_test, model.decode(a))
    if hasattr(model, "W"):
        W = model.scaled()[0] if hasattr(model, "scaled") else model.W
        found["fvu_transpose"] = metrics.fvu(data.x_test, reconstruct(a, W))
        if a_train.var(dim=0).any():
            V, c = metrics.scaled_decoder(a_train, data.x_train, W, constant=True)
            found["fvu_transpose_affine"] = metrics.fvu(data.x_test, a @ V + c)
    return found


def evaluate_on_part(model: torch.nn.Module, data: Dataset) -> dict:
    """:func:`evaluate` on the second part of the training set, in place of the test set."""
    return evaluate(model, split(data))
