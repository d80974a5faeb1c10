"""Tuning methods: what each one trains, that it learns, merges, and comes back from disk."""

import copy
import json

import pytest
import torch
from conftest import message
from made_tuned import INNER, LAYERS, WIDTH, batch, bert, gpt2, mt5, xlmr
from safetensors.torch import load_file, save_file
from torch import nn

from xqg_pyserini.models.tuning import (
    METHODS,
    TuningSettings,
    hybrid,
    load_adapter,
    merged,
    module_table,
    save_adapter,
    trainable,
    tune,
)
from xqg_pyserini.models.tuning.methods import block_linears, last_linears

SMALL = {"rank": 2, "bottleneck": 4, "virtual_tokens": 3, "full_share": 0.25}
ADAPTERS = [method for method in METHODS if not method.startswith("full")]


def mean(model, **inputs):
    hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def contrastive(model):
    a = nn.functional.normalize(mean(model, **batch(1)), dim=1)
    b = nn.functional.normalize(mean(model, **batch(2)), dim=1)
    return nn.functional.cross_entropy(a @ b.T / 0.1, torch.arange(len(a)))


def generative(model):
    inputs = batch(3)
    causal = not model.config.is_encoder_decoder
    labels = inputs["input_ids"] if causal else batch(4)["input_ids"]
    return model(**inputs, labels=labels).loss


def loss_of(model):
    return generative(model) if model.can_generate() else contrastive(model)


def warm_up(model):
    loss_of(model).backward()


def start(model, method, seed=5, **settings):
    return tune(model, TuningSettings(method, **{**SMALL, **settings}), seed, warm_up)


def step(module, loss, times=1, rate=0.01):
    optimizer = torch.optim.Adam(trainable(module).values(), rate)
    losses = []
    for _ in range(times):
        optimizer.zero_grad()
        value = loss(module)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


# ---------------------------------------------------------------- what is trained

IN_BLOCKS = LAYERS * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER)  # BERT's linear weights
LORA = LAYERS * 2 * (4 * (WIDTH + WIDTH) + 2 * (WIDTH + INNER))  # rank 2
EXPECTED = {
    "bitfit": WIDTH + LAYERS * (4 * WIDTH + INNER + WIDTH + 2 * WIDTH),
    "lora": LORA,
    "adapter": LAYERS * (WIDTH * 4 + 4 + 4 * WIDTH + WIDTH),
    "prefix": LAYERS * 2 * 3 * WIDTH,
    "robust-prefix": LAYERS * 2 * 3 * WIDTH,
}


@pytest.mark.parametrize("make", [bert, xlmr])
@pytest.mark.parametrize("method", EXPECTED)
def test_an_encoder_trains_as_many_parameters_as_the_formula_says(method, make):
    module = start(make(), method)
    assert sum(p.numel() for p in trainable(module).values()) == EXPECTED[method]


def test_full_tuning_leaves_out_the_pooler_that_no_loss_reaches():
    names = {name for name, _ in bert().named_parameters()}
    assert set(trainable(start(bert(), "full"))) == {n for n in names if "pooler" not in n}
    assert set(trainable(tune(bert(), TuningSettings(), 0, unused=()))) == names


