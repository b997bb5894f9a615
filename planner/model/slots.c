/* The table of keys of the inline form, and access to the members they stand for. */
#include "planner/model/inline.h"

#include <assert.h>
#include <string.h>

static const char *const mixer_names[] = {"none", "full", "sliding", "chunked", "latent", NULL};
static const char *const qk_norm_names[] = {"none", "head", "full", NULL};
static const char *const norm_names[] = {"rms", "layer", "layer_no_bias", NULL};
static const char *const mlp_names[] = {"plain", "gated", NULL};
static const char *const state_names[] = {"none",      "mamba1",    "mamba2",    "gdn", "kda",
                                          "lightning", "retention", "shortconv", "gmu", NULL};

enum { DIM_MAX = 1 << 24 };

#define NUMBER(S, member, word, text)                                                          \
    {                                                                                          \
        {.key = (word), .type = F_U64, .max = DIM_MAX, .help = (text)}, SLOT_U32,              \
            offsetof(S, member)                                                                \
    }
#define BIG(S, member, word, text)                                                             \
    {                                                                                          \
        {.key = (word), .type = F_U64, .help = (text)}, SLOT_U64, offsetof(S, member)          \
    }
#define TOKENS(S, member, word, text)                                                          \
    {                                                                                          \
        {.key = (word), .type = F_TOKENS, .help = (text)}, SLOT_U64, offsetof(S, member)       \
    }
#define FLAG(S, member, word, text)                                                            \
    {                                                                                          \
        {.key = (word), .type = F_BOOL, .fallback = "false", .help = (text)}, SLOT_BOOL,       \
            offsetof(S, member)                                                                \
    }
#define CHOICE(S, member, word, names, kind, text)                                             \
    {                                                                                          \
        {.key = (word), .type = F_CHOICE, .choices = (names), .help = (text)}, kind,           \
            offsetof(S, member)                                                                \
    }
#define TEXT(S, member, word, text)                                                            \
    {                                                                                          \
        {.key = (word), .type = F_TEXT, .help = (text)}, SLOT_TEXT, offsetof(S, member)        \
    }

#define M struct model
static const struct slot model_slots[] = {
    TEXT(M, name, "name", "name of the model, with the organisation"),
    TEXT(M, family, "family", "family file that read the config; inline otherwise"),
    TEXT(M, model_type, "model_type", "as the config says"),
    NUMBER(M, hidden, "hidden_size", "width of the residual stream"),
    NUMBER(M, vocab, "vocab_size", "rows of the embedding"),
    TOKENS(M, max_position, "max_position", "training context, 0 = unknown"),
    FLAG(M, tied, "tied_embeddings", "one table for embedding and head"),
    TEXT(M, dtype, "dtype", "type of the unquantized weights: bf16, fp16, fp32"),
    CHOICE(M, norm, "norm", norm_names, SLOT_ENUM, "parameters of a norm: h, 2h, h"),
    NUMBER(M, final_norms, "final_norms", "norms before the head, 1 or 0"),
    FLAG(M, head_bias, "head_bias", "the head has a bias"),
    FLAG(M, alibi, "alibi", "slopes along the tokens instead of rotations"),
    NUMBER(M, score_cap, "score_cap", "attention scores go through cap * tanh(x / cap)"),
    NUMBER(M, logit_cap, "logit_cap", "so do the logits"),
    BIG(M, position_rows, "position_rows", "learned positions"),
    NUMBER(M, embed_width, "embed_width", "narrow embeddings with two projections (OPT-350m)"),
    BIG(M, embed_params_extra, "per_layer_embedding_params",
        "tables that are looked up (Gemma 3n, 4)"),
    BIG(M, matrix_params_extra, "extra_matrix_params", "other matrices used once a token"),
    BIG(M, vector_params_extra, "extra_vector_params", "other small tensors"),
    BIG(M, vision_params, "vision_params", "vision and audio towers with their projectors"),
    NUMBER(M, mtp_layers, "mtp_layers",
           "multi-token-prediction layers of the checkpoint, not counted"),
    NUMBER(M, forward_passes, "forward_passes", "of a natively condensed model (LCKV m)"),
    NUMBER(M, backward_passes, "backward_passes", "of a natively condensed model (LCKV b)"),
    FLAG(M, force_no_diagonal, "force_no_diagonal", "no layer attends to its own position"),
    FLAG(M, keeps_unused_kv, "keeps_unused_kv",
         "layers that read other K/V store their own projections too"),
};

