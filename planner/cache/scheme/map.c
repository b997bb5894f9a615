/* map - an explicit map: for each layer the layer whose K/V it reads, as a list of 1-based
 * numbers, or as the layer_types string of LCKV (0-based, with an `s` where the layer
 * attends to a sliding window). Cycles are fine: a layer computes K/V if some layer reads
 * it. */
#include "planner/cache/map.h"

struct params {
    const struct doc_node *map;
    const char *layer_types;
    uint64_t window;
    struct upward up;
};

static const struct field fields[] = {
    FIELD(struct params, map, "map", F_NODE, 0, 0, NULL,
          "for each layer the 1-based layer it reads; 0 for a layer without attention"),
    FIELD(struct params, layer_types, "layer_types", F_TEXT, 0, 0, NULL,
          "the same as LCKV writes it, 0-based: \"0_20_20_21\"; 1s attends to a window"),
    FIELD(struct params, window, "window", F_TOKENS, 0, 1e12, NULL,
          "window of the layers marked s"),
    UPWARD_FIELDS(struct params),
};

#define UNREAD UINT32_MAX

struct entry {
    uint32_t source; /* 0-based; UNREAD = none */
    bool sliding;
};

static bool read_list(const struct doc_node *list, struct layout *lay, struct diag *d,
                      struct entry *out)
{
    uint32_t i = 0;
    bool ok = true;

    if (list->kind != DOC_LIST || list->n != lay->n_layers)
        return diag_add(d, DIAG_INPUT, list->at,
                        "map needs one number a layer: %u, here are %zu", lay->n_layers,
                        list->kind == DOC_LIST ? list->n : (size_t)1);
    for (const struct doc_node *e = list->first; e; e = e->next, i++) {
        uint32_t v = 0;
        if (!doc_u32(e, 0, lay->n_layers, d, &v))
            ok = false;
        out[i].source = v ? v - 1 : UNREAD;
    }
    return ok;
}

/* One word of layer_types; returns what follows it, NULL when it is malformed. */
static const char *read_word(const char *s, struct entry *out)
{
    uint64_t v = 0;
    const char *p = s;

    for (; *p >= '0' && *p <= '9' && v < UNREAD; p++)
        v = 10 * v + (uint64_t)(*p - '0');
    if (p == s || v >= UNREAD)
        return NULL;
    out->source = (uint32_t)v;
    out->sliding = *p == 's';
    p += out->sliding;
    return *p == '_' || !*p ? p : NULL;
}

static bool read_types(const struct scheme_use *use, struct layout *lay, struct diag *d,
                       struct entry *out)
{
    const struct params *p = use->params;
    const char *s = p->layer_types;
    uint32_t n = 0;

    for (;; s++) {
        struct entry e = {0, false};
        s = read_word(s, &e);
        if (!s)
            return diag_add(d, DIAG_INPUT, use->at,
                            "layer_types: word %u is not a layer number, with or without s",
                            n + 1);
        if (n < lay->n_layers)
            out[n] = e;
        n++;
        if (!*s)
            break;
    }
    if (n != lay->n_layers)
        return diag_add(d, DIAG_INPUT, use->at, "layer_types names %u layers, the model has %u",
                        n, lay->n_layers);
    for (uint32_t i = 0; i < n; i++)
        if (out[i].source >= n)
            return diag_add(d, DIAG_INPUT, use->at,
                            "layer_types: layer %u (0-based) reads layer %u, "
                            "but the last is %u",
                            i, out[i].source, n - 1);
    return true;
}

static uint64_t own_window(const struct layout *lay)
{
    for (uint32_t i = 0; i < lay->n_layers; i++)
        if (lay->layers[i].attn.mixer == MIXER_SLIDING)
            return lay->layers[i].attn.window_tokens;
    return 0;
}

/* Layers marked s slide, the others do not; a string without s leaves the model's own
 * windows. */
static bool set_windows(const struct scheme_use *use, struct layout *lay, const struct entry *e,
                        struct diag *d)
{
    const struct params *p = use->params;
    uint64_t window = p->window ? p->window : own_window(lay);
    bool any = false;

    for (uint32_t i = 0; i < lay->n_layers; i++)
        any |= e[i].sliding;
    if (!any)
        return p->window ? diag_add(d, DIAG_INPUT, use->at,
                                    "window is given, but no layer is marked s")
                         : true;
    if (!window)
        return diag_add(
            d, DIAG_INPUT, use->at,
            "layer_types marks layers with s and the model has no window: give window");
    for (uint32_t i = 0; i < lay->n_layers; i++) {
        struct attention *a = &lay->layers[i].attn;
        a->kv_source = i;
        if (a->mixer != MIXER_FULL && a->mixer != MIXER_SLIDING)
            continue;
        a->mixer = e[i].sliding ? MIXER_SLIDING : MIXER_FULL;
        a->window_tokens = e[i].sliding ? window : 0;
    }
    return layout_rebuild(lay, d);
}

/* 0 stands for a layer without attention, and for no other. */
static bool fill(const struct scheme_use *use, const struct layout *lay, const struct entry *e,
                 uint32_t *map, struct diag *d)
{
    const struct params *p = use->params;
    bool ok = true;

    for (uint32_t i = 0; i < lay->n_layers; i++) {
        bool attends = layout_attention_row(lay, i) != UINT32_MAX;
        bool itself = !p->map && e[i].source == i;
        map[i] = attends ? e[i].source : UNREAD;
        if (attends && e[i].source == UNREAD)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "map: layer %u has attention, so 0 is not for it", i + 1);
        if (!attends && e[i].source != UNREAD && !itself)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "map: layer %u has no attention, write %s for it", i + 1,
                          p->map ? "0" : "its own number");
    }
    return ok;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    uint32_t room = lay->n_layers ? lay->n_layers : 1;
    struct entry *e = ARENA_NEW(lay->arena, struct entry, room);
    uint32_t *map = ARENA_NEW(lay->arena, uint32_t, room);

    if (!p->map == !p->layer_types)
        return diag_add(d, DIAG_INPUT, use->at, "give one of map and layer_types");
    if (p->map ? !read_list(p->map, lay, d, e) : !read_types(use, lay, d, e))
        return false;
    return set_windows(use, lay, e, d) && fill(use, lay, e, map, d) &&
           map_apply_layers(use, map, &p->up, lay, d);
}

static const char *const names[] = {"map", NULL};

const struct scheme scheme_map = {
    .names = names,
    .summary = "an explicit map of layers",
    .source = "whyNLP/LCKV@dd21716 README (layer_types)",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "primary",
};
