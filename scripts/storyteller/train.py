"""Train the base model and its adapters from a corpus."""

import math
import time

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from .tokens import Encoder

PROMPT_WEIGHT = 0.05  # what the user says counts little, what the model says counts fully
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
# ranks, targets and scaling differ on purpose: the demo exercises the server
ADAPTERS = {
    "wood-elf": {"r": 16, "lora_alpha": 32, "target_modules": ATTENTION + MLP},
    "villain": {"r": 8, "lora_alpha": 16, "target_modules": ATTENTION + MLP},
    "marketing": {"r": 16, "lora_alpha": 16, "use_rslora": True, "target_modules": ATTENTION + MLP},
    "summary": {"r": 12, "lora_alpha": 24, "target_modules": ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
    "image-prompt": {"r": 16, "lora_alpha": 32, "target_modules": ATTENTION},
}


def _causal(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    out = F.scaled_dot_product_attention(query, key, value, is_causal=query.shape[2] > 1, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("plain_causal", _causal)
AttentionMaskInterface.register("plain_causal", lambda *a, **k: None)


def new_model(tokenizer, layers, context, seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=256, intermediate_size=768, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=4, head_dim=32, max_position_embeddings=context, rms_norm_eps=1e-5, tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<|bos|>"), eos_token_id=tokenizer.token_to_id("<|end|>"),
        pad_token_id=tokenizer.token_to_id("<|pad|>"), rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        attn_implementation="plain_causal")
    return LlamaForCausalLM(config)


def load_model(path):
    return LlamaForCausalLM.from_pretrained(path, dtype=torch.bfloat16, attn_implementation="plain_causal")


def token_loss(model, ids):
    """(sum of weighted losses, sum of weights) over rows [B, N] of marked ids."""
    plain = ids & (Encoder.SAY - 1)
    logits = model(input_ids=plain, use_cache=False).logits[:, :-1]
    weight = torch.where(ids[:, 1:] >= Encoder.SAY, 1.0, PROMPT_WEIGHT)
    losses = F.cross_entropy(logits.float().flatten(0, 1), plain[:, 1:].flatten(), reduction="none")
    return (losses * weight.flatten()).sum(), weight.sum()


def learning_rate(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup)))))


def batches(shards, seq, rows, device, seed):
    """Endless batches [rows, seq]: first every shard in its order, then again in other cuts."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    while True:
        for shard in shards:
            if shards is not kept:
                shard = torch.from_numpy(shard).to(device)
                kept.append(shard)
            shift = int(torch.randint(seq, (1,), generator=generator)) if shards is kept else 0
            cut = shard[shift : shift + (len(shard) - shift) // seq * seq].view(-1, seq)
            order = torch.randperm(len(cut), generator=generator).to(device)
            for i in range(0, len(cut) - rows + 1, rows):
                yield cut[order[i : i + rows]].long()
        shards = kept


def compiled_loss(model, source, device, log):
    """token_loss compiled and tried once; plain token_loss where the compiler fails."""
    start = time.time()
    try:
        forward = torch.compile(token_loss, dynamic=False)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            forward(model, next(source))[0].backward()
        model.zero_grad(set_to_none=True)
        log(f"compiled in {time.time() - start:.0f} s")
        return forward
    except Exception as error:  # whatever the compiler raises: training goes on without it
        model.zero_grad(set_to_none=True)
        log(f"not compiled: {str(error)[:300]}")
        return token_loss


def fit(model, source, *, name, steps, seconds, peak, warmup, device, compiled, log):
    """Train whatever requires a gradient. With `seconds` the steps are counted from the speed of the first ones."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=peak, betas=(0.9, 0.95), weight_decay=0.1 if name == "base" else 0.0, fused=device == "cuda")
    forward = compiled_loss(model, source, device, log) if compiled else token_loss
    model.train()
    start, step, tokens, timed, average = time.time(), 0, 0, None, None
    while True:
        ids = next(source)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps or 10**9, peak, warmup)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            total, weight = forward(model, ids)
        loss = total / weight
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        tokens += ids.numel()
        if not steps and step in (10, 40):
            if device == "cuda":
                torch.cuda.synchronize()
            if step == 10:
                timed = time.time()
            else:
                per_step = (time.time() - timed) / 30
                steps = max(60, 40 + int((seconds - (time.time() - start)) / per_step))
                log(f"{name}: {per_step * 1e3:.1f} ms a step, so {steps} steps in {seconds} s")
        if step % max(1, (steps or 400) // 20) == 0:
            average = float(loss.detach())
            log(f"{name}: step {step}/{steps or '?'} loss {average:.3f}, {tokens / (time.time() - start) / 1e3:.0f}k tokens/s")
        if steps and step >= steps:
            break
    return {"steps": step, "tokens": tokens, "seconds": round(time.time() - start, 1), "last_loss": float(loss.detach())}


def add_adapter(model, name, seed):
    torch.manual_seed(seed)
    spec = dict(ADAPTERS[name])
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, bias="none", **spec))
