"""The models on the residual stream of a language model: sparsity, reconstruction, the loss they keep, and what comes back."""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dfsae import lm, metrics
from dfsae.batch_topk import BatchTopKSAE
from dfsae.data import Dataset
from dfsae.encoder import reconstruct
from dfsae.experiments import contestants, protocol
from dfsae.experiments.ablation import CORNERS
from dfsae.experiments.protocol import with_seeds
from dfsae.experiments.superposition import matched
from dfsae.objective import energy_to_activation
from dfsae.shards import MissingShardsError, open_parts, open_rows
from dfsae.units import describe_unit

LAYER, HELD_OUT, MASSIVE, FIT_ON, SPLICED = 14, 352, 10.0, 65_536, 16
"""Layer; contexts that are held out; the multiple of the median norm above which an activation is massive;
activations to fit decoders on; held-out contexts in which reconstructions are spliced."""

NARROW, WIDE = 288, 1152
"""Half and twice the width of the residual stream, 576."""

FAMILIES = {
    "ablation": {name: {"model": "DecoderFreeSAE", "lambdas": list(CORNERS[name]), "K": NARROW}
                 for name in ("LSE only", "LSE + var", "var + tc only", "LSE + var + tc")},
    "decoder-free": {"decoder-free": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]}},
    "fixed scale": {f"norm 16, LSE {lse}": {"model": "FixedScaleSAE", "radius": 16, "lambdas": [lse, 1, 2, 0]} for lse in (16, 64, 256)},
    "L1 SAE": {f"L1 {l1}": {"model": "StandardSAE", "l1": l1} for l1 in (0.025, 0.05, 0.1)},
    "TopK SAE": {f"TopK {k}": {"model": "TopKSAE", "k": k} for k in (16, 32, 64)},
    "BatchTopK SAE": {f"BatchTopK {k}": {"model": "BatchTopKSAE", "k": k} for k in (16, 32, 64)},
}
"""Configurations by family, of :data:`WIDE` units where they do not say."""

BETWEEN = {"fixed scale": "norm 16, LSE 64", "L1 SAE": "L1 0.05", "TopK SAE": "TopK 32", "BatchTopK SAE": "BatchTopK 32"}
"""The middle of each family, which is also trained with :data:`NARROW` units, and with massive activations kept."""

CONFIGURATIONS = {name: {"K": WIDE, **settings} for members in FAMILIES.values() for name, settings in members.items()} | {
    f"{name}, {NARROW} units": {**FAMILIES[family][name], "K": NARROW} for family, name in BETWEEN.items()} | {
    f"{name}, massive kept": {**FAMILIES[family][name], "K": NARROW, "massive": "kept"}
    for family, name in BETWEEN.items() if family in ("fixed scale", "TopK SAE")}


def specs(profile: str) -> list[dict]:
    """All configurations with three seeds and one budget: two passes over the activations, at the published rate.

    The seeds of a configuration train together.
    """
    return with_seeds({name: {"massive": "dropped", "together": name, "epochs": 2, "batch_size": 512,
                              "shown": 8 if name in BETWEEN.values() else 0, **settings}
                       for name, settings in CONFIGURATIONS.items()}, profile, seeds=3)


def find_data() -> None:
    """Check the activations on disk.

    Raises
    ------
    FileNotFoundError
        With the remedy, unless they are there, all of them.
    ValueError
        If they are of another layer or model than the one in which reconstructions are spliced.
    """
    try:
        open_rows(lm.FOLDER)
    except (FileNotFoundError, MissingShardsError) as error:
        raise FileNotFoundError(f"{error}; make the activations of a language model with: make lm") from error
    settings = identify_data()
    for name, expected in {"model": Path(lm.find_model()).name, "layer": LAYER}.items():
        if settings.get(name) != expected:
            raise ValueError(f"{lm.FOLDER} holds activations of {name} {settings.get(name)!r}, not {expected!r}; "
                             "move the folder away and make those of the book with: make lm")


def identify_data() -> dict:
    """Model, layer and tokens of the activations on disk: :func:`dfsae.lm.read_settings`."""
    return lm.read_settings(min(lm.FOLDER.glob("*.safetensors")))


