/* The inline form: a model as a YAML map, which a spec, a profile and write.c share.
 *
 * The top level describes one layer (heads, kv_heads, mla, ssm, moe, ...) and the model around
 * it. Where layers differ, `layer_kinds` names variants that inherit the top level, and
 * `layer_types` lists the layers by name: layer_kinds: {dense: {moe: none}} layer_types:
 * [dense*3, moe*58]              a name alone is one layer, name*5 five of them layer_types:
 * [{repeat: 10, of: [sliding*5, full]}, sliding*2] The names of mixers (full, sliding, chunked,
 * latent, none) need no entry in layer_kinds. */
#include "planner/model/inline.h"

#include <stdio.h>
#include <string.h>

#include "planner/model/inline_quant.h"

enum { KINDS_MAX = 256 };

union cell { /* what the binder fills, whatever the type */
    uint64_t u;
    bool b;
    const char *t;
};

struct reader {
    struct arena *a;
    const struct doc_node *map;
    struct diag *d;
    struct model *m;
    struct raw_layer base;
    bool base_has_types;
    const char *kind_names[KINDS_MAX];
    struct raw_layer kinds[KINDS_MAX];
    size_t n_kinds;
};

/* Keys of the top level that are not slots; those from "config" on belong to others. */
static const char *const other_keys[] = {
    "layers",  "attention_bias", "mla",         "indexer",    "ssm",
    "moe",     "layer_kinds",    "layer_types", "kv_sources", "quantization",
    "sources", "confidence",     "aliases",     "parameters", "config",
    "profile", "weights_bytes",  "notes",       NULL};
static const char *const kind_keys[] = {"attention_bias", "mla", "indexer", "ssm", "moe", NULL};

struct group {
    enum slot_group g;
    void *target;
};

/* Binds one map to the slots of one or two groups; only keys that are there change anything. */
static bool read_slots(struct reader *r, const struct doc_node *map, const char *what,
                       const struct group *v, size_t n)
{
    struct field fields[SLOTS_MAX];
    union cell cells[SLOTS_MAX] = {{0}};
    const struct slot *slots[SLOTS_MAX];
    void *targets[SLOTS_MAX];
    const char *const *ignored = v[0].g == SLOTS_MODEL   ? other_keys
                                 : v[0].g == SLOTS_LAYER ? kind_keys
                                                         : NULL;
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        size_t count;
        const struct slot *s = slots_of(v[i].g, &count);

        for (size_t j = 0; j < count; j++, k++) {
            slots[k] = &s[j];
            targets[k] = v[i].target;
            fields[k] = s[j].field;
            fields[k].offset = k * sizeof *cells;
        }
    }
    if (!bind_map(r->a, map, what, fields, k, ignored, r->d, cells))
        return false;
    for (size_t i = 0; i < k; i++) {
        if (doc_is_null(doc_get(map, fields[i].key)))
            continue;
        if (slots[i]->kind == SLOT_TEXT)
            memcpy((char *)targets[i] + slots[i]->at, &cells[i].t, sizeof cells[i].t);
        else
            slot_set(slots[i], targets[i], fields[i].type == F_BOOL ? cells[i].b : cells[i].u);
    }
    return true;
}

static bool read_bias(struct reader *r, const struct doc_node *map, struct attention *a)
{
    const struct doc_node *n = doc_get(map, "attention_bias");
    const char *t = NULL;

    if (doc_is_null(n))
        return true;
    if (!doc_text(n, r->d, &t))
        return false;
    if (strcmp(t, "none") == 0)
        t = "";
    if (t[strspn(t, "qkvo")] != 0)
        return diag_add(r->d, DIAG_INPUT, n->at,
                        "attention_bias must be letters of qkvo or none, found '%s'", t);
    a->q_bias = strchr(t, 'q') != NULL;
    a->k_bias = strchr(t, 'k') != NULL;
    a->v_bias = strchr(t, 'v') != NULL;
    a->o_bias = strchr(t, 'o') != NULL;
    return true;
}