#define L struct raw_layer
static const struct slot layer_slots[] = {
    CHOICE(L, l.attn.mixer, "mixer", mixer_names, SLOT_ENUM, "how the layer attends"),
    NUMBER(L, l.attn.heads, "heads", "query heads"),
    NUMBER(L, l.attn.kv_heads, "kv_heads", "K/V heads; default: as many as heads"),
    NUMBER(L, l.attn.k_dim, "head_dim", "elements of a head; default: hidden_size / heads"),
    NUMBER(L, l.attn.v_dim, "v_head_dim", "elements of a value head; default: head_dim"),
    TOKENS(L, l.attn.window_tokens, "window", "tokens a sliding or chunked layer sees"),
    CHOICE(L, l.attn.qk_norm, "qk_norm", qk_norm_names, SLOT_ENUM,
           "norm of q and k: a head, or the full width"),
    FLAG(L, l.attn.output_gate, "output_gate",
         "the q projection is twice as wide (Qwen3-Next)"),
    FLAG(L, l.attn.head_gate, "head_gate", "a gate of hidden_size x heads"),
    FLAG(L, l.attn.sinks, "sinks", "one learned scalar a head (gpt-oss)"),
    FLAG(L, l.attn.k_eq_v, "k_eq_v", "one projection serves K and V (Gemma 4)"),
    NUMBER(L, l.ffn.intermediate, "intermediate_size", "width of the dense MLP"),
    CHOICE(L, l.ffn.gated, "mlp", mlp_names, SLOT_BOOL,
           "three matrices (gated) or two (plain)"),
    FLAG(L, l.ffn.bias, "mlp_bias", "biases in the dense MLP"),
    NUMBER(L, l.norms, "norms_per_layer", "block norms over hidden_size"),
    BIG(L, l.vector_params, "vector_params", "other small tensors of a layer"),
    BIG(L, l.matrix_params, "matrix_params", "other matrices of a layer, used once a token"),
};

static const struct slot mla_slots[] = {
    NUMBER(L, l.attn.q_lora_rank, "q_lora_rank", "rank of the query; 0 = a plain projection"),
    NUMBER(L, l.attn.kv_lora_rank, "kv_lora_rank", "width of the latent"),
    NUMBER(L, l.attn.nope_dim, "nope_dim", "dims of a head without RoPE"),
    NUMBER(L, l.attn.rope_dim, "rope_dim", "dims of a head with RoPE"),
    NUMBER(L, l.attn.v_dim, "v_dim", "dims of a value head"),
};

static const struct slot indexer_slots[] = {
    NUMBER(L, l.attn.index_heads, "heads", "heads of the indexer"),
    NUMBER(L, l.attn.index_dim, "dim", "width of its key"),
    NUMBER(L, l.attn.index_topk, "top_k", "tokens it selects"),
    FLAG(L, l.attn.index_shared, "shared", "uses the selection of a layer below"),
};

static const struct slot ssm_slots[] = {
    CHOICE(L, l.state.kind, "kind", state_names, SLOT_ENUM, "which recurrent mixer"),
    NUMBER(L, l.state.inner, "inner", "inner width (mamba1, gmu)"),
    NUMBER(L, l.state.heads, "heads", "heads (mamba2, kda, lightning, retention)"),
    NUMBER(L, l.state.head_dim, "head_dim", "elements of a head"),
    NUMBER(L, l.state.state_dim, "state_dim", "state size N (mamba)"),
    NUMBER(L, l.state.groups, "groups", "groups of B and C (mamba2)"),
    NUMBER(L, l.state.conv_kernel, "conv_kernel", "taps of the short convolution"),
    NUMBER(L, l.state.k_heads, "k_heads", "key heads (gdn)"),
    NUMBER(L, l.state.k_dim, "k_dim", "elements of a key head (gdn)"),
    NUMBER(L, l.state.v_heads, "v_heads", "value heads (gdn)"),
    NUMBER(L, l.state.v_dim, "v_dim", "elements of a value head (gdn)"),
    NUMBER(L, l.state.dt_rank, "dt_rank", "rank of dt (mamba1)"),
    FLAG(L, l.state.dtbc_norm, "dtbc_norm", "norms on dt, B and C (Jamba)"),
    FLAG(L, l.state.no_gate_norm, "no_gate_norm", "no gated norm (Falcon-H1)"),
    FLAG(L, l.state.fp32_state, "fp32_state", "the state is kept in fp32"),
};

