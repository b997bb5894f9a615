/* ggml - llama.cpp's cache types: blocks of 32 elements over the whole row of a token, all
 * heads together. */
#include <string.h>

#include "planner/cache/storage.h"

enum { BLOCK = 32 };

static const struct type {
    const char *name;
    uint32_t bytes, flop;
} types[] = {
    {"q8_0", 34, 1}, {"q5_1", 24, 2}, {"q5_0", 22, 1},
    {"q4_1", 20, 2}, {"q4_0", 18, 1}, {"iq4_nl", 18, 1},
};

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    const struct type *t = types;

    (void)lay;
    (void)r;
    (void)value;
    while (strcmp(t->name, use->name) != 0)
        t++;
    *out = (struct format){
        .name = use->name,
        .block_elems = BLOCK,
        .block_bytes = t->bytes,
        .full_bytes = 2,
        .whole_row = true,
        .dequant_flop = t->flop,
    };
    return true;
}

static bool fits(const struct scheme_use *use, const struct cache_row *r, bool value,
                 struct diag *d)
{
    uint64_t row = (uint64_t)r->stored_heads * storage_dim(r, value);

    if (row % BLOCK == 0)
        return true;
    return diag_add(d, DIAG_INPUT, use->at,
                    "%s stores blocks of 32 elements; layer %u has rows of %llu for %s",
                    use->name, r->layer + 1, (unsigned long long)row, value ? "V" : "K");
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    bool ok = true;

    for (uint32_t i = 0; i < lay->n_rows; i++) {
        const struct cache_row *r = &lay->rows[i];
        if (r->stream != STREAM_KV && r->stream != STREAM_LATENT)
            continue;
        if (use->sides & STORE_K)
            ok = fits(use, r, false, d) && ok;
        if (use->sides & STORE_V)
            ok = fits(use, r, true, d) && ok;
    }
    return ok && storage_set(use, lay, format, d);
}

static const char *const names[] = {"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", NULL};

const struct scheme scheme_ggml = {
    .names = names,
    .summary = "llama.cpp cache types, 4.5 to 8.5 bits an element",
    .source = "ggml-common.h (block sizes); llama.cpp's list of cache types",
    .axis = AXIS_STORAGE,
    .apply = apply,
    .confidence = "primary",
};
