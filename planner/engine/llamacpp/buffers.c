/* Bytes of llama.cpp's buffers: K and V by layer and stream, fp32 states, and a lower bound on
 * the graph of one micro-batch. ggml's allocator packs the graph's tensors by lifetime; which
 * ones live together is counted here by part of a layer, each in fp32. */
#include <string.h>

#include "planner/engine/llamacpp/llamacpp.h"

enum { F32 = 4, MASK_FLASH = 2 };

static bool any_of(const char *word, const char *const *list)
{
    for (; word && *list; list++)
        if (!strcmp(word, *list))
            return true;
    return false;
}

bool lcpp_knows_windows(const struct model *m)
{
    static const char *const types[] = {
        "gemma2",  "gemma3",       "gemma3_text",  "gemma3n", "gemma3n_text",
        "gemma4",  "gemma4_text",  "gpt_oss",      "cohere2", "llama4",
        "exaone4", "llama4_text",  "olmo2",        "olmo3",   "mimo_v2_flash",
        "mimo_v2", "muse_glimmer", "smallthinker", "plamo3",  "afmoe",
        NULL,
    };

    return !m->model_type || any_of(m->model_type, types);
}

/* Graphs that compute Q, K and V in one product keep it beside Q. */
static bool fused_qkv(const struct model *m)
{
    static const char *const families[] = {"gpt_neox", "falcon", "bloom", "mpt",
                                           "gpt2",     "phi",    "dbrx",  NULL};

    return any_of(m->family, families);
}

void lcpp_adapt(struct layout *l)
{
    bool windows = lcpp_knows_windows(l->model);

    for (uint32_t i = 0; i < l->n_rows; i++) {
        struct cache_row *r = &l->rows[i];
        if (r->stream == STREAM_STATE)
            r->conv_elem_bytes = r->state_elem_bytes = F32;
        if (r->stream == STREAM_INDEX && i && l->rows[i - 1].layer == r->layer)
            r->k_format = l->rows[i - 1].k_format;
        if (!windows)
            r->store_window_tokens = 0;
    }
}

/* --- cache ----------------------------------------------------------------------------------
 */

static bool stores(const struct cache_row *r, uint32_t first, uint32_t last)
{
    return r->readers && r->layer >= first && r->layer < last && r->stream != STREAM_STATE;
}

static uint64_t v_width(const struct cache_row *r)
{
    return r->stream == STREAM_KV ? (uint64_t)r->stored_heads * r->v_dim : 0;
}

/* Without flash attention V is stored transposed, as wide as in the widest layer wherever the
 * widths differ. */
static uint64_t widest_v(const struct layout *l)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < l->n_rows; i++)
        if (l->rows[i].readers)
            most = u64_max(most, v_width(&l->rows[i]));
    return most;
}

static uint64_t v_bytes(const struct cache_row *r, const struct lcpp_context *c, uint64_t cells,
                        uint64_t widest, struct ck *ck)
{
    uint64_t width = v_width(r);

    if (r->stream == STREAM_LATENT && c->rules < LCPP_LATENT_ONLY)
        return format_bytes(&r->v_format, 0, cells, 1, r->k_dim - r->rope_dim, ck);
    if (width && !c->flash_attn && width != widest && widest <= UINT32_MAX)
        return format_bytes(&r->v_format, 0, cells, 1, (uint32_t)widest, ck);
    return format_bytes(&r->v_format, 0, cells, r->stored_heads, r->v_dim, ck);
}

struct lcpp_buffers lcpp_buffers_of(const struct layout *l, const struct lcpp_context *c,
                                    uint32_t first, uint32_t last, struct ck *ck)
{
    struct lcpp_buffers b = {0};
    uint64_t widest = widest_v(l);

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        if (r->stream == STREAM_STATE && r->layer >= first && r->layer < last) {
            uint64_t elems = ck_add(ck, r->conv_elems, r->state_elems);
            b.state_bytes = ck_add(ck, b.state_bytes, ck_prod(ck, elems, F32, c->n_seq));
        }
        if (!stores(r, first, last))
            continue;
        uint64_t cells = lcpp_cells(c, r->store_window_tokens, ck);
        uint64_t k = format_bytes(&r->k_format, 0, cells, r->stored_heads, r->k_dim, ck);
        uint64_t v = v_bytes(r, c, cells, widest, ck);
        b.k_bytes = ck_add(ck, b.k_bytes, ck_mul(ck, k, c->streams));
        b.v_bytes = ck_add(ck, b.v_bytes, ck_mul(ck, v, c->streams));
    }
    return b;
}

