/* Maps over attention layers, shared by the sharing schemes. */
#include "planner/cache/map.h"

#include <string.h>

bool map_begin(const struct scheme_use *use, const struct layout *lay, struct diag *d,
               struct attention_map *out)
{
    uint32_t room = lay->n_layers ? lay->n_layers : 1;

    *out = (struct attention_map){0};
    out->layers = ARENA_NEW(lay->arena, uint32_t, room);
    out->to = ARENA_NEW(lay->arena, uint32_t, room);
    for (uint32_t i = 0; i < lay->n_layers; i++) {
        if (layout_attention_row(lay, i) == UINT32_MAX)
            continue;
        out->layers[out->n] = i;
        out->to[out->n] = out->n;
        out->n++;
    }
    if (!out->n)
        return diag_add(d, DIAG_INPUT, use->at,
                        "%s shares K/V, but no layer of this model has attention", use->name);
    if (out->n < lay->n_layers)
        diag_add(d, DIAG_NOTE, use->at, "%s counts the %u layers with attention, of %u",
                 use->name, out->n, lay->n_layers);
    return true;
}

bool map_check_layers(const struct scheme_use *use, const struct attention_map *m,
                      uint64_t kv_layers, struct diag *d)
{
    if (kv_layers < 1 || kv_layers > m->n)
        return diag_add(d, DIAG_INPUT, use->at,
                        "%s: kv_layers is %llu, but the model has %u layers with attention",
                        use->name, (unsigned long long)kv_layers, m->n);
    return true;
}

static bool as_shipped(const struct layout *lay)
{
    for (uint32_t i = 0; i < lay->n_layers; i++) {
        const struct attention *now = &lay->layers[i].attn, *was = &lay->model->layers[i].attn;
        if (now->mixer != was->mixer || now->kv_heads != was->kv_heads ||
            now->kv_source != was->kv_source || now->window_tokens != was->window_tokens)
            return false;
    }
    return true;
}

bool map_apply_layers(const struct scheme_use *use, const uint32_t *map,
                      const struct upward *up, struct layout *lay, struct diag *d)
{
    if (up) {
        lay->forward_passes = (uint32_t)up->forward_passes;
        lay->backward_passes = (uint32_t)up->backward_passes;
        lay->sequential_prefill = up->sequential;
    }
    lay->sharing = use->name;
    lay->at = use->at;
    if (!layout_share_map(lay, map, d))
        return false;
    lay->retrofit = !as_shipped(lay);
    return true;
}

bool map_apply(const struct scheme_use *use, const struct attention_map *m,
               const struct upward *up, struct layout *lay, struct diag *d)
{
    uint32_t *map = ARENA_NEW(lay->arena, uint32_t, lay->n_layers ? lay->n_layers : 1);

    for (uint32_t i = 0; i < lay->n_layers; i++)
        map[i] = UINT32_MAX;
    for (uint32_t k = 0; k < m->n; k++)
        map[m->layers[k]] = m->layers[m->to[k]];
    return map_apply_layers(use, map, up, lay, d);
}

enum target map_target(const char *variant)
{
    if (strstr(variant, "-top"))
        return TARGET_TOP;
    return strstr(variant, "-middle") ? TARGET_MIDDLE : TARGET_BOTTOM;
}

uint32_t map_target_of(enum target t, uint32_t first, uint32_t last)
{
    switch (t) {
    case TARGET_BOTTOM: return first;
    case TARGET_MIDDLE:
        /* rounded down in 1-based numbers: floor((first + 1 + last + 1) / 2) - 1 */
        return (first + last + 2) / 2 - 1;
    case TARGET_TOP: return last;
    }
    return first;
}

uint32_t map_spread(uint32_t n, uint32_t l, uint32_t k)
{
    return (uint32_t)((double)k * ((double)n / (double)l));
}
