/* Model types that are known and refused, each with what is in the way. Better no answer than a
 * wrong one. */
#include "planner/model/family.h"

static const char *const types[] = {
    "deepseek_v4", "minimax_m3", "kimi_k3", "step3p7", "step3p5", "rwkv",
    "rwkv7",       "bert",       "t5",      "whisper", "mllama",  NULL,
};

static const char *const reasons[] = {
    "its layers compress the sequence (compressed sparse attention, compress_ratios); no layer kind here does",
    "its sparse attention keeps block indexes beside K/V; no layer kind here does",
    "its latent experts and mixed KDA/MLA layers have no published formula",
    "its layers mix head counts in a way that no published formula confirms",
    "its layers mix head counts in a way that no published formula confirms",
    "its layers are RWKV time mixing; no layer kind here is",
    "its layers are RWKV time mixing; no layer kind here is",
    "it is an encoder: it has no K/V cache",
    "it is an encoder-decoder: its cross attention is not modelled",
    "it is an encoder-decoder: its cross attention is not modelled",
    "its layers attend across to image tokens; cross attention is not modelled",
};

const struct family family_unsupported = {
    .name = "unsupported",
    .model_types = types,
    .summary = "known types that are refused with the reason",
    .source = "tests/data/models.csv, rows without a formula",
    .refuses = reasons,
};
