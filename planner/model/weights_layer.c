/* The tensors of one decoder layer, in the shapes checkpoints store them in ([out][in]; fused
 * ones apart). Each function lists one block; nothing here multiplies anything out, sums are in
 * weights.c.
 *
 * source: shapes per family as summarised in planner/model/family/ (one source line a file),
 * checked against published safetensors totals by tests/unit/weights.c. */
#include "planner/model/weights.h"

#include <assert.h>
#include <string.h>

struct list {
    struct tensor *t;
    size_t n, max;
};

static struct tensor *put(struct list *l, enum part part, const char *name, uint64_t out,
                          uint64_t in)
{
    struct tensor *t = &l->t[l->n];

    assert(l->n < l->max);
    l->n++;
    *t = (struct tensor){
        .part = part, .name = name, .out = out, .in = in, .copies = 1, .active = 1};
    return t;
}

static void matrix(struct list *l, enum part part, enum split split, const char *name,
                   uint64_t out, uint64_t in)
{
    put(l, part, name, out, in)->split = split;
}

static void vector(struct list *l, enum part part, enum split split, const char *name,
                   uint64_t n)
{
    struct tensor *t = put(l, part, name, n, 1);

    t->split = split;
    t->vector = true;
}

/* K and V heads are shared by query heads, so the K/V norms and biases follow SPLIT_KV. */
static void attention_norms(struct list *l, const struct attention *a, bool owns_kv)
{
    uint64_t q = a->k_dim, k = a->k_dim;

    if (a->qk_norm == QK_NORM_NONE)
        return;
    if (a->qk_norm == QK_NORM_FULL) {
        q *= a->heads;
        k *= a->kv_heads;
        vector(l, PART_NORM, SPLIT_OUT, "self_attn.q_norm", q);
        if (owns_kv)
            vector(l, PART_NORM, SPLIT_KV, "self_attn.k_norm", k);
        return;
    }
    vector(l, PART_NORM, SPLIT_NONE, "self_attn.q_norm", q);
    if (owns_kv)
        vector(l, PART_NORM, SPLIT_NONE, "self_attn.k_norm", k);
}

static void projections(struct list *l, const struct attention *a, uint64_t hidden,
                        bool owns_kv)
{
    uint64_t q = (uint64_t)a->heads * a->k_dim * (a->output_gate ? 2 : 1);
    uint64_t k = (uint64_t)a->kv_heads * a->k_dim, v = (uint64_t)a->kv_heads * a->v_dim;

    matrix(l, PART_Q, SPLIT_OUT, "self_attn.q_proj", q, hidden);
    if (a->q_bias)
        vector(l, PART_Q, SPLIT_OUT, "self_attn.q_proj.bias", q);
    if (owns_kv) {
        matrix(l, PART_K, SPLIT_KV, "self_attn.k_proj", k, hidden);
        if (a->k_bias)
            vector(l, PART_K, SPLIT_KV, "self_attn.k_proj.bias", k);
        if (!a->k_eq_v)
            matrix(l, PART_V, SPLIT_KV, "self_attn.v_proj", v, hidden);
        if (a->v_bias)
            vector(l, PART_V, SPLIT_KV, "self_attn.v_proj.bias", v);
    }
    matrix(l, PART_O, SPLIT_IN, "self_attn.o_proj", hidden, (uint64_t)a->heads * a->v_dim);
    if (a->o_bias)
        vector(l, PART_O, SPLIT_NONE, "self_attn.o_proj.bias", hidden);
    attention_norms(l, a, owns_kv);
    if (a->sinks)
        vector(l, PART_OTHER, SPLIT_OUT, "self_attn.sinks", a->heads);
    if (a->head_gate)
        matrix(l, PART_OTHER, SPLIT_OUT, "self_attn.g_proj", a->heads, hidden);
}

static void attention(struct list *l, const struct model *m, const struct attention *a,
                      bool owns_kv)
{
    size_t first = l->n;

    projections(l, a, m->hidden, owns_kv || m->keeps_unused_kv);
    for (size_t i = first; i < l->n && !owns_kv; i++) {
        struct tensor *t = &l->t[i];

        if (t->part == PART_K || t->part == PART_V)
            t->active = 0; /* stored, never multiplied */
        t->idle = !t->active || !strcmp(t->name, "self_attn.k_norm");
    }
}

