/* yoco - You Only Cache Once: the lower half of the layers is a self-decoder whose cache
 * does not grow (gated retention, or a sliding window at full multi-head width); the upper
 * half reads one global K/V, which belongs to the first upper layer in map form: it is
 * projected from the output of the lower half. Prefill may stop there for all tokens but the
 * last. */
#include "planner/cache/map.h"

enum self_decoder { SELF_SLIDING_WINDOW, SELF_GATED_RETENTION };

struct params {
    uint64_t self_decoder, window;
};

static const char *const self_decoders[] = {"sliding_window", "gated_retention", NULL};

static const struct field fields[] = {
    FIELD_CHOICE(struct params, self_decoder, "self_decoder", self_decoders, "gated_retention",
                 "how the lower half mixes tokens"),
    FIELD(struct params, window, "window", F_TOKENS, 1, 1e12, "1024",
          "tokens a layer of a sliding_window self-decoder sees"),
};

static bool usable(const struct scheme_use *use, const struct layout *lay, struct diag *d)
{
    bool ok = true;

    if (!lay->n_layers || lay->n_layers % 2)
        return diag_add(d, DIAG_INPUT, use->at, "yoco halves the layers; this model has %u",
                        lay->n_layers);
    for (uint32_t i = 0; i < lay->n_layers; i++) {
        enum mixer mixer = lay->layers[i].attn.mixer;
        if (mixer == MIXER_LATENT)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "yoco: layer %u keeps a latent, not K/V heads", i + 1);
        else if (mixer == MIXER_NONE || lay->layers[i].state.kind != STATE_NONE)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "yoco: layer %u is not a plain attention layer", i + 1);
    }
    return ok;
}

static void make_self(struct layer *l, const struct params *p)
{
    struct attention *a = &l->attn;

    if (p->self_decoder == SELF_SLIDING_WINDOW) {
        a->mixer = MIXER_SLIDING;
        a->kv_heads = a->heads;
        a->window_tokens = p->window;
        return;
    }
    a->mixer = MIXER_NONE;
    l->state = (struct state){.kind = STATE_RETENTION, .heads = a->heads, .head_dim = a->k_dim};
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    uint32_t half = lay->n_layers / 2;

    if (!usable(use, lay, d))
        return false;
    uint32_t *map = ARENA_NEW(lay->arena, uint32_t, lay->n_layers);
    for (uint32_t i = 0; i < lay->n_layers; i++) {
        struct attention *a = &lay->layers[i].attn;
        a->kv_source = i;
        if (i < half) {
            make_self(&lay->layers[i], p);
        } else {
            a->mixer = MIXER_FULL;
            a->window_tokens = 0;
        }
        map[i] = i < half ? i : half;
        if (a->mixer == MIXER_NONE)
            map[i] = UINT32_MAX;
    }
    if (!layout_rebuild(lay, d))
        return false;
    lay->exit_layer = half;
    return map_apply_layers(use, map, NULL, lay, d);
}

static const char *const names[] = {"yoco", NULL};

const struct scheme scheme_yoco = {
    .names = names,
    .summary = "one global K/V for the upper half, a constant cache in the lower half",
    .source = "arXiv:2405.05254; microsoft/unilm@768a3c8 YOCO/",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "primary",
};