def test_frozen_embeddings_are_those_of_words_positions_and_types_alone():
    every, partly = trainable(start(bert(), "full")), start(bert(), "full-frozen-embeddings")
    frozen = set(every) - set(trainable(partly))
    assert frozen == {f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")}


def test_a_tied_output_head_is_frozen_with_its_embeddings_and_an_untied_one_is_not():
    assert "transformer.wte.weight" not in trainable(start(gpt2(), "full-frozen-embeddings"))
    tied = start(gpt2(), "full-frozen-embeddings")
    assert tied.lm_head.weight is tied.transformer.wte.weight
    assert not tied.lm_head.weight.requires_grad
    untied = start(gpt2(tied=False), "full-frozen-embeddings")
    assert untied.lm_head.weight.requires_grad
    assert not untied.transformer.wte.weight.requires_grad


def test_bitfit_trains_the_biases_those_of_layer_norms_among_them():
    names = set(trainable(start(bert(), "bitfit")))
    assert all(name.endswith(".bias") for name in names)
    assert "encoder.layer.1.output.LayerNorm.bias" in names
    assert "encoder.layer.0.attention.self.query.bias" in names
    assert not any("pooler" in name for name in names)


def test_lora_and_adapters_reach_the_blocks_and_not_the_heads():
    for make, head in ((bert, "pooler"), (mt5, "lm_head"), (gpt2, "lm_head")):
        model = make()
        linears = block_linears(model)
        names = trainable(start(model, "lora"))
        assert len(names) == 2 * len(linears)
        assert not any(head in name for name in names)
    assert list(last_linears(bert())) == [f"encoder.layer.{i}.output.dense" for i in range(LAYERS)]
    assert [n.split(".", 3)[-1] for n in last_linears(mt5())] == [
        "layer.1.DenseReluDense.wo",
        "layer.1.DenseReluDense.wo",
        "layer.2.DenseReluDense.wo",
        "layer.2.DenseReluDense.wo",
    ]
    assert list(last_linears(gpt2())) == [f"transformer.h.{i}.mlp.c_proj" for i in range(LAYERS)]


@pytest.mark.parametrize("make", [bert, xlmr, mt5, gpt2])
@pytest.mark.parametrize("method", METHODS)
def test_exactly_the_methods_parameters_move_and_the_loss_falls(method, make):
    if (make is mt5 and method == "bitfit") or (make in (mt5, gpt2) and method == "robust-prefix"):
        return  # refused: see below
    module = start(make(), method)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    assert all(p.grad is None for p in module.parameters())
    losses = step(module, loss_of, times=15)
    moved = {n for n, p in module.named_parameters() if not torch.equal(p.detach(), before[n])}
    assert moved == set(trainable(module))
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("method", [m for m in METHODS if "prefix" not in m])
def test_tuning_starts_at_the_base(method):
    model = bert().eval()
    base = mean(model, **batch())
    torch.testing.assert_close(mean(start(model, method).eval(), **batch()), base)


def test_the_seed_decides_new_weights_and_torchs_state_stays():
    for method in ("lora", "adapter", "prefix"):
        torch.manual_seed(9)
        one = trainable(start(bert(), method, seed=1))
        drawn = torch.rand(1)
        two, other = trainable(start(bert(), method, seed=1)), trainable(start(bert(), method))
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert not all(torch.equal(one[name], other[name]) for name in one)
        torch.manual_seed(9)
        torch.manual_seed(1)  # bert() seeds itself
        bert()
        assert torch.equal(drawn, torch.rand(1))


# ---------------------------------------------------------------- prefixes


def blind(model):
    """Make the first number of every key 0 and of every query 1000 (in each head)."""
    for layer in model.encoder.layer:
        attention, size = layer.attention.self, WIDTH // 2
        with torch.no_grad():
            for linear, value in ((attention.query, 1000.0), (attention.key, 0.0)):
                linear.weight[::size] = 0
                linear.bias[::size] = value
    return model


@pytest.mark.parametrize("make", [bert, xlmr])
def test_a_prefix_that_no_token_looks_at_changes_nothing(make):
    model = blind(make()).eval()
    base = model(**batch()).last_hidden_state
    module = start(model, "prefix")
    for name, parameter in trainable(module).items():
        if name.endswith("keys"):
            with torch.no_grad():
                parameter.zero_()[:, :, 0] = -1000.0
    output = module(**batch()).last_hidden_state
    assert output.shape == base.shape  # the real tokens only
    mask = batch()["attention_mask"].bool()
    torch.testing.assert_close(output[mask], base[mask])


def test_a_prefix_enters_the_attention_as_by_hand():
    model = bert(num_hidden_layers=1).eval()
    inputs = {k: v[:1] for k, v in batch().items()}  # no padding
    hidden = model.embeddings(inputs["input_ids"])
    module = start(model, "prefix")
    attention = module.encoder.layer[0].attention.self
    prefix = attention.xqg_prefix
    assert prefix.keys.shape == (2, 3, WIDTH // 2)
    assert prefix.keys.any() and not prefix.values.any()  # the start
    with torch.no_grad():
        prefix.values.normal_()

    def heads(linear):
        return linear(hidden)[0].view(-1, 2, WIDTH // 2).transpose(0, 1)

    keys = torch.cat([prefix.keys, heads(attention.key)], dim=1)
    values = torch.cat([prefix.values, heads(attention.value)], dim=1)
    weights = (heads(attention.query) @ keys.transpose(1, 2) / (WIDTH // 2) ** 0.5).softmax(-1)
    expected = (weights @ values).transpose(0, 1).reshape(1, -1, WIDTH)
    caught = []
    attention.register_forward_hook(lambda m, i, output: caught.append(output[0]))
    module(**inputs)
    torch.testing.assert_close(caught[0], expected)


@pytest.mark.parametrize("make", [bert, xlmr])
@pytest.mark.parametrize("method", ["prefix", "adapter", "lora", "bitfit"])
def test_padding_does_not_change_a_text(method, make):
    module = start(make(), method).eval()
    step(module, contrastive, times=2)
    inputs = batch()
    together = mean(module, **inputs)
    for i in range(len(together)):
        n = int(inputs["attention_mask"][i].sum())
        alone = mean(module, **{k: v[i : i + 1, :n] for k, v in inputs.items()})
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-4)


def test_a_model_keeps_its_attention_when_it_cannot_take_a_prefix():
    from transformers import GPT2Model

    model = GPT2Model(gpt2().config)
    before = model.config._attn_implementation
    assert "looks back only" in message(start, model, "prefix")
    assert model.config._attn_implementation == before
    assert "virtual_tokens is 23; this model takes 1 to 22" in message(start, bert(), "prefix", virtual_tokens=23)


# ---------------------------------------------------------------- merged, stored, loaded


@pytest.mark.parametrize("make", [bert, mt5, gpt2])
@pytest.mark.parametrize("method", ["bitfit", "lora", "hybrid-lora", "hybrid-lora-random", "full"])
def test_merged_equals_unmerged(method, make):
    if make is mt5 and method == "bitfit":
        return
    base = make()
    module = start(copy.deepcopy(base), method).eval()
    step(module, loss_of, times=3)
    names = ("logits",) if base.can_generate() else ("last_hidden_state", "pooler_output")
    inputs = batch()
    if base.config.is_encoder_decoder:
        inputs["labels"] = batch(4)["input_ids"]
    with torch.no_grad():
        before = module(**inputs)
        model = merged(module)
        after = model(**inputs)
    assert type(model) is type(base)
    assert list(model.state_dict()) == list(base.state_dict())
    for name in names:
        torch.testing.assert_close(after[name], before[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["adapter", "prefix", "robust-prefix"])
def test_what_weights_cannot_hold_is_not_merged(method):
    assert "cannot be merged" in message(merged, start(bert(), method))


@pytest.mark.parametrize("make", [bert, xlmr, mt5, gpt2])
@pytest.mark.parametrize("method", ADAPTERS)
def test_an_adapter_comes_back_as_it_was(method, make, tmp_path):
    if (make is mt5 and method == "bitfit") or method == "robust-prefix":
        return
    base = make()
    module = start(copy.deepcopy(base), method).eval()
    step(module, loss_of, times=3)
    names = list(trainable(module))
    module.requires_grad_(False)  # what is stored does not depend on this
    save_adapter(module, tmp_path / "a", "some/base", "f00", {"pooling": "mean"})
    loaded = load_adapter(copy.deepcopy(base), tmp_path / "a", "f00").eval()
    with torch.no_grad():
        assert loss_of(loaded) == loss_of(module)
        assert loss_of(loaded) != loss_of(base.eval())
    assert list(trainable(loaded)) == names
    stored = sum(
        tensor.numel() for path in (tmp_path / "a").glob("*.safetensors") for tensor in load_file(path).values()
    )
    assert stored == sum(p.numel() for p in trainable(loaded).values())
    assert not list((tmp_path / "a").glob("*.bin"))
    meta = json.loads((tmp_path / "a" / "xqg_adapter.json").read_text())
    assert meta["parameters"] == sum(p.numel() for p in trainable(loaded).values())
    assert meta["base"] == "some/base"
    assert module_table(loaded) == module_table(module)


@pytest.mark.parametrize(
    ("make", "method"), [(bert, "lora"), (bert, "hybrid-lora"), (mt5, "lora"), (mt5, "prefix"), (gpt2, "prefix")]
)
def test_peft_reads_what_peft_has_a_format_for(make, method, tmp_path):
    from peft import PeftModel

    base = make()
    module = start(copy.deepcopy(base), method).eval()
    step(module, loss_of, times=3)
    save_adapter(module, tmp_path / "a", "some/base", "f00", None)
    reloaded = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "a")).eval()
    assert float(loss_of(reloaded)) == pytest.approx(float(loss_of(module)), abs=1e-6)


def test_a_whole_model_has_no_adapter(tmp_path):
    module = start(bert(), "full")
    assert "save the whole model" in message(save_adapter, module, tmp_path / "a", "b", "f", None)


# ---------------------------------------------------------------- what is refused


@pytest.fixture(params=["lora", "prefix"])
def saved(request, tmp_path):
    save_adapter(start(bert(), request.param), tmp_path / "a", "some/base", "f00", None)
    return tmp_path / "a"


def weights_of(folder):
    return next(folder.glob("*adapter*.safetensors"))


def test_an_adapter_for_another_base_is_refused(saved):
    assert message(load_adapter, bert(), saved, "f01") == (
        f"{saved}: an adapter for another base (some/base, f00), not for this one (f01); "
        "use the base that it was trained on"
    )


def test_damaged_adapters_are_refused(saved):
    path = weights_of(saved)
    whole = load_file(path)
    first = sorted(whole)[0]
    save_file({name: whole[name] for name in whole if name != first}, path)
    assert f"lacks 1 weights, the first is {first}" in message(load_adapter, bert(), saved, "f00")
    save_file({**whole, "more": torch.zeros(1)}, path)
    assert "1 weights too many, the first is more" in message(load_adapter, bert(), saved, "f00")
    save_file({**whole, first: torch.zeros(3)}, path)
    assert f"{first} has the shape [3]" in message(load_adapter, bert(), saved, "f00")
    path.write_bytes(b"nothing")
    assert "damaged" in message(load_adapter, bert(), saved, "f00")
    path.unlink()
    assert "missing" in message(load_adapter, bert(), saved, "f00")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "broken JSON"),
        ("[]", "damaged (Expected `object`"),
        ('{"format": 1}', "damaged ('settings')"),
        ('{"format": 1, "settings": {"method": "magic"}}', "method is 'magic'"),
        ('{"format": 1, "settings": {"colour": 1}}', "colour"),
    ],
)
def test_a_damaged_description_is_refused(saved, text, expected):
    (saved / "xqg_adapter.json").write_text(text)
    output = message(load_adapter, bert(), saved, "f00")
    assert output.startswith(f"{saved / 'xqg_adapter.json'}: ")
    assert expected in output


