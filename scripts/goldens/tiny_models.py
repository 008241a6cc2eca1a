"""Tiny random Hugging Face models, one per family, written as a user would find them on disk."""

import json
import math
import os
import zlib

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config
from transformers import LlamaConfig, MistralConfig

from . import chats, tiny_tokenizers

VOCAB = 512


def rng(seed, name):
    """A generator of its own for every tensor, so that adding one tensor leaves the others alone."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


class Arch:
    """One tiny model: dims, the config.json that is written, and how its files are laid out."""

    def __init__(self, name, seed, dtype, shards, tokenizer, template, template_in_config, config, generation):
        self.name, self.seed, self.dtype, self.shards = name, seed, dtype, shards
        self.tokenizer, self.template, self.template_in_config = tokenizer, template, template_in_config
        self.config, self.generation = config, generation


def llama():
    # Older keys (rope_theta, rope_scaling, torch_dtype), tied head, GQA 4:2, a list of eos ids. The original
    # context of 64 puts the llama3 frequency bands inside the prompts' length.
    config = {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 506, "eos_token_id": [507, 510, 511], "hidden_act": "silu", "hidden_size": 64,
        "initializer_range": 0.02, "intermediate_size": 128, "max_position_embeddings": 512, "mlp_bias": False,
        "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 64, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0", "use_cache": True, "vocab_size": VOCAB,
    }  # fmt: skip
    generation = {"bos_token_id": 506, "do_sample": True, "eos_token_id": [507, 510, 511], "temperature": 0.6,
                  "top_p": 0.9, "transformers_version": "4.45.0"}  # fmt: skip
    return Arch("llama", 11, torch.bfloat16, 1, tiny_tokenizers.llama(VOCAB), chats.LLAMA3_TEMPLATE, True, config,
                generation)  # fmt: skip


def mistral():
    # head_dim 32 where hidden / heads is 16; own head matrix; f16.
    config = {
        "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "head_dim": 32, "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02,
        "intermediate_size": 128, "max_position_embeddings": 512, "model_type": "mistral", "num_attention_heads": 4,
        "num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
        "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "float16",
        "transformers_version": "4.42.0", "use_cache": True, "vocab_size": VOCAB,
    }  # fmt: skip
    generation = {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2,
                  "transformers_version": "4.42.0"}  # fmt: skip
    return Arch("mistral", 12, torch.float16, 1, tiny_tokenizers.mistral(VOCAB), chats.MISTRAL_TEMPLATE, True, config,
                generation)  # fmt: skip


def qwen2():
    # q/k/v bias, one kv head, widths that are no powers of two, own head matrix, f32 in three shards, and 12 rows of
    # vocabulary that no token has.
    config = {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 509, "eos_token_id": 511,
        "hidden_act": "silu", "hidden_size": 80, "initializer_range": 0.02, "intermediate_size": 136,
        "max_position_embeddings": 512, "max_window_layers": 2, "model_type": "qwen2", "num_attention_heads": 5,
        "num_hidden_layers": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 512, "tie_word_embeddings": False, "torch_dtype": "float32",
        "transformers_version": "4.43.1", "use_cache": True, "use_sliding_window": False, "vocab_size": VOCAB + 12,
    }  # fmt: skip
    generation = {"bos_token_id": 509, "do_sample": True, "eos_token_id": [511, 509], "pad_token_id": 509,
                  "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
                  "transformers_version": "4.37.0"}  # fmt: skip
    return Arch("qwen2", 13, torch.float32, 3, tiny_tokenizers.qwen(VOCAB, thinking=False), chats.QWEN2_TEMPLATE,
                True, config, generation)  # fmt: skip


def qwen3():
    # The newer keys (rope_parameters, dtype, layer_types) as the installed transformers writes them; q/k norms;
    # head_dim 32 on one kv head; tied head; template in chat_template.jinja.
    config = Qwen3Config(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=512, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, bos_token_id=507, eos_token_id=509,
        dtype="bfloat16", architectures=["Qwen3ForCausalLM"],
    ).to_diff_dict()  # fmt: skip
    generation = {"bos_token_id": 507, "do_sample": True, "eos_token_id": [509, 507], "pad_token_id": 507,
                  "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "5.0.0"}  # fmt: skip
    return Arch("qwen3", 14, torch.bfloat16, 1, tiny_tokenizers.qwen(VOCAB, thinking=True), chats.QWEN3_TEMPLATE,
                False, config, generation)  # fmt: skip


ALL = [llama, mistral, qwen2, qwen3]
CONFIGS = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}


def tensor_std(name, shape):
    """Widths that spread the logits (about 5 standard deviations) and keep the greedy walk from repeating itself."""
    fan_in = shape[-1]
    gains = {"q_proj": 1.3, "k_proj": 1.3, "v_proj": 1.5, "o_proj": 3.0, "gate_proj": 1.5, "up_proj": 1.5,
             "down_proj": 3.0, "lm_head": 5.0}  # fmt: skip
    for site, gain in gains.items():
        if site in name:
            return gain / math.sqrt(fan_in)
    return 0.6  # the embedding


def random_weights(arch, model):
    weights = {}
    for name, param in sorted(model.state_dict().items()):
        if name == "lm_head.weight" and arch.config["tie_word_embeddings"]:
            continue
        gen, shape = rng(arch.seed, name), tuple(param.shape)
        if name.endswith("norm.weight"):
            value = 1.0 + 0.25 * gen.standard_normal(shape)
        elif name.endswith(".bias"):
            value = 0.5 * gen.standard_normal(shape)
        else:
            value = tensor_std(name, shape) * gen.standard_normal(shape)
        weights[name] = torch.from_numpy(value.astype(np.float32)).to(arch.dtype).contiguous()
    return weights


def write_weights(arch, weights, folder):
    if arch.shards == 1:
        save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        return
    total = sum(t.numel() * t.element_size() for t in weights.values())
    shards, used = [{}], 0
    for name, tensor in weights.items():
        if used >= total / arch.shards and len(shards) < arch.shards:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.numel() * tensor.element_size()
    index = {"metadata": {"total_size": total}, "weight_map": {}}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, os.path.join(folder, file), metadata={"format": "pt"})
        index["weight_map"].update({name: file for name in sorted(shard)})
    index["weight_map"] = dict(sorted(index["weight_map"].items()))
    write_json(os.path.join(folder, "model.safetensors.index.json"), index)


def write_json(path, data):
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_text(path, text):
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write(text)


def write_model(arch, folder):
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, "config.json"), arch.config)
    write_json(os.path.join(folder, "generation_config.json"), arch.generation)
    tok, tok_config, merges_as_strings = arch.tokenizer
    if tok.get_vocab_size() != VOCAB:
        raise SystemExit(f"{arch.name}: tokenizer has {tok.get_vocab_size()} tokens, not {VOCAB}")
    write_text(os.path.join(folder, "tokenizer.json"), tiny_tokenizers.to_json(tok, merges_as_strings))
    tok_config = dict(tok_config)
    if arch.template_in_config:
        tok_config["chat_template"] = arch.template
    else:
        write_text(os.path.join(folder, "chat_template.jinja"), arch.template)
    write_json(os.path.join(folder, "tokenizer_config.json"), tok_config)
    config = CONFIGS[arch.name].from_dict(arch.config)
    with torch.device("meta"):
        shape_model = AutoModelForCausalLM.from_config(config)
    write_weights(arch, random_weights(arch, shape_model), folder)


def load_reference(folder):
    """The stored weights, upcast to float32: what every golden is computed with."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.eval()
