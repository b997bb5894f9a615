/* turboquant - vLLM's presets: a slot a token and head with K and V packed, rounded up to an
 * even number of bytes. On models whose layers all attend, the first and last two stay in 16
 * bits. */
#include <string.h>

#include "planner/cache/storage.h"

struct params {
    uint64_t skip_layers;
};

static const struct field fields[] = {
    FIELD(struct params, skip_layers, "skip_layers", F_U64, 0, 4096, "2",
          "layers at either end that stay in 16 bits (not on hybrid models)"),
};

static const struct preset {
    const char *name;
    uint32_t k_bits, k_bytes, v_bits,
        v_bytes; /* bits an element, bytes of norms and scales a head */
} presets[] = {
    {"turboquant_k8v4", 8, 0, 4, 4},
    {"turboquant_4bit_nc", 4, 2, 4, 4},
    {"turboquant_k3v4_nc", 3, 2, 4, 4},
    {"turboquant_3bit_nc", 3, 2, 3, 4},
};

static bool skipped(const struct layout *lay, uint32_t layer, uint64_t n)
{
    return layout_attention_layers(lay) == lay->n_layers &&
           (layer < n || layer + n >= lay->n_layers);
}

static uint32_t packed(uint32_t dim, uint32_t bits, uint32_t more)
{
    return (uint32_t)(((uint64_t)dim * bits + 7) / 8) + more;
}

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    const struct params *p = use->params;
    const struct preset *s = presets;

    while (strcmp(s->name, use->name) != 0)
        s++;
    if (skipped(lay, r->layer, p->skip_layers))
        return false;
    uint32_t k = packed(r->k_dim, s->k_bits, s->k_bytes);
    uint32_t v = packed(r->v_dim, s->v_bits, s->v_bytes);
    *out = (struct format){
        .name = use->name,
        .block_elems = storage_dim(r, value), /* the packed head is one block */
        .block_bytes = value ? v + (k + v) % 2 : k,
        .full_bytes = 2,
        .dequant_flop = 2,
    };
    return out->block_elems != 0;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    if (!storage_both_sides(use, d))
        return false;
    for (uint32_t i = 0; i < lay->n_rows; i++) {
        const struct cache_row *r = &lay->rows[i];
        if (r->stream == STREAM_LATENT)
            return diag_add(d, DIAG_INPUT, use->at,
                            "%s packs K and V heads; layer %u keeps a latent", use->name,
                            r->layer + 1);
        if (r->k_narrow_dim)
            return diag_add(d, DIAG_INPUT, use->at,
                            "%s cannot store keys of two widths (layer %u, think)", use->name,
                            r->layer + 1);
    }
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"turboquant_k8v4", "turboquant_4bit_nc",
                                    "turboquant_k3v4_nc", "turboquant_3bit_nc", NULL};

const struct scheme scheme_turboquant = {
    .names = names,
    .summary = "3 to 8 bits in packed slots; the outer layers in 16",
    .source = "vllm-project/vllm@1471680 turboquant/config.py",
    .axis = AXIS_STORAGE,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "secondary",
};
