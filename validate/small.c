/* Cutting a model. Sizes of heads stay, since they choose the kernels; numbers of heads are
 * halved while the ranks of tensor parallelism still divide them; windows become short enough
 * to be left behind by a short prompt; of every kind of layer a few stay, and those that they
 * read. */
#include "validate/small.h"

#include <string.h>

enum {
    /* of the residual stream, and of an MLP on each rank: one group of weights, or one of
     * ggml's blocks */
    WIDTH = 128,
    WIDTH_BLOCKS = 256,
    VOCAB = 512,
    LAYERS = 4,
    WINDOW = 24,
    SELECTED = 32, /* by an indexer */
    EXPERTS = 8,
    TOP_K = 2,
    VECTOR = 256,
    ROWS = 32,       /* of matrices that the model gives as a number of parameters */
    INPUT = 16,      /* width of embeddings that every layer has for itself */
    INPUT_ROWS = 128 /* of the matrices of such layers at most */
};

static uint32_t at_most(uint64_t v, uint32_t most)
{
    return v < most ? (uint32_t)v : most;
}

/* v, halved to no less than `least` while it stays a multiple of `multiple`. */
static uint32_t halved(uint32_t v, uint32_t least, uint32_t multiple)
{
    while (v % 2 == 0 && v / 2 >= least && v / 2 % multiple == 0)
        v /= 2;
    return v;
}

/* The same for what ranks may hold copies of, being fewer than they are. */
static uint32_t halved_shared(uint32_t v, uint32_t least, uint32_t tp)
{
    return v % tp ? v : halved(v, least, tp);
}

static void cut_attention(struct attention *a, uint32_t tp)
{
    uint32_t group;

    if (a->mixer == MIXER_NONE)
        return;
    if (a->mixer == MIXER_LATENT) {
        bool alike = a->kv_heads == a->heads;
        a->heads = halved(a->heads, 4, tp);
        a->kv_heads = alike ? a->heads : a->kv_heads;
        a->q_lora_rank = at_most(a->q_lora_rank, WIDTH);
        a->index_heads = at_most(a->index_heads, 8);
        a->index_topk = at_most(a->index_topk, SELECTED);
        return;
    }
    group = a->heads / a->kv_heads;
    a->kv_heads = halved_shared(a->kv_heads, 2, tp);
    while (group % 2 == 0 && group > 4 && a->kv_heads * (group / 2) % tp == 0)
        group /= 2;
    a->heads = a->kv_heads * group;
    a->window_tokens = at_most(a->window_tokens, WINDOW);
}

static void cut_state(struct state *s, uint32_t tp)
{
    uint32_t ratio = s->groups ? s->heads / s->groups : 1;

    s->inner = at_most(s->inner, 2 * WIDTH * tp);
    s->dt_rank = at_most(s->dt_rank, WIDTH);
    if (s->kind == STATE_MAMBA2) {
        s->groups = halved_shared(s->groups, 2, tp);
        while (ratio % 2 == 0 && ratio > 4 && s->groups * (ratio / 2) % tp == 0)
            ratio /= 2;
        s->heads = s->groups * ratio;
    } else {
        s->heads = halved_shared(s->heads, 2, tp);
    }
    if (s->k_heads) {
        ratio = s->v_heads / s->k_heads;
        s->k_heads = halved_shared(s->k_heads, 2, tp);
        s->v_heads = ratio * s->k_heads;
    }
}

static void cut_ffn(struct ffn *f, uint32_t width, uint32_t tp, uint32_t hidden)
{
    bool scales = f->router_extra_params == (uint64_t)hidden + f->experts;

    f->intermediate = at_most(f->intermediate, width * tp);
    f->moe_intermediate = at_most(f->moe_intermediate, width * tp);
    f->shared_intermediate = at_most(f->shared_intermediate, width * tp);
    f->moe_latent = at_most(f->moe_latent, width);
    f->experts = at_most(f->experts, EXPERTS);
    f->top_k = at_most(f->top_k, TOP_K);
    f->router_extra_params =
        scales ? width + f->experts : at_most(f->router_extra_params, VECTOR);
}

/* Parameters of matrices over a stream of `hidden`: at most `rows` of one of `width`. */
static uint64_t cut_matrices(uint64_t params, uint32_t hidden, uint32_t rows, uint32_t width)
{
    return (uint64_t)at_most(params / hidden, rows) * width;
}

/* Embeddings that every layer has for itself: their tables, the projection to all of them and
 * its norm, for the layers that stay. */
static void cut_inputs(struct model *m)
{
    if (!m->embed_params_extra)
        return;
    m->vector_params_extra = INPUT;
    m->embed_params_extra = (uint64_t)VOCAB * m->n_layers * INPUT;
    m->matrix_params_extra += (uint64_t)m->n_layers * INPUT * m->hidden;
}

