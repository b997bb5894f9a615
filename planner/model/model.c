/* What holds for every model, however it was read: settling and checking. Nothing here reads or
 * writes text. */
#include "planner/model/model.h"

#include <inttypes.h>

#include "planner/model/inline.h"
#include "planner/model/weights.h"

struct checker {
    const struct model *m;
    struct diag *d;
    uint32_t layer; /* 0-based */
    bool ok;
};

#define WRONG(c, ...) ((c)->ok = diag_add((c)->d, DIAG_INPUT, (c)->m->at, __VA_ARGS__))
#define WRONG_LAYER(c, fmt, ...)                                                               \
    WRONG(c, "layer %" PRIu32 ": " fmt, (c)->layer + 1, __VA_ARGS__)

static void need(struct checker *c, uint64_t value, const char *what)
{
    if (value == 0)
        WRONG_LAYER(c, "%s must not be 0", what);
}

static void check_latent(struct checker *c, const struct attention *a)
{
    need(c, a->heads, "heads");
    need(c, a->kv_lora_rank, "kv_lora_rank");
    need(c, a->nope_dim, "nope_dim");
    need(c, a->v_dim, "v_dim");
    if (a->index_dim) {
        need(c, a->index_heads, "the heads of the indexer");
        need(c, a->index_topk, "the top_k of the indexer");
    }
}

static void check_attention(struct checker *c, const struct attention *a)
{
    if (a->mixer == MIXER_NONE)
        return;
    if (a->mixer == MIXER_LATENT) {
        check_latent(c, a);
        return;
    }
    need(c, a->heads, "heads");
    need(c, a->kv_heads, "kv_heads");
    if (a->heads && !a->k_dim)
        WRONG_LAYER(c,
                    "head_dim must be given: hidden_size %" PRIu32 " is no multiple of %" PRIu32
                    " heads",
                    c->m->hidden, a->heads);
    if (a->kv_heads && a->heads % a->kv_heads != 0)
        WRONG_LAYER(c, "%" PRIu32 " K/V heads do not divide %" PRIu32 " heads", a->kv_heads,
                    a->heads);
    if ((a->mixer == MIXER_SLIDING || a->mixer == MIXER_CHUNKED) && a->window_tokens == 0)
        WRONG_LAYER(c, "a %s layer needs a window", mixer_name(a->mixer));
}

static void check_source(struct checker *c, const struct attention *a)
{
    const struct attention *s;

    if (a->mixer == MIXER_NONE || a->kv_source == c->layer)
        return;
    if (a->kv_source >= c->m->n_layers) {
        WRONG_LAYER(c, "it reads the K/V of layer %" PRIu32 " of %" PRIu32, a->kv_source + 1,
                    c->m->n_layers);
        return;
    }
    s = &c->m->layers[a->kv_source].attn;
    if (s->mixer == MIXER_NONE)
        WRONG_LAYER(c, "it reads the K/V of layer %" PRIu32 ", which has no attention",
                    a->kv_source + 1);
    else if (s->kv_source != a->kv_source)
        WRONG_LAYER(
            c, "it reads the K/V of layer %" PRIu32 ", which reads those of layer %" PRIu32,
            a->kv_source + 1, s->kv_source + 1);
    else if ((s->mixer == MIXER_LATENT) != (a->mixer == MIXER_LATENT) ||
             s->kv_heads != a->kv_heads || s->k_dim != a->k_dim || s->v_dim != a->v_dim ||
             s->kv_lora_rank != a->kv_lora_rank)
        WRONG_LAYER(c, "it reads the K/V of layer %" PRIu32 ", which are of another shape",
                    a->kv_source + 1);
}

static void check_state(struct checker *c, const struct state *s)
{
    switch (s->kind) {
    case STATE_NONE: return;
    case STATE_MAMBA1:
        need(c, s->inner, "ssm.inner");
        need(c, s->state_dim, "ssm.state_dim");
        need(c, s->conv_kernel, "ssm.conv_kernel");
        need(c, s->dt_rank, "ssm.dt_rank");
        return;
    case STATE_MAMBA2:
        need(c, s->heads, "ssm.heads");
        need(c, s->head_dim, "ssm.head_dim");
        need(c, s->state_dim, "ssm.state_dim");
        need(c, s->groups, "ssm.groups");
        need(c, s->conv_kernel, "ssm.conv_kernel");
        return;
    case STATE_GDN:
        need(c, s->k_heads, "ssm.k_heads");
        need(c, s->k_dim, "ssm.k_dim");
        need(c, s->v_heads, "ssm.v_heads");
        need(c, s->v_dim, "ssm.v_dim");
        need(c, s->conv_kernel, "ssm.conv_kernel");
        return;
    case STATE_KDA:
        need(c, s->conv_kernel, "ssm.conv_kernel");
        need(c, s->heads, "ssm.heads");
        need(c, s->head_dim, "ssm.head_dim");
        return;
    case STATE_LIGHTNING:
    case STATE_RETENTION:
        need(c, s->heads, "ssm.heads");
        need(c, s->head_dim, "ssm.head_dim");
        return;
    case STATE_SHORTCONV: need(c, s->conv_kernel, "ssm.conv_kernel"); return;
    case STATE_GMU: need(c, s->inner, "ssm.inner"); return;
    }
}

static void check_ffn(struct checker *c, const struct ffn *f)
{
    if (f->experts == 0)
        return;
    need(c, f->top_k, "moe.top_k");
    need(c, f->moe_intermediate, "moe.intermediate_size");
    if (f->top_k > f->experts)
        WRONG_LAYER(c, "a token cannot use %" PRIu32 " of %" PRIu32 " experts", f->top_k,
                    f->experts);
}

static bool same_as_before(const struct model *m, uint32_t i)
{
    struct raw_layer a, b;

    if (i == 0)
        return false;
    a = raw_of(&m->layers[i]);
    b = raw_of(&m->layers[i - 1]);
    return raw_same(&a, &b);
}

bool model_check(const struct model *m, struct diag *d)
{
    struct checker c = {.m = m, .d = d, .ok = true};
    struct param_count count;
    struct ck ck = {false};

    if (m->n_layers == 0 || m->n_layers > MODEL_LAYERS_MAX)
        WRONG(&c, "a model must have between 1 and %d layers, found %" PRIu32, MODEL_LAYERS_MAX,
              m->n_layers);
    if (m->hidden == 0)
        WRONG(&c, "hidden_size must be given and not be 0");
    if (m->vocab == 0)
        WRONG(&c, "vocab_size must be given and not be 0");
    if (m->dtype &&
        (!weight_format_find(m->dtype) || weight_format_find(m->dtype)->block_bytes < 2 ||
         weight_format_find(m->dtype)->block_elems != 1))
        WRONG(&c, "dtype must be bf16, fp16 or fp32, found '%s'", m->dtype);
    if (!c.ok)
        return false;
    for (c.layer = 0; c.layer < m->n_layers; c.layer++) {
        const struct layer *l = &m->layers[c.layer];

        if (!same_as_before(m, c.layer)) {
            check_attention(&c, &l->attn);
            check_state(&c, &l->state);
            check_ffn(&c, &l->ffn);
        }
        check_source(&c, &l->attn);
    }
    if (!c.ok)
        return false;
    weights_count(m, NULL, &count, &ck);
    if (ck.over)
        WRONG(&c, "the parameter count overflows 64 bits");
    return c.ok;
}
