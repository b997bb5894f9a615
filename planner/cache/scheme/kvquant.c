/* kvquant - dense codes of 2 to 4 bits, 42 outliers a token for K and for V (an fp32 value
 * and an int32 index each), and a lookup table of 2^bits fp32 a token for V. The number of
 * outliers is fixed in the code. */
#include "planner/cache/storage.h"

enum { OUTLIERS = 42, OUTLIER_BYTES = 8, PACK = 32, WORD_BYTES = 4 };

struct params {
    uint64_t first_few_fp16;
};

static const struct field fields[] = {
    FIELD(struct params, first_few_fp16, "first_few_fp16", F_TOKENS, 0, 0xffffffff, "0",
          "first tokens that stay in 16 bits"),
};

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    const struct params *p = use->params;
    uint32_t bits = (uint32_t)(use->name[sizeof "kvquant" - 1] - '0');

    (void)lay;
    (void)r;
    *out = (struct format){
        .name = use->name,
        .block_elems = PACK,
        .block_bytes = bits * WORD_BYTES,
        .token_bytes = OUTLIERS * OUTLIER_BYTES + (value ? (uint32_t)WORD_BYTES << bits : 0u),
        .residual = p->first_few_fp16 ? RESIDUAL_FIRST : RESIDUAL_NONE,
        .residual_tokens = (uint32_t)p->first_few_fp16,
        .full_bytes = 2,
        .dequant_flop = 2,
    };
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"kvquant2", "kvquant3", "kvquant4", NULL};

const struct scheme scheme_kvquant = {
    .names = names,
    .summary = "2 to 4 bits, with outliers kept apart",
    .source = "arXiv:2401.18079; SqueezeAILab/KVQuant@57a2383 modeling_llama.py (deployment)",
    .axis = AXIS_STORAGE,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "primary",
    .caveat = "KVQuant's release allocates the cache for the longest sequence at the start",
};
