/* For tests of models: reading texts and files, counting, and comparing two models field by
 * field. */
#ifndef KVBUDGET_TESTS_KVMODEL_H
#define KVBUDGET_TESTS_KVMODEL_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/model/inline.h"
#include "planner/model/model.h"
#include "planner/model/weights.h"
#include "tests/kvtest.h"

/* JSON text with ' for ", for texts inside C. */
static inline bool km_config(struct kt *t, const char *json, struct model *m)
{
    char *text = arena_strdup(t->a, json);
    struct doc_node *doc = NULL;

    for (char *p = text; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    assert_true(doc_read_json(t->a, "config.json", text, strlen(text), true, t->d, &doc));
    return model_from_config(t->a, doc, "test", t->d, m);
}

static inline bool km_inline(struct kt *t, const char *yaml, struct model *m)
{
    struct doc_node *doc = NULL;
    size_t n = 0;

    assert_true(doc_read_yaml(t->a, "model.yaml", yaml, strlen(yaml), t->d, &doc, 1, &n));
    assert_true(n == 1);
    return model_from_inline(t->a, doc, t->d, m);
}

/* The same, and it must work. */
static inline struct model km_model(struct kt *t, const char *text)
{
    struct model m;
    bool ok =
        text[0] == '{' && text[1] == '\'' ? km_config(t, text, &m) : km_inline(t, text, &m);

    if (!ok)
        diag_print(t->d, 0, true, stderr);
    assert_true(ok);
    return m;
}

static inline struct param_count km_count(const struct model *m)
{
    struct param_count c;
    struct ck ck = {false};

    weights_count(m, NULL, &c, &ck);
    assert_false(ck.over);
    return c;
}

struct km_cache { /* elements: a token in growing layers, a token in windowed ones, of the
                     states of a sequence */
    uint64_t full, windowed, state;
};

static inline uint64_t km_state(const struct state *s, uint64_t hidden)
{
    uint64_t taps = s->conv_kernel ? s->conv_kernel - 1 : 0;
    uint64_t square = (uint64_t)s->heads * s->head_dim * s->head_dim;
    uint64_t inner = (uint64_t)s->heads * s->head_dim;

    switch (s->kind) {
    case STATE_NONE:
    case STATE_GMU: return 0;
    case STATE_MAMBA1: return (uint64_t)s->inner * (taps + s->state_dim);
    case STATE_MAMBA2:
        return (inner + 2 * (uint64_t)s->groups * s->state_dim) * taps + inner * s->state_dim;
    case STATE_GDN:
        return (2 * (uint64_t)s->k_heads * s->k_dim + (uint64_t)s->v_heads * s->v_dim) * taps +
               (uint64_t)s->v_heads * s->k_dim * s->v_dim;
    case STATE_KDA: return 3 * inner * taps + square;
    case STATE_LIGHTNING:
    case STATE_RETENTION: return square;
    case STATE_SHORTCONV: return hidden * taps;
    }
    return 0;
}

static inline struct km_cache km_cache(const struct model *m)
{
    struct km_cache c = {0, 0, 0};

    for (uint32_t i = 0; i < m->n_layers; i++) {
        const struct attention *a = &m->layers[i].attn;
        uint64_t latent =
            (uint64_t)a->kv_lora_rank + a->rope_dim + (a->index_shared ? 0 : a->index_dim);
        uint64_t heads = (uint64_t)a->kv_heads * (a->k_dim + a->v_dim);

        c.state += km_state(&m->layers[i].state, m->hidden);
        if (a->mixer == MIXER_NONE || a->kv_source != i)
            continue;
        if (a->mixer == MIXER_LATENT)
            c.full += latent;
        else if (a->mixer == MIXER_FULL)
            c.full += heads;
        else
            c.windowed += heads;
    }
    return c;
}

static inline char *km_written(struct kt *t, const struct model *m)
{
    char *text = NULL, *copy;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    model_write_yaml(m, f);
    fclose(f);
    copy = arena_strdup(t->a, text);
    free(text);
    return copy;
}

static inline bool km_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* NULL, or the first thing in which the models differ. */
static inline const char *km_difference(const struct model *a, const struct model *b)
{
    struct param_count x = km_count(a), y = km_count(b);
    struct raw_layer p, q;

    if (!km_same_text(a->name, b->name) || !km_same_text(a->family, b->family) ||
        !km_same_text(a->model_type, b->model_type) || !km_same_text(a->dtype, b->dtype))
        return "names";
    if (a->n_layers != b->n_layers || a->max_position != b->max_position || a->tied != b->tied)
        return "sizes";
    if (memcmp(&x, &y, sizeof x) != 0)
        return "parameters";
    if (a->mtp_layers != b->mtp_layers || a->forward_passes != b->forward_passes ||
        a->backward_passes != b->backward_passes ||
        a->force_no_diagonal != b->force_no_diagonal)
        return "passes";
    if (a->quant.format != b->quant.format || a->quant.parts != b->quant.parts ||
        a->quant.embed != b->quant.embed || a->quant.head != b->quant.head ||
        !km_same_text(a->quant.method, b->quant.method) ||
        !km_same_text(a->quant.kv_format, b->quant.kv_format) ||
        !a->quant.layer_parts != !b->quant.layer_parts)
        return "quantization";
    for (uint32_t i = 0; i < a->n_layers; i++) {
        if (a->quant.layer_parts && a->quant.layer_parts[i] != b->quant.layer_parts[i])
            return "quantized parts of a layer";
        p = raw_of(&a->layers[i]);
        q = raw_of(&b->layers[i]);
        if (!raw_same(&p, &q) || a->layers[i].attn.kv_source != b->layers[i].attn.kv_source)
            return "layers";
        if (a->layers[i].attn.k_dim != b->layers[i].attn.k_dim ||
            a->layers[i].attn.v_dim != b->layers[i].attn.v_dim ||
            a->layers[i].attn.kv_heads != b->layers[i].attn.kv_heads)
            return "heads";
    }
    return NULL;
}

/* Written and read back, a model is the same. */
static inline void km_round_trip(struct kt *t, const struct model *m)
{
    char *text = km_written(t, m);
    struct model back;
    const char *what;

    if (!km_inline(t, text, &back)) {
        diag_print(t->d, 0, true, stderr);
        fail_msg("%s does not read back:\n%s", m->name ? m->name : "model", text);
    }
    what = km_difference(m, &back);
    if (what)
        fail_msg("%s reads back with other %s:\n%s", m->name ? m->name : "model", what, text);
    kt_same(km_written(t, &back), text);
}

#endif
