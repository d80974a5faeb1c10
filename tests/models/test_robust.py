"""Robust prefix-tuning: statistics by hand, and questions that never depend on each other."""

import numpy as np
import pytest
import torch
from conftest import message
from made_models import TEXTS, make_model
from made_tuned import batch, bert, xlmr
from transformers import AlbertConfig, AlbertModel, AutoModel

from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.pretrained import folder_fingerprint
from xqg_pyserini.models.tuning import TuningSettings, load_adapter, save_adapter, tune
from xqg_pyserini.models.tuning.robust import RobustPrefix, activations, collect_statistics


def questions(n=40, seed=11):
    return [batch(seed + i, n=8) for i in range(n // 8)]


def robust(model=None, pooling="mean", **settings):
    settings = {"virtual_tokens": 3, "robust_rank": 4, "robust_lr": 0.5, **settings}
    module = tune(model or bert(), TuningSettings("robust-prefix", **settings), 5).eval()
    batches = [{**b, "input_ids": b["input_ids"] % module.config.vocab_size} for b in questions()]
    collect_statistics(module, batches, pooling)
    return module


def pooled(output, mask):
    weights = mask.unsqueeze(-1).float()
    return (output.last_hidden_state * weights).sum(1) / weights.sum(1)


def plain_losses(module, inputs, **options):
    """The loss by its formula, from the statistics, one question and layer at a time."""
    known = module.xqg_tuned.statistics
    activated = activations(module, inputs, options.get("pooling", "mean"), 2)
    losses = []
    for i in range(len(inputs["input_ids"])):
        loss = 0.0
        for j, h in enumerate(activated):
            off = (h[i] - known[f"mean.{j}"]).detach().double().numpy()
            for vector in known[f"vectors.{j}"].double().numpy().T:
                off = off - (off @ vector) * vector
            loss += off @ off / float(known[f"scale.{j}"])
        losses.append(loss)
    return losses


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_statistics_are_the_mean_and_the_singular_vectors(pooling):
    module = robust(pooling=pooling, robust_layers=9)  # the model has two
    known = module.xqg_tuned.statistics
    rows = []
    for inputs in questions():
        output = module(**inputs, output_hidden_states=True).hidden_states[2].detach()
        for hidden, mask in zip(output, inputs["attention_mask"], strict=True):
            rows.append(hidden[0] if pooling == "cls" else hidden[mask.bool()].mean(0))
    h = torch.stack(rows).double()
    assert set(known) == {"count"} | {f"{n}.{j}" for n in ("mean", "vectors", "scale") for j in "01"}
    assert int(known["count"]) == 40
    torch.testing.assert_close(known["mean.1"], h.mean(0).float())
    _, values, vectors = torch.linalg.svd(h - h.mean(0))
    expected = vectors[:4].T @ vectors[:4]
    directions = known["vectors.1"].double()
    torch.testing.assert_close(directions @ directions.T, expected, atol=1e-4, rtol=0)
    assert float(known["scale.1"]) == pytest.approx(float((values**2).sum() / 40), rel=1e-4)


def albert():
    size = {"hidden_size": 16, "embedding_size": 8, "intermediate_size": 32, "vocab_size": 40}
    return AlbertModel(AlbertConfig(num_hidden_layers=4, num_attention_heads=2, **size)).eval()


@pytest.mark.parametrize("make", [lambda: bert(num_hidden_layers=4), xlmr, albert])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_activations_are_those_of_the_whole_model_and_the_upper_layers_do_not_run(make, pooling):
    model, inputs = make(), batch(7)
    inputs["input_ids"] = inputs["input_ids"] % 40
    hidden = model(**inputs, output_hidden_states=True).hidden_states
    ran = []
    for module in model.modules():  # ALBERT's layers are one that runs four times
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(lambda *_: ran.append(1))
    model(**inputs)
    whole = len(ran)
    for n in range(1, len(hidden) - 1):
        ran.clear()
        lowest = activations(model, inputs, pooling, n)
        assert len(lowest) == n and len(ran) < whole
        for h, expected in zip(lowest, hidden[1:], strict=False):
            weights = inputs["attention_mask"].unsqueeze(-1).float()
            by_hand = (expected * weights).sum(1) / weights.sum(1)
            expected = by_hand if pooling == "mean" else expected[:, 0]
            torch.testing.assert_close(h, expected, atol=1e-6, rtol=1e-5)
    assert len(activations(model, inputs, pooling, 99)) == len(hidden) - 1
    assert model(**inputs).last_hidden_state.shape == hidden[-1].shape  # no hook is left


def test_the_loss_is_as_by_hand_and_falls_for_every_question():
    module = robust(robust_steps=8)
    tuner, inputs = RobustPrefix(module, "mean"), batch(99)
    activated = activations(module, inputs, "mean", 2)
    before = tuner.losses(activated)
    np.testing.assert_allclose(before.detach().numpy(), plain_losses(module, inputs), rtol=1e-4)
    extra = tuner._tune(inputs)
    from xqg_pyserini.models.tuning.prefix import extras, prefixes

    with extras(prefixes(module), extra):
        after = tuner.losses(activations(module, inputs, "mean", 2))
    assert (after < before * 0.95).all()
    plain = pooled(module(**inputs), inputs["attention_mask"])  # nothing is left behind
    assert (pooled(tuner(**inputs), inputs["attention_mask"]) - plain).abs().max() > 1e-3


def test_one_step_is_as_by_hand():
    module = robust(robust_steps=1, robust_layers=1)
    tuner = RobustPrefix(module, "mean")
    inputs = {name: value[:1] for name, value in batch(7).items()}
    extra = tuner._tune(inputs)
    # from the same question alone: the slope by the prefix itself, since the extra one is added
    own = [p for p in module.modules() if type(p).__name__ == "Prefix"]
    parts = [t.requires_grad_() for prefix in own for t in (prefix.keys, prefix.values)]
    loss = tuner.losses(activations(module, inputs, "mean", 1)).sum()
    slopes = torch.autograd.grad(loss, parts, allow_unused=True)
    assert slopes[2] is None  # the second layer's prefix comes after what is looked at
    steep = sum(float((g**2).sum()) for g in slopes if g is not None) ** 0.5
    length = sum(float((p.detach() ** 2).sum()) for p in parts) ** 0.5
    step = 0.5 * min(float(loss.detach()) / steep, length) / steep
    torch.testing.assert_close(extra[0][0, 0], -step * slopes[0], atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(extra[0][0, 1], -step * slopes[1], atol=1e-6, rtol=1e-3)
    assert not extra[1].any()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_question_depends_neither_on_the_others_nor_on_padding(pooling):
    module = robust(pooling=pooling, robust_lr=0.1)
    tuner, inputs = RobustPrefix(module, pooling), batch(99)
    together = tuner(**inputs).last_hidden_state
    for i in range(len(together)):
        n = int(inputs["attention_mask"][i].sum())
        alone = tuner(**{k: v[i : i + 1, :n] for k, v in inputs.items()}).last_hidden_state
        torch.testing.assert_close(alone[0], together[i, :n], atol=2e-5, rtol=1e-4)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = tuner(**{k: v[order] for k, v in inputs.items()}).last_hidden_state
    torch.testing.assert_close(mixed, together[order], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(tuner(**inputs).last_hidden_state, together, atol=0, rtol=0)


def test_too_few_well_answered_questions_are_refused():
    module = tune(bert(), TuningSettings("robust-prefix", virtual_tokens=3), 5)
    assert "0 training questions" in message(collect_statistics, module, [], "mean")
    one = {name: value[:1] for name, value in batch(7).items()}
    assert "1 training questions" in message(collect_statistics, module, [one], "mean")
    assert "no activations" in message(RobustPrefix, module, "mean")


def test_statistics_are_stored_and_a_damaged_file_is_refused(tmp_path):
    module = robust()
    save_adapter(module, tmp_path / "a", "base", "f00", None)
    loaded = load_adapter(bert(), tmp_path / "a", "f00").eval()
    inputs = batch(99)
    torch.testing.assert_close(
        RobustPrefix(loaded, "mean")(**inputs).last_hidden_state,
        RobustPrefix(module, "mean")(**inputs).last_hidden_state,
    )
    (tmp_path / "a" / "xqg_statistics.safetensors").unlink()
    assert "missing" in message(load_adapter, bert(), tmp_path / "a", "f00")


def test_the_engine_tunes_questions_and_leaves_passages(tmp_path):
    base = make_model(tmp_path / "base")
    model = AutoModel.from_pretrained(base)
    module = robust(model, robust_steps=4)
    fingerprint = folder_fingerprint(base)
    said = {"pooling": "mean", "normalize": True, "query_length": 16}
    said |= {"query_prefix": "q : ", "passage_prefix": "q : "}
    save_adapter(module, tmp_path / "a", str(base), fingerprint, said)
    vectors = {}
    for size in (1, 8):
        encoder = Encoder(tmp_path / "a", device="cpu", batch_size=size)
        vectors["query", size] = encoder.encode_queries(TEXTS)
        vectors["passage", size] = encoder.encode_passages(TEXTS)
    for role in ("query", "passage"):
        np.testing.assert_allclose(vectors[role, 1], vectors[role, 8], atol=2e-5)
    assert np.abs(vectors["query", 8] - vectors["passage", 8]).max() > 1e-3
    half = Encoder(tmp_path / "a", device="cpu", precision="bf16")
    assert "in fp32; choose that precision" in message(half.encode_queries, TEXTS)
    half.encode_passages(TEXTS)