def test_a_folder_that_is_no_adapter_is_refused(tmp_path):
    assert "it has no xqg_adapter.json" in message(load_adapter, bert(), tmp_path, "f00")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"method": "magic"}, "method is 'magic'; expected full, full-frozen-embeddings"),
        ({"rank": 0}, "rank is 0; expected a whole number, 1 or more"),
        ({"rank": True}, "rank is True"),
        ({"bottleneck": -1}, "bottleneck is -1"),
        ({"virtual_tokens": 2.5}, "virtual_tokens is 2.5"),
        ({"robust_steps": 0}, "robust_steps is 0"),
        ({"full_share": 1}, "full_share is 1; expected a number, above 0, below 1"),
        ({"lora_dropout": 1.0}, "lora_dropout is 1.0"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"robust_lr": "fast"}, "robust_lr is 'fast'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, expected):
    assert expected in message(TuningSettings, **settings)


def test_a_method_that_the_model_cannot_take_is_refused_with_those_it_can():
    refused = message(start, mt5(), "bitfit")
    assert refused.startswith("MT5ForConditionalGeneration cannot take the tuning method bitfit: ")
    assert refused.endswith("full, full-frozen-embeddings, lora, adapter, prefix, hybrid-lora, "
                          "hybrid-lora-random")  # fmt: skip
    assert "it is no encoder" in message(start, gpt2(), "robust-prefix")