class Inputs(NamedTuple):
    """Activations, scaled, and what is needed to go back to the model they come from."""

    x_train: Tensor
    """``(N, D)``, with a mean squared norm of one."""
    x_test: Tensor
    """``(M, D)``: of held-out contexts, none of them massive."""
    massive_test: Tensor
    """``(m, D)``: the massive ones of held-out contexts."""
    normal: Tensor
    """``(M + m,)``: which rows of held-out contexts are not massive."""
    ids: Tensor
    """``(contexts, length)``: the tokens of held-out contexts."""
    scale: float
    """What activations were divided by."""
    largest: float
    """The norm above which an activation is massive, unscaled."""


@lru_cache(maxsize=1)
def load(massive: str) -> Inputs:
    """The activations that :func:`dfsae.lm.extract` wrote; ``massive`` ones are "dropped" from the training set or "kept"."""
    rows = open_rows(lm.FOLDER)
    ids, positions = (torch.cat(open_parts(lm.FOLDER, name)) for name in ("ids", "positions"))
    length = int(positions.max()) + 1
    norms = rows.norms()
    largest = MASSIVE * float(norms.median())
    normal = norms <= largest
    train = torch.arange(len(rows)) < len(rows) - HELD_OUT * length
    chosen = train & normal if massive == "dropped" else train
    scale = float(norms[chosen].square().mean().sqrt())
    x_train, x_test, massive_test = (rows.take(mask.nonzero().squeeze(1), scale=scale)[:]
                                     for mask in (chosen, ~train & normal, ~train & ~normal))
    return Inputs(x_train, x_test, massive_test, normal[~train], ids.reshape(-1, length)[-HELD_OUT:], scale, largest)


@lru_cache(maxsize=1)
def load_model() -> tuple[Any, Any, dict]:
    """Model, tokenizer, and the losses without a splice and with two ablations."""
    model, tokenizer = lm.load_model(lm.find_model())
    data = load("dropped")
    mean = data.scale * data.x_train.mean(dim=0)
    ablations = {"clean": lambda x: x, "zero": torch.zeros_like, "mean": lambda x: mean.expand_as(x)}
    return model, tokenizer, {name: _spliced_loss(model, x_hat, data) for name, x_hat in ablations.items()}


def _spliced_loss(model: Any, x_hat: Any, data: Inputs) -> float:
    return lm.spliced_loss(model, data.ids[:SPLICED], layer=LAYER, splice=lm.replace_normal(x_hat, data.largest))


def build(spec: dict, data: Inputs) -> nn.Module:
    """The untrained model of a spec."""
    if spec["model"] != "BatchTopKSAE":
        return contestants.build(spec, data)
    return BatchTopKSAE(data.x_train.shape[1], spec["K"], k=spec["k"], seed=spec["seed"], dtype=data.x_train.dtype,
                        data_mean=data.x_train.mean(dim=0).cpu()).to(data.x_train.device)


def fit(specs: list[dict], data: Dataset) -> tuple[list[nn.Module], list[dict]]:
    """Train the models of a group, the seeds of one configuration.

    Each gets its inputs, its least-squares decoder, and two sets of directions that its
    units write: "own", the rows of the decoder, or of the weights where there is none, and
    "least_squares"; with the cosines of their matches in the next seed.
    """
    inputs = load(specs[0]["massive"])
    inputs = inputs._replace(**{name: getattr(inputs, name).to(data.x_train) for name in ("x_train", "x_test", "massive_test")})
    models, histories = protocol.fit(specs, inputs, build=build)
    x_train = inputs.x_train[:FIT_ON]
    for place, model in enumerate(models):
        if isinstance(model, BatchTopKSAE):
            model.calibrate(x_train)
        model.inputs, model.shown = inputs, specs[place].get("shown", 0) if place == 0 else 0
        with torch.no_grad():
            model.least_squares = metrics.least_squares_decoder(model.encode(x_train), x_train)
        model.directions = {"own": getattr(model, "W_dec", model.W).detach(), "least_squares": model.least_squares[0]}
    for model, other in zip(models, models[1:] + models[:1]):
        model.comes_back = {name: _matched(mine, other.directions[name]) for name, mine in model.directions.items()
                            if other is not model}
    return models, histories


