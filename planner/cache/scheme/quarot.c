/* quarot - 4-bit codes and a 16-bit scale and zero point a token and head, for K and for V. */
#include "planner/cache/storage.h"

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    (void)lay;
    *out = storage_grouped(use->name, 4, 0, 4, storage_dim(r, value));
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"quarot4", NULL};

const struct scheme scheme_quarot = {
    .names = names,
    .summary = "4 bits with a scale and a zero point a token and head",
    .source = "arXiv:2404.00456; spcl/QuaRot@5008669 quarot/transformers/kv_cache.py",
    .axis = AXIS_STORAGE,
    .apply = apply,
    .confidence = "primary",
};
