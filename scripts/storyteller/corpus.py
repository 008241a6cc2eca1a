"""Training data: numbered shards of token ids, each a pure function of (seed, voice, number), made by worker processes."""

import multiprocessing as mp
import os
import random

import numpy as np
from tokenizers import Tokenizer

from .chats import conversation
from .tokens import Encoder

BATCH = 200  # conversations tokenised in one call
_ENCODER = None


def texts(voice, seed, count, held=False):
    rng = random.Random(f"{seed}/{voice}/{held}")
    return [conversation(voice, rng, held) for _ in range(count)]


def make_shard(voice, seed, number, tokens, held, encoder):
    """One shard: whole conversations one after the other, cut at `tokens` ids."""
    rng = random.Random(f"{seed}/{voice}/{number}/{held}")
    ids = []
    while len(ids) < tokens:
        for row in encoder.encode([conversation(voice, rng, held) for _ in range(BATCH)]):
            ids += row
    return np.array(ids[:tokens], dtype=np.uint16)


def _start(tokenizer_json):
    global _ENCODER
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _ENCODER = Encoder(Tokenizer.from_str(tokenizer_json))


def _work(job):
    return make_shard(*job, _ENCODER)


class Corpus:
    """Shards in their order, made ahead by a pool of processes."""

    def __init__(self, tokenizer, seed, shard_tokens, workers):
        self.seed, self.shard_tokens = seed, shard_tokens
        self.pool = mp.get_context("spawn").Pool(workers, _start, (tokenizer.to_str(),))

    def order(self, voice, count, held=False):
        """Start making `count` shards; yields them as int32 arrays in order."""
        jobs = [(voice, self.seed, n, self.shard_tokens, held) for n in range(count)]
        results = [self.pool.apply_async(_work, (job,)) for job in jobs]
        return (r.get().astype(np.int32) for r in results)

    def close(self):
        self.pool.terminate()