static void clear_group(struct raw_layer *l, enum slot_group g)
{
    size_t n;
    const struct slot *s = slots_of(g, &n);

    for (size_t i = 0; i < n; i++)
        slot_set(&s[i], l, 0);
}

/* mla, indexer, ssm, moe: a map, or the word none to drop what is inherited. */
static bool read_groups(struct reader *r, const struct doc_node *map, struct raw_layer *l)
{
    static const char *const needed[N_SLOT_GROUPS] = {[SLOTS_MLA] = "kv_lora_rank",
                                                      [SLOTS_INDEXER] = "dim",
                                                      [SLOTS_SSM] = "kind",
                                                      [SLOTS_MOE] = "experts"};
    bool ok = true;

    for (int g = SLOTS_MLA; g < N_SLOT_GROUPS; g++) {
        const char *key = slots_key((enum slot_group)g);
        const struct doc_node *n = doc_get(map, key);
        struct group group = {(enum slot_group)g, l};

        if (doc_is_null(n))
            continue;
        if (n->kind == DOC_SCALAR && strcmp(n->text, "none") == 0)
            clear_group(l, (enum slot_group)g);
        else if (!read_slots(r, n, key, &group, 1))
            ok = false;
        else if (!raw_has(l, (enum slot_group)g))
            ok = diag_add(r->d, DIAG_INPUT, n->at, "%s needs '%s'", key, needed[g]);
    }
    return ok;
}

/* The mixer where the map does not say: by its latent, its heads, its window. */
static enum mixer implied_mixer(const struct reader *r)
{
    const struct attention *a = &r->base.l.attn;

    if (raw_has(&r->base, SLOTS_MLA))
        return MIXER_LATENT;
    if (a->heads == 0)
        return MIXER_NONE;
    return a->window_tokens && !r->base_has_types ? MIXER_SLIDING : MIXER_FULL;
}

static bool read_base(struct reader *r)
{
    struct group groups[2] = {{SLOTS_MODEL, r->m}, {SLOTS_LAYER, &r->base}};
    bool ok = read_slots(r, r->map, "model", groups, 2);

    ok = read_bias(r, r->map, &r->base.l.attn) && ok;
    return read_groups(r, r->map, &r->base) && ok;
}

static bool read_kinds(struct reader *r)
{
    const struct doc_node *map = doc_get(r->map, "layer_kinds");
    bool ok = true;

    if (doc_is_null(map))
        return true;
    if (map->kind != DOC_MAP)
        return diag_add(r->d, DIAG_INPUT, map->at,
                        "layer_kinds must be a map of names to layers");
    if (map->n > KINDS_MAX)
        return diag_add(r->d, DIAG_INPUT, map->at,
                        "layer_kinds has %zu entries, at most %d are allowed", map->n,
                        KINDS_MAX);
    for (const struct doc_node *n = map->first; n; n = n->next) {
        struct raw_layer *k = &r->kinds[r->n_kinds];
        struct group group = {SLOTS_LAYER, k};
        enum mixer named;

        *k = r->base;
        if (mixer_find(n->key, &named))
            k->l.attn.mixer = named;
        r->kind_names[r->n_kinds++] = n->key;
        if (doc_is_null(n))
            continue;
        ok = read_slots(r, n, arena_printf(r->a, "layer_kinds.%s", n->key), &group, 1) && ok;
        if (n->kind == DOC_MAP) {
            ok = read_bias(r, n, &k->l.attn) && ok;
            ok = read_groups(r, n, k) && ok;
        }
    }
    return ok;
}

/* ---- layer_types ---------------------------------------------------------------------- */

struct expansion {
    struct reader *r;
    struct raw_layer *out; /* [MODEL_LAYERS_MAX] */
    size_t n;
};