/* source: DeepSeek-V2 (arXiv:2405.04434) section 2.1; DeepSeek-V3.2-Exp inference code for the
 * indexer. */
static void indexer(struct list *l, const struct attention *a, uint64_t hidden)
{
    matrix(l, PART_INDEXER, SPLIT_NONE, "self_attn.indexer.wq_b",
           (uint64_t)a->index_heads * a->index_dim, a->q_lora_rank ? a->q_lora_rank : hidden);
    matrix(l, PART_INDEXER, SPLIT_NONE, "self_attn.indexer.wk", a->index_dim, hidden);
    vector(l, PART_INDEXER, SPLIT_NONE, "self_attn.indexer.k_norm", 2 * (uint64_t)a->index_dim);
    matrix(l, PART_INDEXER, SPLIT_NONE, "self_attn.indexer.weights_proj", a->index_heads,
           hidden);
    l->t[l->n - 1].plain = true;
}

static void latent(struct list *l, const struct attention *a, uint64_t hidden, bool owns_kv)
{
    uint64_t q = (uint64_t)a->heads * ((uint64_t)a->nope_dim + a->rope_dim);

    if (a->q_lora_rank) {
        matrix(l, PART_LATENT, SPLIT_NONE, "self_attn.q_a_proj", a->q_lora_rank, hidden);
        vector(l, PART_NORM, SPLIT_NONE, "self_attn.q_a_layernorm", a->q_lora_rank);
        matrix(l, PART_Q, SPLIT_OUT, "self_attn.q_b_proj", q, a->q_lora_rank);
    } else {
        matrix(l, PART_Q, SPLIT_OUT, "self_attn.q_proj", q, hidden);
    }
    if (owns_kv) {
        matrix(l, PART_LATENT, SPLIT_NONE, "self_attn.kv_a_proj_with_mqa",
               (uint64_t)a->kv_lora_rank + a->rope_dim, hidden);
        vector(l, PART_NORM, SPLIT_NONE, "self_attn.kv_a_layernorm", a->kv_lora_rank);
    }
    matrix(l, PART_LATENT, SPLIT_OUT, "self_attn.kv_b_proj",
           (uint64_t)a->heads * ((uint64_t)a->nope_dim + a->v_dim), a->kv_lora_rank);
    l->t[l->n - 1].absorbed = true;
    matrix(l, PART_O, SPLIT_IN, "self_attn.o_proj", hidden, (uint64_t)a->heads * a->v_dim);
    if (a->index_dim && !a->index_shared)
        indexer(l, a, hidden);
}

/* source: arXiv:2405.21060 (Mamba-2); the gated norm is absent in Falcon-H1. */
static void mamba2(struct list *l, const struct state *s, uint64_t hidden)
{
    uint64_t inner = (uint64_t)s->heads * s->head_dim;
    uint64_t conv = inner + 2 * (uint64_t)s->groups * s->state_dim;

    matrix(l, PART_STATE, SPLIT_OUT, "mixer.in_proj", inner + conv + s->heads, hidden);
    vector(l, PART_STATE, SPLIT_OUT, "mixer.conv1d", conv * s->conv_kernel);
    vector(l, PART_STATE, SPLIT_OUT, "mixer.conv1d.bias", conv);
    vector(l, PART_STATE, SPLIT_OUT, "mixer.A_log, D, dt_bias", 3 * (uint64_t)s->heads);
    if (!s->no_gate_norm)
        vector(l, PART_STATE, SPLIT_OUT, "mixer.norm", inner);
    matrix(l, PART_STATE, SPLIT_IN, "mixer.out_proj", hidden, inner);
}

