/* For tests of the cache layout and its schemes: models built by hand, schemes asked for as
 * a spec writes them, and layouts compared with runs such as "1 21*20 22". */
#ifndef KVBUDGET_TESTS_KVCACHE_H
#define KVBUDGET_TESTS_KVCACHE_H

#include <stdio.h>
#include <string.h>

#include "planner/cache/scheme.h"
#include "tests/kvtest.h"

/* A decoder of full-attention layers with gated MLPs; everything may be edited before
 * kc_layout. */
static inline struct model *kc_model(struct arena *a, uint32_t layers, uint32_t heads,
                                     uint32_t kv_heads, uint32_t dim)
{
    struct model *m = ARENA_NEW(a, struct model, 1);

    m->name = "test";
    m->n_layers = layers;
    m->hidden = heads * dim;
    m->vocab = 32000;
    m->dtype = "bf16";
    m->final_norms = 1;
    m->layers = ARENA_NEW(a, struct layer, layers ? layers : 1);
    for (uint32_t i = 0; i < layers; i++) {
        struct layer *l = &m->layers[i];
        l->attn = (struct attention){.mixer = MIXER_FULL, .heads = heads, .kv_heads = kv_heads};
        l->attn.k_dim = l->attn.v_dim = dim;
        l->attn.kv_source = i;
        l->ffn = (struct ffn){.intermediate = 4 * m->hidden, .gated = true};
        l->norms = 2;
    }
    return m;
}

/* DeepSeek V3's attention: rank 512 + 64, 128 heads. */
static inline struct model *kc_mla(struct arena *a, uint32_t layers)
{
    struct model *m = kc_model(a, layers, 128, 128, 56);

    for (uint32_t i = 0; i < layers; i++) {
        struct attention *t = &m->layers[i].attn;
        t->mixer = MIXER_LATENT;
        t->kv_lora_rank = 512;
        t->q_lora_rank = 1536;
        t->nope_dim = 128;
        t->rope_dim = 64;
        t->k_dim = 192;
        t->v_dim = 128;
    }
    return m;
}

/* The layers that `full` does not divide (1-based) get a mamba2 state in place of attention. */
static inline void kc_make_hybrid(struct model *m, uint32_t full)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if ((i + 1) % full == 0)
            continue;
        m->layers[i].attn.mixer = MIXER_NONE;
        m->layers[i].state = (struct state){.kind = STATE_MAMBA2,
                                            .heads = 8,
                                            .head_dim = 64,
                                            .state_dim = 128,
                                            .groups = 1,
                                            .conv_kernel = 4};
    }
}

static inline struct layout *kc_layout(struct kt *k, const struct model *m)
{
    struct layout *l = ARENA_NEW(k->a, struct layout, 1);

    assert_true(layout_new(k->a, m, k->d, l));
    return l;
}

/* Binds what a spec would say; the text is a YAML value: "lckv", "{scheme: cla, factor: 2}". */
static inline bool kc_bind(struct kt *k, enum scheme_axis axis, const char *yaml,
                           struct scheme_use *use)
{
    char *text = arena_printf(k->a, "x: %s\n", yaml);
    struct doc_node *doc = NULL;
    size_t n = 0;

    assert_true(doc_read_yaml(k->a, "t.yaml", text, strlen(text), k->d, &doc, 1, &n));
    assert_true(n == 1);
    return scheme_bind(k->a, axis, doc_get(doc, "x"), k->d, use);
}

/* Binds and applies; what the planner does. *use may be NULL. */
static inline bool kc_try(struct kt *k, struct layout *l, enum scheme_axis axis,
                          const char *yaml, struct scheme_use *use)
{
    struct scheme_use own = {0};

    use = use ? use : &own;
    if (!kc_bind(k, axis, yaml, use))
        return false;
    if (!use->scheme)
        return true;
    if (!use->scheme->apply(use, l, k->d))
        return false;
    layout_settle(l);
    return true;
}