static bool append(struct expansion *x, const struct doc_node *at, const char *name,
                   uint64_t times)
{
    struct reader *r = x->r;
    struct raw_layer l = r->base;
    size_t i = 0;

    while (i < r->n_kinds && strcmp(r->kind_names[i], name) != 0)
        i++;
    if (i < r->n_kinds)
        l = r->kinds[i];
    else if (!mixer_find(name, &l.l.attn.mixer))
        return diag_add(
            r->d, DIAG_INPUT, at->at,
            "layer type '%s' is neither in layer_kinds nor one of full, sliding, chunked, latent, none",
            name);
    if (times > MODEL_LAYERS_MAX - x->n)
        return diag_add(r->d, DIAG_INPUT, at->at, "layer_types has more than %d layers",
                        MODEL_LAYERS_MAX);
    for (uint64_t k = 0; k < times; k++)
        x->out[x->n++] = l;
    return true;
}

/* "sliding", "sliding*5", or several with commas in one text. */
static bool append_text(struct expansion *x, const struct doc_node *n)
{
    const char *s = n->text;
    bool ok = true;

    while (*s && ok) {
        size_t len = strcspn(s, ","), name;
        char *item;
        uint64_t times = 1;

        while (len && *s == ' ') {
            s++;
            len--;
        }
        item = arena_strndup(x->r->a, s, len);
        for (size_t k = len; k && item[k - 1] == ' '; k--)
            item[k - 1] = 0;
        name = strcspn(item, "*");
        if (item[name] == '*') {
            struct doc_node count = {
                .kind = DOC_SCALAR, .at = n->at, .key = "layer_types", .text = item + name + 1};

            item[name] = 0;
            ok = doc_u64(&count, 1, MODEL_LAYERS_MAX, x->r->d, &times);
        }
        ok = ok && append(x, n, item, times);
        s += len + (s[len] == ',');
    }
    return ok;
}

static bool append_items(struct expansion *x, const struct doc_node *list);

static bool append_item(struct expansion *x, const struct doc_node *n)
{
    const struct doc_node *of = doc_get(n, "of");
    uint64_t times = 0;

    if (n->kind == DOC_SCALAR)
        return append_text(x, n);
    if (n->kind == DOC_LIST)
        return append_items(x, n);
    if (n->n != 2 || doc_is_null(of) || !doc_get(n, "repeat"))
        return diag_add(x->r->d, DIAG_INPUT, n->at,
                        "a map in layer_types must be {repeat: TIMES, of: [TYPES]}");
    if (!doc_u64(doc_get(n, "repeat"), 1, MODEL_LAYERS_MAX, x->r->d, &times))
        return false;
    for (uint64_t i = 0; i < times; i++) {
        if (!append_item(x, of))
            return false;
    }
    return true;
}

static bool append_items(struct expansion *x, const struct doc_node *list)
{
    for (const struct doc_node *n = list->first; n; n = n->next) {
        if (!append_item(x, n))
            return false;
    }
    return true;
}

/* moe: {first_dense, every} are left to layer_kinds; here every layer is the base, or what
 * layer_types says. */
static bool expand(struct reader *r, uint32_t layers)
{
    const struct doc_node *types = doc_get(r->map, "layer_types");
    struct expansion x = {.r = r};

    x.out = ARENA_NEW(r->a, struct raw_layer, doc_is_null(types) ? layers : MODEL_LAYERS_MAX);
    if (doc_is_null(types)) {
        for (x.n = 0; x.n < layers; x.n++)
            x.out[x.n] = r->base;
    } else if (!append_item(&x, types)) {
        return false;
    }
    if (layers && x.n != layers)
        return diag_add(r->d, DIAG_INPUT, types->at,
                        "layer_types has %zu entries for %u layers", x.n, layers);
    r->m->n_layers = (uint32_t)x.n;
    r->m->layers = ARENA_NEW(r->a, struct layer, x.n);
    for (uint32_t i = 0; i < x.n; i++) {
        struct ffn *f = &x.out[i].l.ffn;

        if (f->experts && !x.out[i].beside_dense)
            f->intermediate = 0;
        r->m->layers[i] = x.out[i].l;
        r->m->layers[i].attn.kv_source = i;
    }
    return true;
}