static void cut_widths(struct model *m, uint32_t width, uint32_t tp)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct layer *l = &m->layers[i];
        cut_attention(&l->attn, tp);
        cut_state(&l->state, tp);
        cut_ffn(&l->ffn, width, tp, m->hidden);
        l->vector_params = at_most(l->vector_params, VECTOR);
        l->matrix_params = cut_matrices(l->matrix_params, m->hidden,
                                        m->embed_params_extra ? INPUT_ROWS : ROWS, width);
    }
    m->matrix_params_extra = cut_matrices(m->matrix_params_extra, m->hidden, ROWS, width);
    m->vector_params_extra = at_most(m->vector_params_extra, VECTOR);
    m->embed_width = at_most(m->embed_width, WIDTH / 2);
    m->position_rows = at_most(m->position_rows, 8 * WIDTH);
    m->hidden = width;
    m->vocab = VOCAB;
    m->vision_params = 0;
    m->weights_bytes = 0;
    m->weights_measured = false;
}

/* Where a layer's queries read: their own layer, one below or one above. */
static int reads(const struct model *m, uint32_t layer)
{
    uint32_t source = m->layers[layer].attn.kv_source;

    return (source > layer) - (source < layer);
}

static bool same_kind(const struct model *m, uint32_t i, uint32_t k)
{
    struct layer a = m->layers[i], b = m->layers[k];

    a.attn.kv_source = b.attn.kv_source = 0;
    return reads(m, i) == reads(m, k) && !memcmp(&a, &b, sizeof a);
}

/* How many of the layers before it are like a layer. */
static uint32_t alike_before(const struct model *m, uint32_t layer)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < layer; i++)
        n += same_kind(m, i, layer);
    return n;
}

static uint32_t kinds_of(const struct model *m)
{
    uint32_t kinds = 0;

    for (uint32_t i = 0; i < m->n_layers; i++)
        kinds += !alike_before(m, i);
    return kinds;
}

/* The layers that stay: the first `most` of every kind, and those that they read. */
static void choose(const struct model *m, uint32_t most, bool *stays)
{
    for (uint32_t i = 0; i < m->n_layers; i++)
        stays[i] = alike_before(m, i) < most;
    for (uint32_t i = 0; i < m->n_layers; i++)
        if (stays[i] && m->layers[i].attn.mixer != MIXER_NONE)
            stays[m->layers[i].attn.kv_source] = true;
}

/* m with the layers that stay, numbered anew. A layer without attention reads nothing. */
static void drop_layers(struct arena *a, struct model *m, const bool *stays)
{
    uint32_t *number = ARENA_NEW(a, uint32_t, m->n_layers), n = 0;
    struct layer *out = ARENA_NEW(a, struct layer, m->n_layers);

    for (uint32_t i = 0; i < m->n_layers; i++) {
        number[i] = n;
        if (stays[i])
            out[n++] = m->layers[i];
    }
    for (uint32_t i = 0, k = 0; i < m->n_layers; i++)
        if (stays[i]) {
            struct attention *t = &out[k].attn;
            t->kv_source = t->mixer == MIXER_NONE ? k : number[t->kv_source];
            k++;
        }
    m->layers = out;
    m->n_layers = n;
}

static uint32_t width_of(const struct problem *p)
{
    const struct quant *q = &p->model.quant;
    const struct weight_format *formats[] = {p->weight_format, q->format, q->embed, q->head};

    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i] && formats[i]->block_elems > WIDTH)
            return WIDTH_BLOCKS;
    return WIDTH;
}

/* Twins of ever more layers: schemes may name layers that the first ones lack. */
bool small_problem(struct arena *a, const struct problem *p, struct problem *out,
                   const char **what)
{
    struct model all = p->model, few;
    bool *stays = ARENA_NEW(a, bool, all.n_layers);
    uint32_t most;

    all.layers = ARENA_NEW(a, struct layer, all.n_layers);
    memcpy(all.layers, p->model.layers, all.n_layers * sizeof *all.layers);
    cut_widths(&all, width_of(p), p->parallel.tp);
    most = kinds_of(&all) < LAYERS / 2 ? LAYERS : LAYERS / 2;
    for (few.n_layers = 0; few.n_layers < all.n_layers; most *= 2) {
        few = all;
        choose(&all, most, stays);
        drop_layers(a, &few, stays);
        cut_inputs(&few);
        *what = arena_printf(a, "cut to %u of %u layers, %u wide", few.n_layers, all.n_layers,
                             few.hidden);
        if (problem_with_model(a, p, &few, diag_new(a), out))
            return true;
    }
    return false;
}