/* --- graph ----------------------------------------------------------------------------------
 */

/* The masks: one for each number of cells among the layers, tokens x cells, fp32; flash
 * attention reads fp16. */
static uint64_t mask_bytes(const struct layout *l, const struct lcpp_context *c, uint32_t first,
                           uint32_t last, struct ck *ck)
{
    bool full = false, window = false;
    uint64_t cells = 0;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        bool sliding = r->store_window_tokens != 0;
        if (!stores(r, first, last) || (sliding ? window : full))
            continue;
        window |= sliding;
        full |= !sliding;
        cells = ck_add(ck, cells, lcpp_cells(c, r->store_window_tokens, ck));
    }
    return ck_prod(ck, cells, c->n_ubatch, c->flash_attn ? MASK_FLASH : F32);
}

/* Residual stream, its norm, Q and the heads' output; the scores of all heads where they are
 * written out. A fused product stays beside Q. */
static uint64_t attention_elems(const struct layout *l, const struct lcpp_context *c,
                                const struct cache_row *r, struct ck *ck)
{
    uint64_t heads = r->q_heads, hidden = l->model->hidden;
    uint64_t q = heads * r->score_dim, out = heads * r->value_dim;
    uint64_t sum = ck_add(ck, 2 * hidden, ck_add(ck, q, out));

    if (fused_qkv(l->model))
        sum = ck_add(ck, sum, (uint64_t)r->kv_heads * ((uint64_t)r->k_dim + r->v_dim));
    if (!c->flash_attn) {
        uint64_t window = l->rows[r->source].store_window_tokens;
        sum = ck_add(ck, sum, ck_mul(ck, heads, lcpp_cells(c, window, ck)));
    }
    return ck_mul(ck, sum, c->n_ubatch);
}

/* Residual stream and its norm with gate and up, or with up and the experts' outputs. */
static uint64_t ffn_elems(const struct layout *l, const struct lcpp_context *c,
                          const struct ffn *f, struct ck *ck)
{
    uint64_t hidden = l->model->hidden, side = f->gated ? 2 : 1;
    uint64_t dense = side * ((uint64_t)f->intermediate + f->shared_intermediate), routed = 0;

    if (f->experts) {
        uint64_t up = ck_mul(ck, f->top_k, f->moe_intermediate);
        uint64_t down = ck_mul(ck, f->top_k, f->moe_latent ? f->moe_latent : hidden);
        routed = u64_max(ck_mul(ck, side, up), ck_add(ck, up, down));
    }
    return ck_mul(ck, ck_add(ck, 2 * hidden, u64_max(dense, routed)), c->n_ubatch);
}

/* Rows whose logits are computed: the whole micro-batch once, now one a sequence. */
static uint64_t head_elems(const struct layout *l, const struct lcpp_context *c, struct ck *ck)
{
    uint64_t rows = c->rules < LCPP_LATENT_ONLY ? c->n_ubatch : u64_min(c->n_ubatch, c->n_seq);
    uint64_t logits = ck_mul(ck, l->model->vocab, rows);

    return ck_add(ck, logits, ck_prod(ck, 2, l->model->hidden, c->n_ubatch));
}

uint64_t lcpp_compute_bytes(const struct layout *l, const struct lcpp_context *c,
                            uint32_t first, uint32_t last, bool samples, uint32_t copies,
                            struct ck *ck)
{
    uint64_t layers = 0, head = samples ? ck_mul(ck, head_elems(l, c, ck), F32) : 0;
    uint64_t inputs = ck_mul(ck, mask_bytes(l, c, first, last, ck), copies);

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        bool attends = r->stream == STREAM_KV || r->stream == STREAM_LATENT;
        if (attends && r->layer >= first && r->layer < last)
            layers = u64_max(layers, attention_elems(l, c, r, ck));
    }
    for (uint32_t i = first; i < last; i++)
        layers = u64_max(layers, ffn_elems(l, c, &l->layers[i].ffn, ck));
    return u64_max(ck_add(ck, ck_mul(ck, layers, F32), inputs), head);
}

uint64_t lcpp_output_bytes(const struct model *m, const struct lcpp_context *c, struct ck *ck)
{
    return ck_prod(ck, m->vocab, c->n_seq, F32);
}