def test_a_hybrid_without_a_warm_up_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="takes a warm_up"):
        tune(bert(), TuningSettings("hybrid-lora"), 0)


def test_without_peft_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    assert "xqg_pyserini[train]" in message(start, bert(), "lora")


# ---------------------------------------------------------------- hybrid LoRA


def test_the_share_lost_is_as_by_hand():
    gradient = torch.diag(torch.tensor([3.0, 2.0, 1.0]))  # squares 9, 4, 1
    assert hybrid.lost_share(gradient, 1) == pytest.approx(5 / 14)
    assert hybrid.lost_share(gradient, 2) == pytest.approx(1 / 14)
    assert hybrid.lost_share(gradient, 3) == 0
    assert hybrid.lost_share(torch.zeros(2, 2), 1) == 0


def rows(*shares):
    shapes = [[4, 4], [4, 4], [4, 8], [4, 8], [4, 8]]
    return [
        {"name": name, "shape": shape, "parameters": shape[0] * shape[1], "share": share}
        for name, shape, share in zip("edcba", shapes, shares, strict=True)
    ]


def test_the_highest_shares_are_chosen_and_ties_go_by_name():
    settings = TuningSettings("hybrid-lora", full_share=0.4)
    assert hybrid.choose_modules(rows(0.1, 0.9, 0.5, 0.5, 0.2), settings, 0) == ["d", "b"]
    assert hybrid.choose_modules(rows(0, 0, 0, 0, 0), TuningSettings(full_share=0.01), 0) == ["a"]
    assert len(hybrid.choose_modules(rows(0, 0, 0, 0, 0), TuningSettings(full_share=0.99), 0)) == 4


