/* mha, gqa, mqa - another number of K/V heads in every layer; the model's own sharing stays.
 * Laid on a checkpoint it is another model: it needs training. */
#include <string.h>

#include "planner/cache/scheme.h"

struct params {
    uint64_t kv_heads;
};

static const struct field fields[] = {
    FIELD(struct params, kv_heads, "kv_heads", F_U64, 0, 65536, NULL,
          "gqa: K/V heads of every layer"),
};

static uint64_t heads_for(const struct scheme_use *use, const struct attention *a)
{
    const struct params *p = use->params;

    if (!strcmp(use->name, "mha"))
        return a->heads;
    return strcmp(use->name, "mqa") ? p->kv_heads : 1;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    bool gqa = !strcmp(use->name, "gqa"), ok = true;

    if (gqa && !p->kv_heads)
        return diag_add(d, DIAG_INPUT, use->at, "gqa needs kv_heads");
    if (!gqa && p->kv_heads)
        return diag_add(d, DIAG_INPUT, use->at, "%s fixes kv_heads; use gqa to choose them",
                        use->name);
    if (!layout_attention_layers(lay))
        return diag_add(d, DIAG_INPUT, use->at,
                        "%s sets K/V heads, but no layer of this model has attention",
                        use->name);
    for (uint32_t i = 0; i < lay->n_layers; i++) {
        struct attention *a = &lay->layers[i].attn;
        uint64_t heads = heads_for(use, a);
        if (a->mixer == MIXER_NONE)
            continue;
        if (a->mixer == MIXER_LATENT)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "%s: layer %u keeps a latent, which has no heads", use->name, i + 1);
        else if (heads > a->heads || a->heads % heads)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "%s: %llu K/V heads do not divide the %u heads of layer %u",
                          use->name, (unsigned long long)heads, a->heads, i + 1);
        else if (heads != a->kv_heads) {
            a->kv_heads = (uint32_t)heads;
            lay->retrofit = true;
        }
    }
    lay->sharing = use->name;
    lay->at = use->at;
    return ok && layout_rebuild(lay, d);
}

static const char *const names[] = {"mha", "gqa", "mqa", NULL};

const struct scheme scheme_heads = {
    .names = names,
    .summary = "another number of K/V heads: all (mha), some (gqa) or one (mqa)",
    .source = "arXiv:1911.02150 (MQA), arXiv:2305.13245 (GQA)",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "primary",
    .compare = "{kv_heads: 1}",
};
