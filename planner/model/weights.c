/* Sums over the tensor table: parameter counts, bytes on one rank, and which format a tensor is
 * stored in. The tensors themselves are listed in weights_layer.c. */
#include "planner/model/weights.h"

#include <string.h>

static uint64_t numel(const struct tensor *t, struct ck *ck)
{
    return ck_mul(ck, t->out, t->in);
}

/* Gathers: no product, though one token does touch a row of them. */
static bool is_gather(const struct tensor *t)
{
    return t->part == PART_EMBED || t->part == PART_POSITION;
}

static void add_counts(struct param_count *c, const struct tensor *t, struct ck *ck)
{
    uint64_t one = numel(t, ck);
    uint64_t all = ck_mul(ck, one, t->copies), used = ck_mul(ck, one, t->active);

    if (!t->tied) {
        c->total = ck_add(ck, c->total, all);
        c->by_part[t->part] = ck_add(ck, c->by_part[t->part], all);
    }
    if (t->part == PART_VISION)
        return;
    if (is_gather(t))
        used = all;
    else
        c->matmul = ck_add(ck, c->matmul, used);
    if (!t->tied)
        c->active = ck_add(ck, c->active, used);
}

void weights_count(const struct model *m, const bool *owns_kv, struct param_count *out,
                   struct ck *ck)
{
    struct tensor t[LAYER_TENSORS_MAX];

    *out = (struct param_count){0};
    for (uint32_t i = 0; i < m->n_layers; i++) {
        bool owns = owns_kv ? owns_kv[i] : m->layers[i].attn.kv_source == i;
        size_t n = weights_layer(m, &m->layers[i], owns, t);

        for (size_t k = 0; k < n; k++)
            add_counts(out, &t[k], ck);
    }
    size_t n = weights_outside(m, t);
    for (size_t k = 0; k < n; k++)
        add_counts(out, &t[k], ck);
}

/* The part of a tensor the fullest rank holds. */
static struct tensor cut(const struct tensor *t, struct shard s)
{
    struct tensor r = *t;
    enum split split = t->split;

    if (split == SPLIT_EXPERT) {
        if (s.ep > 1) {
            r.copies = ck_ceil_div(r.copies, s.ep);
            return r;
        }
        split = t->by_columns ? (t->vector ? SPLIT_NONE : SPLIT_IN) : SPLIT_OUT;
    }
    switch (split) {
    case SPLIT_NONE:
    case SPLIT_EXPERT: break;
    case SPLIT_OUT:
    case SPLIT_VOCAB: r.out = ck_ceil_div(r.out, s.tp); break;
    case SPLIT_IN: r.in = ck_ceil_div(r.in, s.tp); break;
    case SPLIT_KV: {
        uint64_t heads = s.kv_heads ? s.kv_heads : 1;
        r.out = ck_ceil_div(r.out, heads) * ck_ceil_div(heads, s.tp);
        break;
    }
    }
    return r;
}

/* Scale tiles along one side; UINT32_MAX stands for the whole side. */
static uint64_t tiles(uint64_t side, uint32_t tile)
{
    return tile == UINT32_MAX ? 1 : ck_ceil_div(side, tile);
}

uint64_t weights_tensor_bytes(const struct tensor *t, const struct weight_format *f,
                              struct shard s, struct ck *ck)
{
    struct tensor r = cut(t, s);
    uint64_t bytes;

    if (t->tied)
        return 0;
    if (r.vector)
        return ck_prod(ck, numel(&r, ck), f->block_bytes, r.copies);
    bytes = ck_prod(ck, ck_ceil_div(r.in, f->block_elems), f->block_bytes, r.out);
    if (f->scale_rows) {
        uint64_t n = ck_mul(ck, tiles(r.out, f->scale_rows), tiles(r.in, f->scale_cols));

        bytes = ck_add(ck, bytes, ck_mul(ck, n, f->scale_bytes));
        bytes = ck_add(ck, bytes, ck_ceil_div(ck_mul(ck, n, f->zero_bits), 8));
    }
    bytes = ck_add(ck, bytes, ck_mul(ck, r.in, f->input_bytes));
    return ck_mul(ck, bytes, r.copies);
}

/* Without a quantized checkpoint, the matrices a quantizer touches: embeddings, head and router
 * stay as they are. */
enum {
    PARTS_DEFAULT = 1u << PART_Q | 1u << PART_K | 1u << PART_V | 1u << PART_O |
                    1u << PART_LATENT | 1u << PART_INDEXER | 1u << PART_STATE | 1u << PART_MLP |
                    1u << PART_EXPERT | 1u << PART_SHARED
};

bool weights_format_plain(const struct weight_format *f)
{
    return f->block_elems == 1 && f->scale_rows == 0 && f->block_bytes >= 2;
}

const struct weight_format *weights_format_of(const struct model *m, const struct tensor *t,
                                              int layer, const struct weight_format *asked)
{
    const struct weight_format *base = weight_format_find(m->dtype ? m->dtype : "bf16");
    const struct quant *q = &m->quant;
    uint32_t parts = q->format ? q->parts : PARTS_DEFAULT;

    if (!base)
        base = weight_format_find("bf16");
    if (asked && weights_format_plain(asked))
        return asked;
    if (!asked && !t->vector && t->part == PART_EMBED && q->embed)
        return q->embed;
    if (!asked && !t->vector && t->part == PART_HEAD && q->head)
        return q->head;
    if (t->vector || t->plain || (!asked && !q->format))
        return base;
    if (q->format && layer >= 0 && q->layer_parts)
        parts = q->layer_parts[layer];
    if (!(parts >> t->part & 1u))
        return base;
    return asked ? asked : q->format;
}

const char *part_name(enum part p)
{
    static const char *const names[N_PARTS] = {
        "embed", "position", "head",   "q",      "k",      "v",    "o",     "latent", "indexer",
        "state", "mlp",      "router", "expert", "shared", "norm", "other", "vision"};

    return p < N_PARTS ? names[p] : "?";
}