static inline void kc_apply(struct kt *k, struct layout *l, enum scheme_axis axis,
                            const char *yaml)
{
    bool ok = kc_try(k, l, axis, yaml, NULL);

    if (!ok)
        diag_print(k->d, 0, true, stderr);
    assert_true(ok);
}

/* "3 5 5 5" as "3 5*3": one word for each run of equal numbers. */
static inline const char *kc_runs(struct arena *a, const uint64_t *v, size_t n)
{
    const char *out = "";

    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && v[j] == v[i]; j++)
            ;
        const char *gap = i ? " " : "";
        if (j - i > 1)
            out = arena_printf(a, "%s%s%llu*%zu", out, gap, (unsigned long long)v[i], j - i);
        else
            out = arena_printf(a, "%s%s%llu", out, gap, (unsigned long long)v[i]);
    }
    return out;
}

/* For each layer the 1-based layer it reads, 0 = no attention. */
static inline const char *kc_map(struct kt *k, const struct layout *l)
{
    uint64_t *v = ARENA_NEW(k->a, uint64_t, l->n_layers);

    for (uint32_t i = 0; i < l->n_layers; i++) {
        uint32_t row = layout_attention_row(l, i);
        v[i] = row == UINT32_MAX ? 0 : l->rows[l->rows[row].source].layer + 1;
    }
    return kc_runs(k->a, v, l->n_layers);
}

static inline const char *kc_passes(struct kt *k, const struct layout *l)
{
    uint64_t *v = ARENA_NEW(k->a, uint64_t, l->n_layers);

    for (uint32_t i = 0; i < l->n_layers; i++)
        v[i] = l->passes[i];
    return kc_runs(k->a, v, l->n_layers);
}

/* Tokens of every row that holds any kind of K/V or latent, in row order. */
static inline const char *kc_stored(struct kt *k, const struct layout *l, uint64_t n,
                                    uint64_t decoded)
{
    uint64_t *v = ARENA_NEW(k->a, uint64_t, l->n_rows);
    size_t rows = 0;

    for (uint32_t i = 0; i < l->n_rows; i++)
        if (l->rows[i].stream == STREAM_KV || l->rows[i].stream == STREAM_LATENT)
            v[rows++] = row_stored_tokens(&l->rows[i], n, decoded);
    return kc_runs(k->a, v, rows);
}

/* Bytes of the whole cache of one sequence, states aside. */
static inline uint64_t kc_bytes(const struct layout *l, uint64_t n, uint64_t decoded)
{
    struct ck ck = {0};
    uint64_t sum = 0;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        sum = ck_add(&ck, sum, row_bytes(r, n, row_stored_tokens(r, n, decoded), &ck));
    }
    assert_false(ck.over);
    return sum;
}

static inline uint64_t kc_tokens(const struct layout *l, uint64_t n, uint64_t decoded)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < l->n_rows; i++)
        sum += row_stored_tokens(&l->rows[i], n, decoded);
    return sum;
}

/* The scheme refuses: binds or applies, fails, and has said exactly this (a message is kept
 * once). */
static inline void kc_refused(struct kt *k, struct layout *l, enum scheme_axis axis,
                              const char *yaml, const char *message)
{
    assert_false(kc_try(k, l, axis, yaml, NULL));
    for (size_t i = 0; i < diag_count(k->d); i++)
        if (!strcmp(diag_at(k->d, i)->text, message))
            return;
    diag_print(k->d, 0, true, stderr);
    print_error("expected: %s\n", message);
    fail();
}

/* The scheme works and says exactly this on the way. */
static inline void kc_says(struct kt *k, struct layout *l, enum scheme_axis axis,
                           const char *yaml, const char *message)
{
    kc_apply(k, l, axis, yaml);
    for (size_t i = 0; i < diag_count(k->d); i++)
        if (!strcmp(diag_at(k->d, i)->text, message))
            return;
    diag_print(k->d, 0, true, stderr);
    print_error("expected: %s\n", message);
    fail();
}

#endif
