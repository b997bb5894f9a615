/* Setting formats, shared by the storage schemes. */
#include "planner/cache/storage.h"

#include <string.h>

uint32_t storage_dim(const struct cache_row *r, bool value)
{
    return value ? r->v_dim : r->k_dim;
}

struct format storage_grouped(const char *name, uint32_t bits, uint32_t group,
                              uint32_t scale_bytes, uint32_t dim)
{
    uint32_t groups = group ? dim / group + (dim % group != 0) : 1;

    /* eight codes are a whole number of bytes; a byte holds 8 / bits of them where that
     * divides */
    return (struct format){
        .name = name,
        .block_elems = 8 % bits ? 8 : 8 / bits,
        .block_bytes = 8 % bits ? bits : 1,
        .head_bytes = groups * scale_bytes,
        .full_bytes = 2,
        .dequant_flop = 2,
    };
}

bool storage_both_sides(const struct scheme_use *use, struct diag *d)
{
    if (use->sides == (STORE_K | STORE_V))
        return true;
    return diag_add(d, DIAG_INPUT, use->at,
                    "%s stores K and V together: ask for it with cache.format, not with k or v",
                    use->name);
}

static bool takes(const struct cache_row *r, const struct format *f)
{
    return !r->k_narrow_dim || (f->residual == RESIDUAL_NONE && !f->token_group);
}

/* "q8_0", or "q8_0/q4_0" where K and V differ. */
static const char *storage_name(const struct scheme_use *use, const struct layout *lay)
{
    for (uint32_t i = 0; i < lay->n_rows; i++) {
        const struct cache_row *r = &lay->rows[i];
        if (r->stream == STREAM_KV && strcmp(r->k_format.name, r->v_format.name) != 0)
            return arena_printf(lay->arena, "%s/%s", r->k_format.name, r->v_format.name);
    }
    return use->name;
}

bool storage_set(const struct scheme_use *use, struct layout *lay, storage_fn format,
                 struct diag *d)
{
    bool values = false, latents = false;

    for (uint32_t i = 0; i < lay->n_rows; i++) {
        struct cache_row *r = &lay->rows[i];
        struct format f = {0};
        if (r->stream != STREAM_KV && r->stream != STREAM_LATENT)
            continue;
        latents |= r->stream == STREAM_LATENT;
        values |= r->v_dim != 0;
        if ((use->sides & STORE_K) && format(use, lay, r, false, &f)) {
            if (!takes(r, &f))
                return diag_add(d, DIAG_INPUT, use->at,
                                "%s cannot store keys of two widths (layer %u, think)",
                                use->name, r->layer + 1);
            r->k_format = f;
        }
        if ((use->sides & STORE_V) && format(use, lay, r, true, &f))
            r->v_format = f;
    }
    if (use->sides == STORE_V && latents && !values)
        diag_add(d, DIAG_WARN, use->at,
                 "%s for v changes nothing: latents (MLA) have no values of their own",
                 use->name);
    lay->storage = storage_name(use, lay);
    lay->at = use->at;
    return true;
}