/* source: arXiv:2312.00752 (Mamba); Jamba adds norms on dt, B and C. */
static void mamba1(struct list *l, const struct state *s, uint64_t hidden)
{
    uint64_t inner = s->inner, wide = (uint64_t)s->dt_rank + 2 * (uint64_t)s->state_dim;

    matrix(l, PART_STATE, SPLIT_OUT, "mixer.in_proj", 2 * inner, hidden);
    vector(l, PART_STATE, SPLIT_OUT, "mixer.conv1d", inner * s->conv_kernel);
    vector(l, PART_STATE, SPLIT_OUT, "mixer.conv1d.bias", inner);
    matrix(l, PART_STATE, SPLIT_IN, "mixer.x_proj", wide, inner);
    matrix(l, PART_STATE, SPLIT_OUT, "mixer.dt_proj", inner, s->dt_rank);
    vector(l, PART_STATE, SPLIT_OUT, "mixer.dt_proj.bias", inner);
    vector(l, PART_STATE, SPLIT_OUT, "mixer.A_log", inner * s->state_dim);
    vector(l, PART_STATE, SPLIT_OUT, "mixer.D", inner);
    if (s->dtbc_norm)
        vector(l, PART_STATE, SPLIT_NONE, "mixer.dt_b_c_layernorm", wide);
    matrix(l, PART_STATE, SPLIT_IN, "mixer.out_proj", hidden, inner);
}

/* source: arXiv:2412.06464 (gated delta networks); shapes of Qwen3-Next. */
static void gdn(struct list *l, const struct state *s, uint64_t hidden)
{
    uint64_t k = (uint64_t)s->k_heads * s->k_dim, v = (uint64_t)s->v_heads * s->v_dim;

    matrix(l, PART_STATE, SPLIT_OUT, "linear_attn.in_proj_qkvz", 2 * k + 2 * v, hidden);
    matrix(l, PART_STATE, SPLIT_OUT, "linear_attn.in_proj_ba", 2 * (uint64_t)s->v_heads,
           hidden);
    vector(l, PART_STATE, SPLIT_OUT, "linear_attn.conv1d", (2 * k + v) * s->conv_kernel);
    vector(l, PART_STATE, SPLIT_OUT, "linear_attn.A_log, dt_bias", 2 * (uint64_t)s->v_heads);
    vector(l, PART_STATE, SPLIT_NONE, "linear_attn.norm", s->v_dim);
    matrix(l, PART_STATE, SPLIT_IN, "linear_attn.out_proj", hidden, v);
}

/* source: arXiv:2510.26692 (Kimi Linear): low-rank decay (f) and output gate (g), rank = head
 * dim. */
static void kda(struct list *l, const struct state *s, uint64_t hidden)
{
    uint64_t d = s->head_dim, width = (uint64_t)s->heads * d;

    matrix(l, PART_STATE, SPLIT_OUT, "self_attn.q_proj", width, hidden);
    matrix(l, PART_STATE, SPLIT_OUT, "self_attn.k_proj", width, hidden);
    matrix(l, PART_STATE, SPLIT_OUT, "self_attn.v_proj", width, hidden);
    vector(l, PART_STATE, SPLIT_OUT, "self_attn.qkv_conv1d", 3 * width * s->conv_kernel);
    vector(l, PART_STATE, SPLIT_OUT, "self_attn.A_log", s->heads);
    vector(l, PART_STATE, SPLIT_OUT, "self_attn.dt_bias", width);
    matrix(l, PART_STATE, SPLIT_NONE, "self_attn.f_a_proj", d, hidden);
    matrix(l, PART_STATE, SPLIT_OUT, "self_attn.f_b_proj", width, d);
    matrix(l, PART_STATE, SPLIT_OUT, "self_attn.b_proj", s->heads, hidden);
    matrix(l, PART_STATE, SPLIT_NONE, "self_attn.g_a_proj", d, hidden);
    matrix(l, PART_STATE, SPLIT_OUT, "self_attn.g_b_proj", width, d);
    vector(l, PART_STATE, SPLIT_NONE, "self_attn.o_norm", d);
    matrix(l, PART_STATE, SPLIT_IN, "self_attn.o_proj", hidden, width);
}

/* Lightning attention (MiniMax-M1, arXiv:2506.13585: q, k, v, output gate, norm over the width)
 * and the gated retention of YOCO (arXiv:2405.05254 section 2.3: the same with one decay gate a
 * head and a norm a head). */
static void linear_attention(struct list *l, const struct state *s, uint64_t hidden)
{
    uint64_t width = (uint64_t)s->heads * s->head_dim;
    bool retention = s->kind == STATE_RETENTION;

    matrix(l, PART_STATE, SPLIT_OUT, "self_attn.qkv_proj", 3 * width, hidden);
    matrix(l, PART_STATE, SPLIT_OUT, "self_attn.output_gate", width, hidden);
    if (retention)
        matrix(l, PART_STATE, SPLIT_OUT, "self_attn.gt_proj", s->heads, hidden);
    else
        vector(l, PART_STATE, SPLIT_OUT, "self_attn.norm", width);
    matrix(l, PART_STATE, SPLIT_IN, "self_attn.out_proj", hidden, width);
}

