"""An untrained query generator out of a multilingual encoder: docs/studies/generator.md.

Encoder and decoder begin with the encoder's weights; the cross-attention between them is new, and so is what stands
before the output embeddings (Rothe et al. 2020, arXiv 1907.12461).  With --texts, only the pieces of the vocabulary
that these files use are kept: the softmax over 250,000 pieces is a good part of a small model's work.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, EncoderDecoderModel
from transformers.utils import logging


def make_generator(encoder: str, output: Path, decoder_layers: int | None, texts: Sequence[Path], seed: int) -> None:
    """Write the encoder-decoder's folder; the decoder has the encoder's first layers."""
    logging.set_verbosity_error()  # it lists the new weights, which are meant to be new
    torch.manual_seed(seed)
    parts = {} if decoder_layers is None else {"decoder_num_hidden_layers": decoder_layers}
    model = EncoderDecoderModel.from_encoder_decoder_pretrained(encoder, encoder, **parts)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id = tokenizer.bos_token_id
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    model.config.architectures = ["EncoderDecoderModel"]
    tokenizer.save_pretrained(output)
    if texts:
        keep = keep_pieces(output / "tokenizer.json", tokenizer, texts)
        for part in (model.encoder, model.decoder):
            rows = part.get_input_embeddings().weight.data[keep].clone()
            part.resize_token_embeddings(len(keep), mean_resizing=False)
            part.get_input_embeddings().weight.data.copy_(rows)
    model.save_pretrained(output)


def keep_pieces(path: Path, tokenizer: Any, texts: Sequence[Path]) -> list[int]:
    """Leave the pieces that the texts use in a Unigram tokenizer's file; return their old ids."""
    file = json.loads(path.read_text("utf-8"))
    vocabulary = file["model"]["vocab"]
    used = {token["id"] for token in file["added_tokens"]}
    characters = {c for text in texts for c in text.read_text("utf-8")}
    used.update(i for i, (piece, _) in enumerate(vocabulary) if piece in characters)
    for text in texts:
        for line in text.open(encoding="utf-8"):
            for value in strings(json.loads(line)):
                used.update(tokenizer(value)["input_ids"])
    keep = sorted(i for i in used if i < len(vocabulary))
    places = {old: new for new, old in enumerate(keep)}
    file["model"]["vocab"] = [vocabulary[i] for i in keep]
    file["model"]["unk_id"] = places[file["model"]["unk_id"]]
    added = [token for token in file["added_tokens"] if token["id"] in places]
    file["added_tokens"] = [{**token, "id": places[token["id"]]} for token in added]
    path.write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")
    return keep


def strings(value: object) -> list[str]:
    """Return the texts in a JSON value."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in strings(part)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", help="folder or name of a BERT-like multilingual encoder")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--decoder-layers", type=int, help="default: as many as the encoder's")
    parser.add_argument("--texts", type=Path, nargs="+", default=[], help="JSON Lines to write in")
    parser.add_argument("--seed", type=int, default=1, help="of the new weights")
    make_generator(**vars(parser.parse_args()))