/* kv_sources: 1-based, one a layer; 0 or its own number = reads its own. */
static bool read_sources(struct reader *r)
{
    static const struct field field = {
        .key = "kv_sources", .type = F_U64_LIST, .max = MODEL_LAYERS_MAX};
    const struct doc_node *n = doc_get(r->map, "kv_sources");
    struct u64_list list = {0};
    bool ok = true;

    if (doc_is_null(n))
        return true;
    if (!bind_value(r->a, n, "model", &field, r->d, &list))
        return false;
    if (list.n != r->m->n_layers)
        return diag_add(r->d, DIAG_INPUT, n->at, "kv_sources has %zu entries for %u layers",
                        list.n, r->m->n_layers);
    for (uint32_t i = 0; i < r->m->n_layers; i++) {
        if (list.v[i] > r->m->n_layers)
            ok =
                diag_add(r->d, DIAG_INPUT, n->at, "kv_sources: layer %u reads layer %llu of %u",
                         i + 1, (unsigned long long)list.v[i], r->m->n_layers);
        else if (list.v[i])
            r->m->layers[i].attn.kv_source = (uint32_t)list.v[i] - 1;
    }
    return ok;
}

/* `sources`: a text, or a list that is joined with "; ". */
static bool read_notes(struct reader *r)
{
    const struct doc_node *n = doc_get(r->map, "sources");
    static const char *const words[] = {"primary", "secondary", "unverified", NULL};
    static const struct field confidence = {
        .key = "confidence", .type = F_CHOICE, .choices = words};
    const struct doc_node *c = doc_get(r->map, "confidence");
    uint64_t choice = 0;
    char *text;

    if (!doc_is_null(c)) {
        if (!bind_value(r->a, c, "model", &confidence, r->d, &choice))
            return false;
        r->m->confidence = words[choice];
    }
    if (doc_is_null(n))
        return true;
    if (n->kind != DOC_LIST)
        return doc_text(n, r->d, &r->m->sources);
    text = arena_strdup(r->a, "");
    for (const struct doc_node *e = n->first; e; e = e->next) {
        const char *t = "";

        if (!doc_text(e, r->d, &t))
            return false;
        text = arena_printf(r->a, "%s%s%s", text, e == n->first ? "" : "; ", t);
    }
    r->m->sources = text;
    return true;
}

static bool read_layers(struct reader *r, uint32_t layers)
{
    r->base_has_types = !doc_is_null(doc_get(r->map, "layer_types"));
    if (doc_is_null(doc_get(r->map, "mixer")))
        r->base.l.attn.mixer = implied_mixer(r);
    if (!read_kinds(r) || !expand(r, layers))
        return false;
    for (uint32_t i = 0; i < r->m->n_layers; i++)
        layer_settle(&r->m->layers[i], r->m->hidden, i);
    return read_sources(r);
}

bool model_from_inline(struct arena *a, const struct doc_node *map, struct diag *d,
                       struct model *out)
{
    struct reader r = {.a = a, .map = map, .d = d, .m = out, .base = inline_layer()};
    uint32_t layers = 0;
    bool ok;

    *out = inline_model();
    if (!map || map->kind != DOC_MAP)
        return diag_add(d, DIAG_INPUT, map ? map->at : (struct loc){0},
                        "an inline model must be a map of keys");
    out->at = map->at;
    ok = read_base(&r);
    ok = doc_u32(doc_get(map, "layers"), 1, MODEL_LAYERS_MAX, d, &layers) && ok;
    if (ok && doc_is_null(doc_get(map, "layers")) && doc_is_null(doc_get(map, "layer_types")))
        ok = diag_add(d, DIAG_INPUT, map->at, "required key 'layers' is missing in model");
    if (!ok || !read_layers(&r, layers) || !read_notes(&r))
        return false;
    return inline_quant(a, doc_get(map, "quantization"), d, out) && model_check(out, d);
}

/* ---- overrides ------------------------------------------------------------------------ */

static bool any_has(const struct model *m, enum slot_group g)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct raw_layer raw = raw_of(&m->layers[i]);

        if (raw_has(&raw, g))
            return true;
    }
    return false;
}