static void state(struct list *l, const struct state *s, uint64_t hidden)
{
    switch (s->kind) {
    case STATE_NONE: return;
    case STATE_MAMBA1: mamba1(l, s, hidden); return;
    case STATE_MAMBA2: mamba2(l, s, hidden); return;
    case STATE_GDN: gdn(l, s, hidden); return;
    case STATE_KDA: kda(l, s, hidden); return;
    case STATE_LIGHTNING:
    case STATE_RETENTION: linear_attention(l, s, hidden); return;
    case STATE_SHORTCONV:
        matrix(l, PART_STATE, SPLIT_OUT, "conv.in_proj", 3 * hidden, hidden);
        vector(l, PART_STATE, SPLIT_OUT, "conv.conv", hidden * s->conv_kernel);
        matrix(l, PART_STATE, SPLIT_IN, "conv.out_proj", hidden, hidden);
        return;
    case STATE_GMU:
        matrix(l, PART_STATE, SPLIT_OUT, "mixer.in_proj", s->inner, hidden);
        matrix(l, PART_STATE, SPLIT_IN, "mixer.out_proj", hidden, s->inner);
        return;
    }
}

static void mlp(struct list *l, const struct ffn *f, uint64_t hidden)
{
    if (f->gated)
        matrix(l, PART_MLP, SPLIT_OUT, "mlp.gate_proj", f->intermediate, hidden);
    matrix(l, PART_MLP, SPLIT_OUT, "mlp.up_proj", f->intermediate, hidden);
    matrix(l, PART_MLP, SPLIT_IN, "mlp.down_proj", hidden, f->intermediate);
    if (f->bias) {
        vector(l, PART_MLP, SPLIT_OUT, "mlp.up_proj.bias",
               (uint64_t)f->intermediate * (f->gated ? 2 : 1));
        vector(l, PART_MLP, SPLIT_NONE, "mlp.down_proj.bias", hidden);
    }
}

static void expert(struct list *l, const struct ffn *f, const char *name, uint64_t out,
                   uint64_t in)
{
    struct tensor *t = put(l, PART_EXPERT, name, out, in);

    t->split = SPLIT_EXPERT;
    t->copies = f->experts;
    t->active = f->top_k;
}

static void experts(struct list *l, const struct ffn *f, uint64_t hidden)
{
    uint64_t wide = f->moe_latent ? f->moe_latent : hidden;
    size_t first = l->n;

    if (f->gated)
        expert(l, f, "mlp.experts.gate_proj", f->moe_intermediate, wide);
    expert(l, f, "mlp.experts.up_proj", f->moe_intermediate, wide);
    expert(l, f, "mlp.experts.down_proj", wide, f->moe_intermediate);
    l->t[l->n - 1].by_columns = true;
    if (f->expert_bias) {
        size_t bias = l->n;

        expert(l, f, "mlp.experts.gate_up_proj.bias", (uint64_t)f->moe_intermediate * 2, 1);
        expert(l, f, "mlp.experts.down_proj.bias", hidden, 1);
        l->t[l->n - 1].by_columns = true; /* of the sum over ranks: whole on each */
        for (size_t i = bias; i < l->n; i++)
            l->t[i].vector = true;
    }
    assert(l->n > first);
}