def _matched(V: Tensor, other: Tensor) -> Tensor:
    """Cosines of the one-to-one matching of two sets of directions with the largest sum; zero for those of norm zero."""
    return matched(normalize(V, dim=1) @ normalize(other, dim=1).mT)


def show_units(model: nn.Module, a: Tensor, V: Tensor) -> list[dict]:
    """A sample of the units that are active on held-out rows: :func:`dfsae.units.describe_unit`, and what they write to the logits.

    ``a (M, K)`` are codes of the held-out rows, ``V (K, D)`` the least-squares decoder. Massive
    rows, which the model does not encode, count as inactive.
    """
    inputs = model.inputs
    language_model, tokenizer, _ = load_model()
    codes = a.new_zeros(inputs.normal.shape + a.shape[1:])
    codes[inputs.normal] = a
    tokens = [tokenizer.decode(i) for i in inputs.ids.flatten().tolist()]
    active = ((a > 0).sum(dim=0) >= 10).nonzero().squeeze(1)
    chosen = active[torch.randperm(len(active), generator=torch.Generator().manual_seed(0))[:model.shown]].tolist()
    found = []
    for unit, logits in zip(chosen, lm.logit_weights(language_model, V[chosen])):
        words = {name: [tokenizer.decode(i) for i in logits.topk(8, largest=largest).indices.tolist()]
                 for name, largest in (("promoted", True), ("suppressed", False))}
        found.append({"unit": unit, **describe_unit(codes[:, unit], tokens=tokens, length=inputs.ids.shape[1]), **words})
    return found


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset) -> dict:
    """Sparsity, redundancy, reconstruction through four decoders, and the language model's loss with two of them.

    "l0" counts units above zero, "l0_published" those above 0.01, which depends on the scale.
    Decoders as in :func:`dfsae.experiments.contestants.evaluate`, with the least-squares one fitted on
    :data:`FIT_ON` activations. Losses are of the language model with a reconstruction spliced in, in nats.
    """
    inputs = model.inputs
    x_train, x = inputs.x_train[:FIT_ON], inputs.x_test
    a_train, a = model.encode(x_train), model.encode(x)
    W = model.scaled()[0] if hasattr(model, "scaled") else model.W
    V, c = model.least_squares
    found = {
        "l0": metrics.l0(a, threshold=0), "l0_published": metrics.l0(a), "l0_activation": metrics.l0(energy_to_activation(a)),
        "dead_units": metrics.dead_units(a), "never_active": int((a_train <= 0).all(dim=0).sum()),
        "constant_units": int((a.var(dim=0) == 0).sum()),
        "mean_squared_correlation": metrics.mean_squared_correlation(a), "near_copies": metrics.near_copies(a),
        "dense_units": int(((a > 0).double().mean(dim=0) > 0.5).sum()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "fvu_transpose_affine": None, "fvu_transpose": metrics.fvu(x, reconstruct(a, W)),
        "fvu_massive": None,
    }
    if len(inputs.massive_test) > 1:
        found["fvu_massive"] = metrics.fvu(inputs.massive_test, model.decode(model.encode(inputs.massive_test)))
    if a_train.var(dim=0).any():
        multiple, constant = metrics.scaled_decoder(a_train, x_train, W, constant=True)
        found["fvu_transpose_affine"] = metrics.fvu(x, a @ multiple + constant)
    language_model, _, losses = load_model()
    found |= {f"loss_{name}": loss for name, loss in losses.items()}
    for name, decode in {"own": model.decode, "least_squares": lambda a: a @ V + c}.items():
        found[f"fvu_{name}"] = metrics.fvu(x, decode(a))
        found[f"loss_{name}"] = _spliced_loss(
            language_model, lambda h: inputs.scale * decode(model.encode(h.to(x) / inputs.scale)), inputs)
    if model.shown:
        found["units"] = show_units(model, a, V)
    for name, cosines in model.comes_back.items():
        found |= {f"comes_back_{name}": int((cosines > 0.9).sum()), f"cosine_{name}": float(cosines.mean())}
    return found