static const struct slot moe_slots[] = {
    NUMBER(L, l.ffn.experts, "experts", "routed experts"),
    NUMBER(L, l.ffn.top_k, "top_k", "experts a token uses"),
    NUMBER(L, l.ffn.moe_intermediate, "intermediate_size", "width of one expert"),
    NUMBER(L, l.ffn.shared_intermediate, "shared_intermediate_size",
           "width of all shared experts together"),
    NUMBER(L, l.ffn.moe_latent, "latent", "routed experts work in a latent of this width"),
    FLAG(L, l.ffn.router_bias, "router_bias", "one bias an expert in the router"),
    FLAG(L, l.ffn.shared_gate, "shared_gate", "a gate on the shared expert"),
    FLAG(L, l.ffn.expert_bias, "expert_bias", "biases in the experts (gpt-oss)"),
    BIG(L, l.ffn.router_extra_params, "router_extra_params", "scales of the router (Gemma 4)"),
    FLAG(L, beside_dense, "beside_dense", "the dense MLP stands beside the experts"),
};

#define GROUP(v)                                                                               \
    {                                                                                          \
        (v), sizeof(v) / sizeof *(v)                                                           \
    }
static const struct {
    const struct slot *v;
    size_t n;
} groups[N_SLOT_GROUPS] = {
    [SLOTS_MODEL] = GROUP(model_slots), [SLOTS_LAYER] = GROUP(layer_slots),
    [SLOTS_MLA] = GROUP(mla_slots),     [SLOTS_INDEXER] = GROUP(indexer_slots),
    [SLOTS_SSM] = GROUP(ssm_slots),     [SLOTS_MOE] = GROUP(moe_slots),
};

const struct slot *slots_of(enum slot_group g, size_t *n)
{
    *n = groups[g].n;
    return groups[g].v;
}

const char *slots_key(enum slot_group g)
{
    static const char *const keys[N_SLOT_GROUPS] = {NULL, NULL, "mla", "indexer", "ssm", "moe"};

    return keys[g];
}

uint64_t slot_get(const struct slot *s, const void *base)
{
    const char *p = (const char *)base + s->at;
    uint64_t v = 0;
    uint32_t w = 0;
    bool b = false;

    assert(s->kind != SLOT_TEXT);
    switch (s->kind) {
    case SLOT_U32:
    case SLOT_ENUM: memcpy(&w, p, sizeof w); return w;
    case SLOT_U64: memcpy(&v, p, sizeof v); return v;
    case SLOT_BOOL: memcpy(&b, p, sizeof b); return b;
    case SLOT_TEXT: break;
    }
    return 0;
}

void slot_set(const struct slot *s, void *base, uint64_t v)
{
    char *p = (char *)base + s->at;
    uint32_t w = (uint32_t)v;
    bool b = v != 0;

    assert(s->kind != SLOT_TEXT);
    switch (s->kind) {
    case SLOT_U32:
    case SLOT_ENUM: memcpy(p, &w, sizeof w); return;
    case SLOT_U64: memcpy(p, &v, sizeof v); return;
    case SLOT_BOOL: memcpy(p, &b, sizeof b); return;
    case SLOT_TEXT: break;
    }
}

struct model inline_model(void)
{
    return (struct model){
        .family = "inline", .dtype = "bf16", .norm = NORM_RMS, .final_norms = 1};
}

struct raw_layer inline_layer(void)
{
    return (struct raw_layer){.l = {.ffn = {.gated = true}, .norms = 2}};
}

