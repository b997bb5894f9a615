/* ds_mla - the packed latents of FlashMLA and vLLM: the latent in 8 or 4 bits with scales,
 * the rope part wider. */
#include <string.h>

#include "planner/cache/storage.h"

enum { FP8_GROUP = 128, NVFP4_GROUP = 16 };

static uint32_t groups_of(uint32_t n, uint32_t size)
{
    return n / size + (n % size != 0);
}

/* fp8: the latent in fp8, an fp32 scale for 128, the rope part in 16 bits: 512 + 16 + 128 =
 * 656. nvfp4: the latent in 4 bits, a byte for 16, the rope part in 8 bits: 256 + 32 + 64 =
 * 352. */
static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    uint32_t rank = r->k_dim - r->rope_dim;
    bool fp8 = !strcmp(use->name, "fp8_ds_mla");

    (void)lay;
    *out = (struct format){
        .name = use->name,
        .block_elems = r->k_dim, /* the packed row is one block */
        .block_bytes = fp8 ? rank + 4 * groups_of(rank, FP8_GROUP) + 2 * r->rope_dim
                           : groups_of(rank, 2) + groups_of(rank, NVFP4_GROUP) + r->rope_dim,
        .full_bytes = 2,
        .dequant_flop = 1,
    };
    return !value;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    bool ok = storage_both_sides(use, d), any = false;

    for (uint32_t i = 0; i < lay->n_rows; i++) {
        const struct cache_row *r = &lay->rows[i];
        any |= r->stream == STREAM_LATENT;
        if (r->stream == STREAM_KV)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "%s stores MLA latents; layer %u keeps K/V heads", use->name,
                          r->layer + 1);
    }
    if (ok && !any)
        ok = diag_add(d, DIAG_INPUT, use->at, "%s stores MLA latents; this model has none",
                      use->name);
    return ok && storage_set(use, lay, format, d);
}

static const char *const names[] = {"fp8_ds_mla", "nvfp4_ds_mla", NULL};

const struct scheme scheme_ds_mla = {
    .names = names,
    .summary = "packed MLA latents: 656 or 352 bytes a token for rank 512 + 64",
    .source = "deepseek-ai/FlashMLA@9241ae3 README (fp8); vLLM kv_cache_interface.py (nvfp4)",
    .axis = AXIS_STORAGE,
    .apply = apply,
    .confidence = "primary",
};