/* Layer keys of an override change the layers that have what they name. */
static bool override_layer(struct reader *r, struct layer *l, uint32_t index)
{
    struct raw_layer raw = raw_of(l);
    struct raw_layer old = raw;
    struct group groups[2] = {{SLOTS_MODEL, r->m}, {SLOTS_LAYER, &raw}};
    uint32_t source = l->attn.kv_source;

    if (!read_slots(r, r->map, "model", groups, 2) || !read_bias(r, r->map, &raw.l.attn) ||
        !read_groups(r, r->map, &raw))
        return false;
    for (int g = SLOTS_SSM; g < N_SLOT_GROUPS; g++) {
        if (!raw_has(&old, (enum slot_group)g) && any_has(r->m, (enum slot_group)g))
            clear_group(&raw, (enum slot_group)g);
    }
    if (old.l.attn.mixer == MIXER_NONE && doc_is_null(doc_get(r->map, "mixer")))
        raw.l.attn.mixer = MIXER_NONE;
    if (raw.l.ffn.experts && !raw.beside_dense)
        raw.l.ffn.intermediate = 0;
    if (!old.l.ffn.intermediate && !old.l.ffn.experts)
        raw.l.ffn = old.l.ffn; /* a layer without a feed-forward part keeps none */
    *l = raw.l;
    layer_settle(l, r->m->hidden, index);
    l->attn.kv_source = source;
    return true;
}

/* `layers: N`: fewer are the first N; more repeat the layers there are. */
static bool resize(struct reader *r, uint32_t layers)
{
    struct model *m = r->m;
    struct layer *v = ARENA_NEW(r->a, struct layer, layers);

    if (m->n_layers == layers)
        return true;
    for (uint32_t i = 0; i < layers; i++) {
        uint32_t old = i % m->n_layers, shift = i - old;

        v[i] = m->layers[old];
        v[i].attn.kv_source += shift;
        if (v[i].attn.kv_source >= layers)
            return diag_add(r->d, DIAG_INPUT, r->map->at,
                            "with %u layers, layer %u would read the K/V of layer %u", layers,
                            i + 1, v[i].attn.kv_source + 1);
    }
    if (layers > m->n_layers)
        diag_add(r->d, DIAG_WARN, r->map->at, "layers %u to %u repeat the first ones",
                 m->n_layers + 1, layers);
    if (m->quant.layer_parts) {
        uint32_t *parts = ARENA_NEW(r->a, uint32_t, layers);

        for (uint32_t i = 0; i < layers; i++)
            parts[i] = m->quant.layer_parts[i % m->n_layers];
        m->quant.layer_parts = parts;
    }
    m->layers = v;
    m->n_layers = layers;
    return true;
}

bool model_override(struct arena *a, const struct doc_node *map, struct diag *d,
                    struct model *m)
{
    struct reader r = {.a = a, .map = map, .d = d, .m = m};
    uint32_t layers = m->n_layers;
    struct layer *copy;

    if (!doc_u32(doc_get(map, "layers"), 1, MODEL_LAYERS_MAX, d, &layers))
        return false;
    if (!doc_is_null(doc_get(map, "layer_types"))) {
        r.base = raw_of(&m->layers[0]);
        if (!read_base(&r) ||
            !read_layers(&r, doc_is_null(doc_get(map, "layers")) ? 0 : layers))
            return false;
    } else {
        copy = ARENA_NEW(a, struct layer, m->n_layers);
        memcpy(copy, m->layers, m->n_layers * sizeof *copy);
        m->layers = copy;
        for (uint32_t i = 0; i < m->n_layers; i++) {
            if (!override_layer(&r, &m->layers[i], i))
                return false;
        }
        if (!resize(&r, layers) || !read_sources(&r))
            return false;
    }
    if (!read_notes(&r))
        return false;
    if (!doc_is_null(doc_get(map, "quantization")) &&
        !inline_quant(a, doc_get(map, "quantization"), d, m))
        return false;
    return model_check(m, d);
}
