"""Sampled problems with the teacher's answers, in memory or in shards."""

from trc_lib.data.dataset import EVAL_SEED, LQRDataset, generate_dataset
from trc_lib.data.sampling import Sampler, sample_states
from trc_lib.data.shards import Store

__all__ = ["EVAL_SEED", "LQRDataset", "Sampler", "Store", "generate_dataset", "sample_states"]
