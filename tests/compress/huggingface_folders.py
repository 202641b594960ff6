"""Small models in folders as transformers' own save_pretrained writes them."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch

NAMES = ("bars", "other", "circle", "blue", "green", "red")
SIZE = 32


def named(names: tuple[str, ...] = NAMES) -> dict:
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def classifier(folder: Path, kind: str = "resnet", **config) -> torch.nn.Module:
    """A random image classifier of `NAMES`, and its image processor."""
    import transformers as tf

    torch.manual_seed(0)
    given = {**named(), "problem_type": "multi_label_classification", **config}
    if kind == "resnet":
        shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
        model = tf.ResNetForImageClassification(tf.ResNetConfig(**shape, **given))
        processor = tf.ConvNextImageProcessor(
            size={"shortest_edge": SIZE}, crop_pct=0.875, image_mean=[0.485, 0.456, 0.406], image_std=[0.2, 0.3, 0.4]
        )
    elif kind == "swin":
        shape = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
        model = tf.SwinForImageClassification(tf.SwinConfig(image_size=SIZE, patch_size=4, **shape, **given))
        processor = tf.ViTImageProcessor(size={"height": SIZE, "width": SIZE})
    else:
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        model = tf.ViTForImageClassification(tf.ViTConfig(image_size=SIZE, patch_size=8, **shape, **given))
        processor = tf.ViTImageProcessor(size={"height": SIZE, "width": SIZE})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval()


def pair(folder: Path) -> torch.nn.Module:
    """A random CLIP with a tokenizer that knows letters alone."""
    import transformers as tf

    torch.manual_seed(0)
    words = ["<|startoftext|>", "<|endoftext|>", *string.ascii_lowercase]
    vocabulary = {word: number for number, word in enumerate([*words, *(f"{one}</w>" for one in words[2:])])}
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    model = tf.CLIPModel(
        tf.CLIPConfig(
            text_config={**shape, **ends, "vocab_size": len(vocabulary)},
            vision_config={**shape, "image_size": SIZE, "patch_size": 8},
            projection_dim=8,
        )
    )
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tf.CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    tf.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}).save_pretrained(
        folder
    )
    return model.eval()
