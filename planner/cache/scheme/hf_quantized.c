/* hf_quantized - Hugging Face's quantized cache: the prompt is quantized at once, generated
 * tokens gather in a 16-bit tail that is folded in whenever it is full. The bytes of a group
 * are the backend's (quanto, HQQ): a 16-bit scale and zero point here, which is ours. */
#include "planner/cache/storage.h"

struct params {
    uint64_t nbits, group, residual;
};

static const struct field fields[] = {
    FIELD(struct params, nbits, "nbits", F_U64, 1, 8, "4", "bits of a code"),
    FIELD(struct params, group, "group", F_U64, 1, 65536, "64",
          "elements of a head under one scale"),
    FIELD(struct params, residual, "residual", F_TOKENS, 1, 0xffffffff, "128",
          "generated tokens that gather before they are quantized"),
};

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    const struct params *p = use->params;

    (void)lay;
    *out = storage_grouped(use->name, (uint32_t)p->nbits, (uint32_t)p->group, 4,
                           storage_dim(r, value));
    out->residual = RESIDUAL_CYCLE;
    out->residual_tokens = (uint32_t)p->residual;
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"hf_quantized", NULL};

const struct scheme scheme_hf_quantized = {
    .names = names,
    .summary = "quantized prompt, 16-bit tail of generated tokens",
    .source = "huggingface/transformers@004999d cache_utils.py",
    .axis = AXIS_STORAGE,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "derived",
    .caveat = "every decode step expands a whole layer to 16 bits; that moment is not counted",
};
