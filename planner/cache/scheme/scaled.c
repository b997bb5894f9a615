/* scaled - 8-bit codes and one fp32 scale a token and head, for K and for V: 8 + 32 /
 * head_dim bits an element. */
#include "planner/cache/storage.h"

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    (void)lay;
    (void)r;
    (void)value;
    *out = format_plain(use->name, 1);
    out->head_bytes = 4;
    out->dequant_flop = 1;
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"int8_per_token_head", "fp8_per_token_head", NULL};

const struct scheme scheme_scaled = {
    .names = names,
    .summary = "8 bits an element, an fp32 scale a token and head",
    .source = "vllm-project/vllm@001cabc kv_cache_interface.py",
    .axis = AXIS_STORAGE,
    .apply = apply,
    .confidence = "secondary",
};
