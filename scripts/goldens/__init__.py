"""Parts of scripts/make_goldens.py and scripts/make_tokenizer_goldens.py."""
