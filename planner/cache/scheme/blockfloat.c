/* blockfloat - 4-bit floats with an 8-bit scale a block: nvfp4 has 16 elements a block,
 * mxfp4 has 32. */
#include <string.h>

#include "planner/cache/storage.h"

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    uint32_t elems = strcmp(use->name, "nvfp4") ? 32 : 16;

    (void)lay;
    (void)r;
    (void)value;
    *out = (struct format){
        .name = use->name,
        .block_elems = elems,
        .block_bytes = elems / 2 + 1,
        .full_bytes = 2,
        .dequant_flop = 1,
    };
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"nvfp4", "mxfp4", NULL};

const struct scheme scheme_blockfloat = {
    .names = names,
    .summary = "4-bit floats with a scale a block of 16 (nvfp4) or 32 (mxfp4)",
    .source = "vLLM kv_cache_interface.py (nvfp4); OCP Microscaling 1.0 (mxfp4)",
    .axis = AXIS_STORAGE,
    .apply = apply,
    .confidence = "secondary",
};