def test_the_control_draws_within_the_same_shapes():
    settings = TuningSettings("hybrid-lora-random", full_share=0.4)
    drawn = {tuple(hybrid.choose_modules(rows(0.1, 0.9, 0.5, 0.4, 0.2), settings, s)) for s in range(40)}
    assert drawn == {(one, two) for one in "ed" for two in "cba"}


def test_both_hybrids_train_the_same_number_of_parameters():
    scored, control = start(bert(), "hybrid-lora"), start(bert(), "hybrid-lora-random", seed=3)
    count = sum(p.numel() for p in trainable(scored).values())
    assert count == sum(p.numel() for p in trainable(control).values())
    table, other = module_table(scored), module_table(control)
    assert [row["share"] for row in table] == [row["share"] for row in other]
    assert [row["chosen"] for row in table] != [row["chosen"] for row in other]
    assert sum(row["chosen"] for row in table) == 3  # a quarter of 12
    chosen = {row["name"] for row in table if row["chosen"]}
    full = {n.split("model.model.", 1)[1].split(".modules_to_save")[0]
            for n in trainable(scored) if "modules_to_save" in n}  # fmt: skip
    assert full == chosen
    assert module_table(start(bert(), "lora")) is None


def test_the_table_has_the_gradients_shares():
    model = bert()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    warm_up(model)
    weights = {name: linear.weight.grad for name, linear in block_linears(model).items()}
    expected = {name: hybrid.lost_share(gradient, 2) for name, gradient in weights.items()}
    table = module_table(start(bert(), "hybrid-lora"))
    assert {row["name"]: row["share"] for row in table} == pytest.approx(expected)