bool raw_has(const struct raw_layer *r, enum slot_group g)
{
    switch (g) {
    case SLOTS_MLA: return r->l.attn.kv_lora_rank > 0;
    case SLOTS_INDEXER: return r->l.attn.index_dim > 0;
    case SLOTS_SSM: return r->l.state.kind != STATE_NONE;
    case SLOTS_MOE: return r->l.ffn.experts > 0;
    case SLOTS_MODEL:
    case SLOTS_LAYER:
    case N_SLOT_GROUPS: break;
    }
    return true;
}

struct raw_layer raw_of(const struct layer *l)
{
    struct raw_layer r = {.l = *l};
    struct attention *a = &r.l.attn;

    a->kv_source = 0;
    r.beside_dense = l->ffn.experts > 0 && l->ffn.intermediate > 0;
    if (a->mixer == MIXER_LATENT)
        a->kv_heads = a->k_dim = 0;
    else if (a->v_dim == a->k_dim)
        a->v_dim = 0;
    return r;
}

static void settle_attention(struct attention *a, uint32_t hidden, uint32_t index)
{
    uint32_t source = a->kv_source;

    if (a->mixer == MIXER_NONE) {
        *a = (struct attention){.kv_source = index};
        return;
    }
    if (a->mixer == MIXER_LATENT) {
        a->kv_heads = a->heads;
        a->k_dim = a->nope_dim + a->rope_dim;
        a->window_tokens = 0;
    } else {
        a->q_lora_rank = a->kv_lora_rank = a->nope_dim = a->rope_dim = 0;
        a->kv_heads = a->kv_heads ? a->kv_heads : a->heads;
        if (a->k_dim == 0 && a->heads && hidden % a->heads == 0)
            a->k_dim = hidden / a->heads;
        a->v_dim = a->v_dim ? a->v_dim : a->k_dim;
    }
    if (a->mixer == MIXER_FULL)
        a->window_tokens = 0;
    if (!a->index_dim) {
        a->index_heads = a->index_topk = 0;
        a->index_shared = false;
    }
    a->kv_source = source;
}

void layer_settle(struct layer *l, uint32_t hidden, uint32_t index)
{
    struct ffn *f = &l->ffn;

    settle_attention(&l->attn, hidden, index);
    if (l->state.kind == STATE_NONE)
        l->state = (struct state){0};
    if (f->experts == 0)
        *f = (struct ffn){.intermediate = f->intermediate, .gated = f->gated, .bias = f->bias};
    if (f->intermediate == 0)
        f->bias = false;
    if (f->intermediate == 0 && f->experts == 0)
        f->gated = false;
    if (f->shared_intermediate == 0)
        f->shared_gate = false;
}

const char *bias_letters(const struct attention *a, char *buf)
{
    size_t n = 0;

    if (a->q_bias)
        buf[n++] = 'q';
    if (a->k_bias)
        buf[n++] = 'k';
    if (a->v_bias)
        buf[n++] = 'v';
    if (a->o_bias)
        buf[n++] = 'o';
    buf[n] = 0;
    return n ? buf : "none";
}

const char *mixer_name(enum mixer m)
{
    return mixer_names[m];
}

const char *state_kind_name(enum state_kind k)
{
    return state_names[k];
}

bool mixer_find(const char *name, enum mixer *out)
{
    for (size_t i = 0; mixer_names[i]; i++) {
        if (strcmp(mixer_names[i], name) == 0) {
            *out = (enum mixer)i;
            return true;
        }
    }
    return false;
}

bool raw_same(const struct raw_layer *a, const struct raw_layer *b)
{
    char x[5], y[5];

    if (strcmp(bias_letters(&a->l.attn, x), bias_letters(&b->l.attn, y)) != 0)
        return false;
    for (int g = SLOTS_LAYER; g < N_SLOT_GROUPS; g++) {
        size_t n;
        const struct slot *s = slots_of((enum slot_group)g, &n);

        for (size_t i = 0; i < n; i++) {
            if (slot_get(&s[i], a) != slot_get(&s[i], b))
                return false;
        }
    }
    return true;
}