static void moe(struct list *l, const struct ffn *f, uint64_t hidden)
{
    matrix(l, PART_ROUTER, SPLIT_NONE, "mlp.gate", f->experts, hidden);
    if (f->router_bias)
        vector(l, PART_ROUTER, SPLIT_NONE, "mlp.gate.bias", f->experts);
    if (f->router_extra_params)
        vector(l, PART_ROUTER, SPLIT_NONE, "mlp.gate.scales", f->router_extra_params);
    if (f->moe_latent) {
        matrix(l, PART_SHARED, SPLIT_NONE, "mlp.fc1_latent_proj", f->moe_latent, hidden);
        matrix(l, PART_SHARED, SPLIT_NONE, "mlp.fc2_latent_proj", hidden, f->moe_latent);
    }
    experts(l, f, hidden);
    if (!f->shared_intermediate)
        return;
    if (f->gated)
        matrix(l, PART_SHARED, SPLIT_OUT, "mlp.shared_experts.gate_proj",
               f->shared_intermediate, hidden);
    matrix(l, PART_SHARED, SPLIT_OUT, "mlp.shared_experts.up_proj", f->shared_intermediate,
           hidden);
    matrix(l, PART_SHARED, SPLIT_IN, "mlp.shared_experts.down_proj", hidden,
           f->shared_intermediate);
    if (f->shared_gate) {
        matrix(l, PART_SHARED, SPLIT_NONE, "mlp.shared_expert_gate", 1, hidden);
        l->t[l->n - 1].plain = true;
    }
}

size_t weights_layer(const struct model *m, const struct layer *l, bool owns_kv,
                     struct tensor *out)
{
    struct list list = {out, 0, LAYER_TENSORS_MAX};
    uint64_t hidden = m->hidden;

    if (l->attn.mixer == MIXER_LATENT)
        latent(&list, &l->attn, hidden, owns_kv);
    else if (l->attn.mixer != MIXER_NONE)
        attention(&list, m, &l->attn, owns_kv);
    state(&list, &l->state, hidden);
    if (l->ffn.intermediate)
        mlp(&list, &l->ffn, hidden);
    if (l->ffn.experts)
        moe(&list, &l->ffn, hidden);
    if (l->norms)
        vector(&list, PART_NORM, SPLIT_NONE, "layernorms",
               l->norms * hidden * (m->norm == NORM_LAYER ? 2 : 1));
    if (l->vector_params)
        vector(&list, PART_NORM, SPLIT_NONE, "scalars", l->vector_params);
    if (l->matrix_params && l->matrix_params % hidden == 0)
        matrix(&list, PART_OTHER, SPLIT_NONE, "other", l->matrix_params / hidden, hidden);
    else if (l->matrix_params)
        matrix(&list, PART_OTHER, SPLIT_NONE, "other", l->matrix_params, 1);
    return list.n;
}

size_t weights_outside(const struct model *m, struct tensor *out)
{
    struct list list = {out, 0, MODEL_TENSORS_MAX};
    uint64_t hidden = m->hidden, width = m->embed_width ? m->embed_width : hidden;
    struct tensor *t = put(&list, PART_EMBED, "embed_tokens", m->vocab, width);

    t->split = SPLIT_VOCAB;
    t->active = 0;
    if (m->position_rows)
        put(&list, PART_POSITION, "embed_positions", m->position_rows, hidden)->active = 0;
    if (m->embed_params_extra)
        put(&list, PART_POSITION, "embed_tokens_per_layer", m->embed_params_extra, 1)->active =
            0;
    if (m->embed_width) {
        matrix(&list, PART_OTHER, SPLIT_NONE, "project_in", hidden, width);
        matrix(&list, PART_OTHER, SPLIT_NONE, "project_out", width, hidden);
    }
    if (m->matrix_params_extra && m->matrix_params_extra % hidden == 0)
        matrix(&list, PART_OTHER, SPLIT_NONE, "other", m->matrix_params_extra / hidden, hidden);
    else if (m->matrix_params_extra)
        matrix(&list, PART_OTHER, SPLIT_NONE, "other", m->matrix_params_extra, 1);
    if (m->vector_params_extra)
        vector(&list, PART_NORM, SPLIT_NONE, "scalars", m->vector_params_extra);
    if (m->final_norms)
        vector(&list, PART_NORM, SPLIT_NONE, "norm",
               m->final_norms * hidden * (m->norm == NORM_LAYER ? 2 : 1));
    t = put(&list, PART_HEAD, "lm_head", m->vocab, width);
    t->split = SPLIT_VOCAB;
    t->tied = m->tied;
    if (m->head_bias)
        vector(&list, PART_HEAD, SPLIT_VOCAB, "lm_head.bias", m->vocab);
    if (m->vision_params) {
        t = put(&list, PART_VISION, "vision", m->vision_params, 1);
        t->vector = true;
        t->active = 0;
    }
    return list.n;
}
