#!/usr/bin/env bash
# transformers makes a tokenizer of a folder that has no file of a tokenizer, and every text becomes the same tokens.
#
# Versions: transformers 5.24.0, tokenizers 0.23.3.
# Expected: AutoTokenizer.from_pretrained refuses a folder without a vocabulary, as from_pretrained of a model refuses one
#   without weights.
# Seen: with CLIP's config.json alone it returns a CLIPTokenizer of two special tokens, without a warning. "cat" and "dog"
#   are the same row of unknown tokens, so a zero-shot tagger gives both the same score. Those of BERT, RoBERTa and T5 do
#   likewise; GPT-2's gives no token at all. It happens where a model was saved without its processor, or where a
#   download left the vocabulary out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  transformers==5.24.0 tokenizers==0.23.3
cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python - 2> told.txt <<'PY'
import pathlib

from transformers import AutoTokenizer

folder = pathlib.Path("folder")
folder.mkdir()
found = {}
for kind in ("clip", "bert", "roberta", "t5", "gpt2"):
    (folder / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    cat, dog = tokenizer(["cat", "dog"])["input_ids"]
    print(f"{type(tokenizer).__name__}, {len(tokenizer)} tokens: cat {cat}, dog {dog}")
    found[kind] = cat == dog
assert all(found.values()), found
PY
# The library says at import that PyTorch is not installed, which is no warning of this.
if grep -v "PyTorch was not found" told.txt; then
  echo "it warns now" >&2
  exit 1
fi
