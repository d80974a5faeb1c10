"""An untrained query generator out of a multilingual encoder: docs/studies/generator.md.

Encoder and decoder begin with the encoder's weights; the cross-attention between them is new, and
so is what stands before the output embeddings (Rothe et al. 2020, arXiv 1907.12461).

    python docs/studies/make_generator.py ENCODER OUTPUT [--decoder-layers N]
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, EncoderDecoderModel
from transformers.utils import logging


def make_generator(encoder: str, output: Path, decoder_layers: int | None, seed: int) -> None:
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
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", help="folder or name of a BERT-like multilingual encoder")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--decoder-layers", type=int, help="default: as many as the encoder's")
    parser.add_argument("--seed", type=int, default=1, help="of the new weights")
    arguments = parser.parse_args()
    make_generator(
        arguments.encoder, arguments.output, arguments.decoder_layers, arguments.seed
    )
